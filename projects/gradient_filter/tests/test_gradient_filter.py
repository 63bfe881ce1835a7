"""The function and the layer."""
import itertools
from statistics import median

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from golden import assert_golden, golden
from gradient_filter import GradientFilterConv2d, gradient_filter_conv2d
from mmengine.registry import MODELS, DefaultScope

from mmcompress.analysis.timing import interleaved


def tensors(size, weight_size, **options):
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(*shape, generator=generator,
                    dtype=torch.double).requires_grad_()
        for shape in (size, weight_size))
    y = gradient_filter_conv2d(x, weight, **options)
    grad = torch.randn(*y.shape, generator=generator, dtype=torch.double)
    return x, weight, y, grad


def patches(in_size, out_size, stride, patch):
    """Patch of each input and of each output along an axis."""
    num = -(-out_size // patch)
    a = -((out_size - num * patch) // 2)
    b = max(-((in_size - num * patch * stride) // 2), 0)
    return ([(m + b) // (patch * stride) for m in range(in_size)],
            [(i + a) // patch for i in range(out_size)], num)


def written_out(x, weight, grad, stride, dilation, groups, patch):
    """The gradients, position by position."""
    (in_h, out_h, num_h), (in_w, out_w, num_w) = (
        patches(x.shape[i], grad.shape[i], stride[i - 2], patch)
        for i in (2, 3))
    n, channels, num_out = len(x), x.shape[1], grad.shape[1]
    means = torch.zeros(n, num_out, num_h, num_w, dtype=x.dtype)
    for p, q in itertools.product(range(num_h), range(num_w)):
        rows = [i for i, patch_ in enumerate(out_h) if patch_ == p]
        cols = [j for j, patch_ in enumerate(out_w) if patch_ == q]
        means[:, :, p, q] = grad[:, :, rows][..., cols].mean((2, 3))
    z = torch.zeros(n, channels, num_h, num_w, dtype=x.dtype)
    shift = [0, 0]
    if dilation[0] > 1 and dilation[0] >= patch:
        shift = [d // patch for d in dilation]
    for o, i, u, v in itertools.product(*map(range, weight.shape)):
        c = i if groups == 1 else o
        for p, q in itertools.product(range(num_h), range(num_w)):
            there = p - (u - 1) * shift[0], q - (v - 1) * shift[1]
            if 0 <= there[0] < num_h and 0 <= there[1] < num_w:
                z[:, c, p, q] += weight[o, i, u, v] * means[:, o, *there]
    sums, grad_x = torch.zeros_like(z), torch.zeros_like(x)
    for row, col in itertools.product(range(len(in_h)), range(len(in_w))):
        p, q = in_h[row], in_w[col]
        if p < num_h and q < num_w:
            sums[:, :, p, q] += x[:, :, row, col]
            grad_x[:, :, row, col] = z[:, :, p, q]
    grad_weight = torch.zeros_like(weight)
    for o, i in itertools.product(*map(range, weight.shape[:2])):
        c = i if groups == 1 else o
        grad_weight[o, i] = (means[:, o] * sums[:, c]).sum()
    return grad_x, grad_weight


@golden('gradient_filter')
def test_matches_the_official_numbers(case):
    assert_golden(case)


@pytest.mark.parametrize(
    'size, kernel, stride, padding, dilation, groups, patch',
    [
        ((5, 7), (3, 3), (1, 1), (1, 1), (1, 1), 1, 2),
        ((6, 5), (3, 3), (1, 1), 'same', (1, 1), 1, 4),
        ((3, 3), (3, 3), (1, 1), (1, 1), (1, 1), 1, 7),
        ((9, 6), (3, 3), (2, 2), (1, 1), (1, 1), 1, 3),
        ((7, 8), (3, 5), (2, 1), (1, 2), (1, 1), 1, 2),
        ((6, 7), (1, 1), (2, 2), (0, 0), (1, 1), 1, 2),
        ((6, 6), (5, 5), (1, 1), (2, 2), (1, 1), 2, 2),
        ((6, 5), (3, 3), (1, 1), (2, 2), (2, 2), 1, 3),
        ((6, 5), (3, 3), (1, 1), (2, 2), (2, 2), 1, 2),
        ((8, 9), (3, 3), (1, 1), (5, 5), (5, 5), 1, 2),
        ((8, 9), (3, 3), (1, 1), (4, 1), (4, 1), 2, 2),
        ((7, 6), (3, 3), (1, 1), (3, 3), (3, 3), 2, 1),
        ((7, 6), (3, 3), (1, 1), (1, 4), (1, 4), 1, 2),
        # the last pixels are where the kernel never comes
        ((11, 9), (4, 4), (4, 4), (0, 0), (1, 1), 1, 1),
        ((5, 5), (2, 2), (1, 1), (1, 1), (1, 1), 1, 3),
        # more padding than a pooling takes
        ((4, 4), (1, 1), (1, 1), (3, 3), (1, 1), 1, 2),
    ])
def test_equals_the_definition_position_by_position(size, kernel, stride,
                                                    padding, dilation, groups,
                                                    patch):
    shape = (2, 2 // groups, *kernel)
    x, weight, y, grad = tensors((2, 2, *size), shape, stride=stride,
                                 padding=padding, dilation=dilation,
                                 groups=groups, patch=patch,
                                 stride_correction=False)  # yapf: disable
    y.backward(grad)
    expected = written_out(x.detach(), weight.detach(), grad, stride, dilation,
                           groups, patch)
    torch.testing.assert_close(x.grad, expected[0])
    torch.testing.assert_close(weight.grad, expected[1])


def layers(*args, **kwargs):
    """A filtering layer, and an ordinary one with the same weights."""
    torch.manual_seed(0)
    patch = kwargs.pop('patch', 2)
    layer = GradientFilterConv2d(*args, patch=patch, **kwargs)
    ordinary = nn.Conv2d(*args, **kwargs)
    ordinary.load_state_dict(layer.state_dict())
    return layer, ordinary


@pytest.mark.parametrize('options', [
    dict(padding=1),
    dict(padding=1, stride=2, bias=False),
    dict(padding=4, dilation=4),
    dict(padding=1, groups=4)
])
def test_the_output_is_that_of_an_ordinary_layer(options):
    layer, ordinary = layers(4, 4, 3, **options)
    x = torch.randn(2, 4, 9, 10)
    assert torch.equal(layer(x), ordinary(x))
    with torch.no_grad():
        assert torch.equal(layer(x), ordinary(x))


def test_a_traced_layer_is_an_ordinary_one():
    layer, ordinary = layers(4, 4, 3, padding=1)
    x = torch.randn(2, 4, 9, 10)
    traced = torch.jit.trace(layer, x)
    # what counts operations knows this one
    assert 'aten::_convolution' in str(traced.graph)
    assert torch.equal(traced(x), ordinary(x))


def test_a_1x1_kernel_and_patches_of_1_give_the_exact_gradient():
    layer, ordinary = layers(3, 5, 1, patch=1)
    x = torch.randn(2, 3, 6, 7)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    for one, leaf in zip((layer, ordinary), inputs):
        one(leaf).square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(layer.weight.grad, ordinary.weight.grad)
    torch.testing.assert_close(layer.bias.grad, ordinary.bias.grad)


def test_the_gradient_is_not_the_derivative():
    x, weight, _, _ = tensors((1, 2, 4, 4), (2, 2, 3, 3), padding=(1, 1))
    with pytest.raises(RuntimeError, match='Jacobian mismatch'):
        torch.autograd.gradcheck(
            lambda *args: gradient_filter_conv2d(*args, padding=(1, 1)),
            (x, weight))


@pytest.mark.parametrize('dilation', [1, 4])
def test_all_taps_of_a_kernel_have_one_gradient(dilation):
    _, weight, y, grad = tensors((2, 3, 8, 8), (4, 3, 3, 3),
                                 padding=(dilation, ) * 2,
                                 dilation=(dilation, ) * 2)
    y.backward(grad)
    assert torch.equal(weight.grad,
                       weight.grad[:, :, :1, :1].expand(-1, -1, 3, 3))
    assert weight.grad.any()


def test_is_linear_in_the_gradient_of_the_output():
    x, weight, y, grad = tensors((2, 3, 8, 6), (4, 3, 3, 3), padding=(1, 1))
    other = torch.randn_like(grad)

    def back(upstream):
        return torch.autograd.grad(y, [x, weight], upstream, retain_graph=True)

    for total, a, b in zip(back(2 * grad - other), back(grad), back(other)):
        torch.testing.assert_close(total, 2 * a - b)


def test_keeps_the_mean_of_the_gradient():
    x, weight, y, grad = tensors((2, 3, 8, 8), (4, 3, 3, 3), padding=(1, 1))
    y.backward(grad)
    torch.testing.assert_close(
        x.grad.sum((2, 3)),
        grad.sum((2, 3)) @ weight.detach().sum((2, 3)))


def test_with_a_stride_it_has_the_size_of_the_exact_gradient():
    sizes = {}
    for corrected in (True, False):
        x = torch.ones(1, 1, 32, 32, requires_grad=True)
        weight = torch.ones(1, 1, 3, 3, requires_grad=True)
        gradient_filter_conv2d(
            x, weight, None, (2, 2), (1, 1),
            stride_correction=corrected).sum().backward()
        sizes[corrected] = weight.grad, x.grad.mean()
        x.grad = weight.grad = None
        F.conv2d(x, weight, None, 2, 1).sum().backward()
        sizes['exact'] = weight.grad, x.grad[..., 2:-2, 2:-2].mean()
    for i in range(2):
        torch.testing.assert_close(sizes[True][i], sizes['exact'][i],
                                   rtol=0.2, atol=0)  # yapf: disable
        torch.testing.assert_close(sizes[False][i], 4 * sizes[True][i])


def kept(function):
    """Elements that a forward keeps for the backward pass."""
    counts = []

    def pack(tensor):
        counts.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = function()
    del result
    return sum(counts)


@pytest.mark.parametrize('stride, patch', [(1, 2), (1, 4), (2, 4)])
def test_keeps_sums_of_patches_and_of_taps(stride, patch):
    layer, _ = layers(8, 6, 3, padding=1, stride=stride, patch=patch)
    x = torch.randn(2, 8, 32, 32, requires_grad=True)
    assert kept(lambda: layer(x)) == x.numel() / (patch * stride)**2 + 8 * 6
    # the image, of which no gradient is wanted
    assert kept(lambda: layer(x.detach())) == x.numel() / (patch * stride)**2
    layer.weight.requires_grad_(False)
    assert kept(lambda: layer(x)) == 8 * 6
    layer.bias.requires_grad_(False)
    assert kept(lambda: layer(x.detach())) == 0


def test_computes_no_gradient_that_nobody_wants():
    x, weight, _, grad = tensors((2, 3, 6, 6), (4, 3, 3, 3), padding=(1, 1))
    options = dict(padding=(1, 1))
    both = torch.autograd.grad(
        gradient_filter_conv2d(x, weight, **options), [x, weight], grad)
    only_x, = torch.autograd.grad(
        gradient_filter_conv2d(x, weight.detach(), **options), x, grad)
    only_weight, = torch.autograd.grad(
        gradient_filter_conv2d(x.detach(), weight, **options), weight, grad)
    assert torch.equal(only_x, both[0]) and torch.equal(only_weight, both[1])
    bias = torch.zeros(4, dtype=torch.double, requires_grad=True)
    y = gradient_filter_conv2d(x.detach(), weight.detach(), bias, **options)
    y.backward(grad)
    torch.testing.assert_close(bias.grad, grad.sum((0, 2, 3)))


def test_a_second_derivative_is_refused():
    x, weight, y, grad = tensors((1, 2, 4, 4), (2, 2, 3, 3), padding=(1, 1))
    first, = torch.autograd.grad(y, x, grad.requires_grad_(),
                                 create_graph=True)  # yapf: disable
    with pytest.raises(RuntimeError, match='once_differentiable'):
        first.sum().backward()


@pytest.mark.parametrize('inside', [True, False])
def test_autocast(inside):
    layer, _ = layers(8, 8, 3, padding=1)
    x = torch.randn(2, 8, 8, 8, requires_grad=True)
    grads = {}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
            y = layer(x)
            assert y.dtype == dtype
            loss = y.float().square().mean()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        assert x.grad.dtype == layer.weight.grad.dtype == torch.float32
        assert layer.bias.grad.dtype == torch.float32
        grads[dtype] = x.grad, layer.weight.grad
        x.grad = layer.weight.grad = layer.bias.grad = None
    for full, low in zip(*grads.values()):
        assert (full - low).norm() < 0.02 * full.norm()


def test_autocast_keeps_half_precision():
    layer, _ = layers(8, 8, 3, padding=1)
    x = torch.randn(2, 8, 8, 8, requires_grad=True)
    dtypes = []
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: dtypes.append(t.dtype) or t, lambda t: t):
        with torch.autocast('cpu', torch.bfloat16):
            layer(x)
    assert sorted(map(str, dtypes)) == ['torch.bfloat16', 'torch.float32']


def test_sums_of_patches_do_not_overflow_in_half_precision():
    # their sum is 256,000, and 65,504 is the largest number
    x = torch.full((1, 1, 16, 16), 1000.0, dtype=torch.half)
    weight = torch.ones(1, 1, 3, 3, dtype=torch.half, requires_grad=True)
    y = gradient_filter_conv2d(x, weight, padding=(1, 1), patch=16)
    y.backward(torch.full_like(y, 1 / 256))
    torch.testing.assert_close(weight.grad, torch.full_like(weight, 1000.0))


def test_no_image():
    layer, _ = layers(2, 3, 3, padding=1)
    x = torch.zeros(0, 2, 6, 6, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == x.shape and not layer.weight.grad.any()


@pytest.mark.parametrize('args, options, message', [
    ((4, 8, 3), dict(padding=1, groups=2), 'groups=2 of 4 channels in and 8'),
    ((4, 8, 3), dict(padding=1, groups=4), 'groups=4 of 4 channels in and 8'),
    ((4, 4, 3), dict(), r'padding=\(0, 0\) with kernel_size=\(3, 3\)'),
    ((4, 4, 3), dict(padding='valid'), 'padding=valid'),
    ((4, 4, 3), dict(padding=1, dilation=2), r'dilation=\(2, 2\)'),
    ((4, 4, 3), dict(padding=1, padding_mode='reflect'), "'reflect'"),
    ((4, 4, 5), dict(padding=8, dilation=4), r'kernel_size=\(5, 5\) with '
     r'dilation=\(4, 4\) not less than patch=2.*patch=5'),
    ((4, 4, 3), dict(padding=1, patch=0), 'patch must be .* got 0'),
    ((4, 4, 3), dict(padding=1, patch=2.0), 'patch must be .* got 2.0'),
])
def test_refuses_what_it_can_not_do(args, options, message):
    with pytest.raises(ValueError, match=message):
        GradientFilterConv2d(*args, **options)


def test_the_function_takes_numbers_as_torch_does():
    x, weight, y, grad = tensors((2, 3, 9, 9), (4, 3, 3, 3),
                                 stride=2,
                                 padding=1,
                                 dilation=1)
    z = gradient_filter_conv2d(x, weight, None, (2, 2), (1, 1), (1, 1))
    assert torch.equal(y, z)
    for a, b in zip(
            torch.autograd.grad(y, [x, weight], grad),
            torch.autograd.grad(z, [x, weight], grad)):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match='patch must be .* got 0'):
        gradient_filter_conv2d(x, weight, padding=1, patch=0)


def test_refuses_an_image_without_a_batch():
    layer, _ = layers(2, 2, 3, padding=1)
    with pytest.raises(ValueError, match=r'\(2, 6, 6\), which is no batch'):
        layer(torch.zeros(2, 6, 6))


def test_is_a_conv_cfg_of_mm_backbones():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(
            dict(
                type='ResNet',
                depth=18,
                base_channels=8,
                stem_channels=8,
                conv_cfg=dict(type='mmcompress.GradientFilterConv2d',
                              patch=4)))
    convs = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 20
    assert all(isinstance(m, GradientFilterConv2d) for m in convs)
    assert 'patch=4' in str(convs[0])
    backbone(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    assert all(m.weight.grad.isfinite().all() for m in convs)


def test_the_backward_pass_is_faster():
    layer, ordinary = layers(64, 64, 3, padding=1, patch=4)
    x = torch.randn(1, 64, 56, 56, requires_grad=True)

    def back(one):
        y = one(x)
        grad = torch.ones_like(y)
        return lambda: torch.autograd.grad(
            y, [x, one.weight], grad, retain_graph=True)

    seconds = interleaved(
        dict(filtered=back(layer), exact=back(ordinary)), rounds=5)
    assert median(seconds['filtered']) < median(seconds['exact'])
