import pytest
import torch
from rbf_points import RBFNet, kernel_activity, nearest_points
from rbf_points import radial_features as features
from rbf_points.backbone import neighbor_distances, uniform_in_ball
from rbf_points.kernels import nearest_squares
from torch.utils._python_dispatch import TorchDispatchMode

from mmcompress.registry import MODELS

BOTH = ['gaussian', 'inverse_multiquadric']
both = pytest.mark.parametrize('kernel', BOTH)


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def case(num_clouds=3, num_points=11, num_kernels=7, num_scales=2):
    """Points, centres and logarithms of widths."""
    return (random(num_clouds, 3, num_points), random(num_kernels, 3, seed=1),
            0.3 * random(num_kernels, num_scales, seed=2))


def brute_force(points, centers, log_widths, kernel):
    """The definition: each kernel at each point, then the maximum."""
    rows = []
    for cloud in points:
        row = []
        for center, logs in zip(centers, log_widths):
            for width in logs.exp():
                squares = [((x - center)**2).sum() for x in cloud.T]
                if kernel == 'gaussian':
                    values = [(-d / (2 * width**2)).exp() for d in squares]
                else:
                    values = [1 / (1 + d / width**2).sqrt() for d in squares]
                row.append(max(values))
        rows.append(torch.stack(row))
    return torch.stack(rows)


# ---- The features ----------------------------------------------------------


@both
def test_equals_the_definition_with_all_gradients(kernel):
    inputs = [x.requires_grad_() for x in case()]
    found = features(*inputs, kernel)
    expected = brute_force(*inputs, kernel)
    assert found.shape == (3, 7 * 2)
    torch.testing.assert_close(found, expected)
    weight = random(*found.shape, seed=3)
    for ours, theirs in zip(
            torch.autograd.grad((found * weight).sum(), inputs),
            torch.autograd.grad((expected * weight).sum(), inputs)):
        assert ours.abs().max() > 0
        torch.testing.assert_close(ours, theirs)


@both
def test_gradients_are_the_derivatives(kernel):
    inputs = [x.requires_grad_() for x in case(2, 5, 4)]
    assert torch.autograd.gradcheck(lambda *x: features(*x, kernel), inputs)


@both
def test_order_and_repetition_of_points_change_nothing(kernel):
    points, *kernels = case(num_points=20)
    found = features(points, *kernels, kernel)
    order = torch.randperm(20)
    assert torch.equal(features(points[..., order], *kernels, kernel), found)
    repeated = torch.cat([points, points[..., :9], points[..., :4]], -1)
    assert torch.equal(features(repeated, *kernels, kernel), found)


@both
def test_inference_equals_what_was_trained(kernel):
    inputs = [x.float() for x in case(4, 50, 30)]
    inputs[0][:, :, 3] = inputs[1][2]
    expected = features(*inputs, kernel)
    with torch.no_grad():
        found = features(*inputs, kernel, max_pairs=600)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-30)
    assert torch.equal(found.view(4, 30, 2)[:, 2], torch.ones(4, 2))
    assert found.dtype == torch.float32


def test_no_squared_distance_is_negative():
    """Rounded, the products alone give some of the zeros a sign."""
    centers = 1000 + random(500, 3)
    squares = nearest_squares(centers.T[None], centers)
    assert (squares >= 0).all() and squares.max() < 1e-8


def test_another_point_can_only_raise_a_feature():
    points, *kernels = case(num_points=20)
    fewer = features(points[..., :12], *kernels)
    more = features(points, *kernels)
    assert (more >= fewer).all() and (more > fewer).any()


@both
def test_a_point_at_the_centre_gives_1_and_a_gradient_of_zero(kernel):
    points, centers, log_widths = (x.float() for x in case())
    points[:, :, 3] = centers[2]
    inputs = [x.requires_grad_() for x in (points, centers, log_widths)]
    values = features(*inputs, kernel).view(3, 7, 2)[:, 2]
    assert torch.equal(values, torch.ones(3, 2))
    for gradient in torch.autograd.grad(values.sum(), inputs):
        assert gradient.isfinite().all() and not gradient.any()


@both
@pytest.mark.parametrize('distance', [1e2, 1e6, 1e18, 1e25])
def test_gradients_of_far_points_are_finite(kernel, distance):
    inputs = [x.float() for x in case()]
    inputs[0] += distance
    inputs = [x.requires_grad_() for x in inputs]
    values = features(*inputs, kernel)
    assert (values >= 0).all() and values.max() < 0.1
    for gradient in torch.autograd.grad(values.sum(), inputs):
        assert gradient.isfinite().all()


def test_a_gaussian_far_away_gets_no_gradient_a_multiquadric_does():
    reached = {}
    for kernel in BOTH:
        inputs = [x.float() for x in case()]
        inputs[0] += 100
        inputs[1].requires_grad_()
        features(*inputs, kernel).sum().backward()
        reached[kernel] = bool(inputs[1].grad.any())
    assert reached == dict(gaussian=False, inverse_multiquadric=True)


@pytest.mark.parametrize('grad', [True, False], ids=['train', 'infer'])
@pytest.mark.parametrize('offset', [0, 1000])
def test_float32_is_exact_wherever_the_clouds_are(offset, grad):
    points, centers, log_widths = case(4, 200, 50)
    # float32 holds these without rounding
    points, centers = (
        torch.round(1024 * x) / 1024 + offset for x in (points, centers))
    widths = log_widths - 3
    with torch.set_grad_enabled(grad):
        found = features(points.float(), centers.float(), widths.float())
    squares = torch.cdist(
        points.mT, centers,
        compute_mode='donot_use_mm_for_euclid_dist').amin(1).square()
    expected = torch.exp(-squares[..., None] / (2 * (2 * widths).exp()))
    torch.testing.assert_close(
        found.double(), expected.flatten(1), rtol=1e-4, atol=1e-12)


def test_faster_products_do_not_change_the_distances():
    inputs = [x.float() for x in case(32, 256, 200)]
    expected = features(*inputs)
    torch.set_float32_matmul_precision('medium')
    try:
        assert torch.equal(features(*inputs), expected)
    finally:
        torch.set_float32_matmul_precision('highest')


class _LargestTensor(TorchDispatchMode):
    """The most elements that an operator returns."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, (tuple, list)) else [result]
        self.most = max([
            self.most,
            *(t.numel() for t in tensors if isinstance(t, torch.Tensor))
        ])
        return result


def test_pairs_are_compared_some_at_a_time():
    points, centers, log_widths = case(2, 50, 300, 1)
    whole = features(points, centers, log_widths, max_pairs=10**9)
    inputs = [x.requires_grad_() for x in (points, centers, log_widths)]
    with _LargestTensor() as watch:
        parts = features(*inputs, max_pairs=1100)
        parts.sum().backward()
    # 11 centres at a time; and three coordinates per centre and cloud
    assert watch.most == 2 * 300 * 3
    assert torch.equal(parts, whole)
    # less than the points of one centre
    assert torch.equal(
        features(points, centers, log_widths, max_pairs=1), whole)
    with _LargestTensor() as watch:
        nearest_points(points, centers, 1100)
    assert watch.most <= 300 * 4


# ---- The backbone ----------------------------------------------------------


def small(**kwargs):
    torch.manual_seed(0)
    return RBFNet(**{'num_kernels': 20, **kwargs})


def test_centres_start_uniformly_in_the_ball():
    torch.manual_seed(0)
    centers = uniform_in_ball(4000)
    radius = centers.norm(dim=1)
    assert radius.max() <= 1
    # the share within a radius is its third power
    for r in (0.3, 0.5, 0.8):
        assert (radius < r).float().mean() == pytest.approx(r**3, abs=0.03)
    assert centers.mean(0).abs().max() < 0.05


def test_widths_start_as_the_mean_distance_of_neighbours():
    line = torch.tensor([0., 1, 3, 10])[:, None] * torch.tensor([[0., 1, 0]])
    assert neighbor_distances(line, 2).tolist() == [2, 1.5, 2.5, 8]
    net = small(scales=(0.5, 2), num_neighbors=3)
    expected = neighbor_distances(net.centers.detach(), 3)
    torch.testing.assert_close(net.widths.detach(),
                               expected[:, None] * torch.tensor([0.5, 2]))


def test_widths_stay_positive_whatever_the_step():
    net = small()
    before = net.widths.detach()
    net(torch.randn(4, 3, 30))[0].sum().backward()
    torch.optim.SGD(net.parameters(), lr=10).step()
    # a step that would have made most of the widths themselves negative
    step = 10 * net.log_widths.grad / before
    assert (step > before).double().mean() > 0.5
    assert (net.widths > 0).all()


@both
def test_is_a_backbone_of_the_registry(kernel):
    net = MODELS.build(
        dict(
            type='mmcompress.RBFNet',
            num_kernels=12,
            kernel=kernel,
            scales=(1, 2, 4)))
    for num_points in (1, 30):
        output, = net(torch.randn(2, 3, num_points))
        assert output.shape == (2, 36) == (2, net.out_channels)
    output.sum().backward()
    assert all(p.grad.any() for p in net.parameters())
    assert kernel in repr(net)


def test_no_cloud_has_features_and_a_gradient_path():
    output, = small()(torch.zeros(0, 3, 5))
    assert output.shape == (0, 20)
    output.sum().backward()


def test_half_precision_computes_in_float32():
    net, points = small(), torch.randn(2, 3, 30).half()
    expected, = net(points.float())
    with torch.autocast('cpu', torch.bfloat16):
        output, = net(points)
    assert torch.equal(output, expected)
    net.half()
    output, = net(points)
    assert output.dtype == torch.half
    expected, = net.float()(points.float())
    assert torch.equal(output, expected.half())


def test_not_a_number_is_not_hidden():
    points = torch.randn(2, 3, 30)
    points[1, 0, 7] = float('nan')
    output, = small()(points)
    assert output[0].isfinite().all() and output[1].isnan().all()


@pytest.mark.parametrize('kwargs, message', [
    (dict(kernel='cubic'), "'gaussian', 'inverse_multiquadric'.*'cubic'"),
    (dict(scales=()), 'scales'),
    (dict(scales=(1, -2)), r'scales.*\(1, -2\)'),
    (dict(scales=(1, float('nan'))), r'scales.*\(1, nan\)'),
    (dict(num_kernels=6), 'num_kernels=6 must be more than num_neighbors=6'),
    (dict(num_neighbors=0), 'num_neighbors and max_pairs'),
    (dict(max_pairs=0), 'num_neighbors and max_pairs'),
])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(**kwargs)


@pytest.mark.parametrize('shape', [(2, 30, 3), (2, 3, 0), (3, 30)])
def test_what_is_no_cloud_is_named(shape):
    with pytest.raises(ValueError) as error:
        small()(torch.zeros(shape))
    assert str(shape) in str(error.value)


# ---- Dead kernels ----------------------------------------------------------


def test_activity_finds_what_no_cloud_reaches_and_what_never_changes():
    net = small(scales=(1, 1))
    with torch.no_grad():
        net.centers[:2] = 0
        # one far away, one that is wide; the other width as it was
        net.centers[0] = 50
        net.log_widths[1, 1] = 5
    clouds = torch.nn.functional.normalize(torch.randn(40, 3, 60), dim=1)
    activity = kernel_activity(net, clouds.split(16))
    with torch.no_grad():
        output = net(clouds)[0].view(40, 20, 2)
    assert torch.equal(activity.largest, output.amax(0))
    assert torch.equal(activity.smallest, output.amin(0))
    assert activity.dead[0].all() and not activity.dead[1:].any()
    assert activity.constant[0].all() and activity.constant[1, 1]
    assert not activity.constant[2:].any()


def test_activity_wants_a_cloud():
    with pytest.raises(ValueError, match='one cloud'):
        kernel_activity(small(), [torch.zeros(0, 3, 5)])
