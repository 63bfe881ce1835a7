"""RoIAlign: against mmcv's, its own definition, and by hand."""
import pytest
import torch
from signs import LAYOUTS, in_layout, randn

from mmcompress import ops
from mmcompress.ops.roi_align import MAX_SAMPLES, roi_align_reference


def random_rois(num, height, width, batch=2, seed=0):
    """Regions of an image, some of them partly outside."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height])
    centre = torch.rand(num, 2, generator=generator) * size
    half = torch.rand(num, 2, generator=generator)**2 * size / 2
    number = torch.randint(batch, (num, 1), generator=generator)
    return torch.cat([number, centre - half, centre + half], 1)


def edge_cases(height, width):
    """Regions at, across and beyond the border, tiny, empty, elongated."""
    boxes = [(0, 0, width, height), (-1, -1, 0, 0), (-9, -7, 3, 4),
             (width - 1, height - 1, width, height),
             (width, height, width + 5, height + 5), (3, 3, 3, 3),
             (2.5, 2.5, 2.6, 2.6),
             (-90, -90, -80, -80), (-50, 2, 3 * width, 3),
             (2, -50, 3, 3 * height), (0, 0, 1e-6, 1e-6), (4, 4, 8, 8),
             (0.5, 0.5, 7.5, 7.5)]
    return torch.tensor([(i % 2, *box) for i, box in enumerate(boxes)])


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 1, 2, 3])
@pytest.mark.parametrize('scale, size', [(1.0, (7, 7)), (0.25, (3, 5)),
                                         (1 / 3, 1)])
def test_equals_mmcv(aligned, sampling_ratio, scale, size):
    mmcv_ops = pytest.importorskip('mmcv.ops')
    x = randn(2, 20, 19, 23)
    height, width = round(19 / scale), round(23 / scale)
    rois = torch.cat(
        [random_rois(60, height, width),
         edge_cases(height, width)])
    theirs = mmcv_ops.RoIAlign(
        size, scale, sampling_ratio, 'avg', aligned=aligned)(x, rois)
    ours = ops.roi_align(x, rois, size, scale, sampling_ratio, aligned)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize('channels', [1, 3, 16, 17, 64, 100, 128, 300])
@pytest.mark.parametrize('options', [(0.5, 0, True), (1.0, 2, False)])
def test_kernels_equal_their_definition_bit_for_bit(channels, options):
    x = randn(2, channels, 12, 17)
    rois = torch.cat([random_rois(30, 24, 34), edge_cases(24, 34)])
    wanted = roi_align_reference(x, rois, [7, 5], *options)
    assert torch.equal(ops.roi_align(x, rois, (7, 5), *options), wanted)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('shape', [(2, 40, 9, 11), (1, 1, 5, 5), (2, 8, 1, 1),
                                   (2, 8, 1, 6), (2, 8, 6, 1)])
def test_any_memory_layout(layout, shape):
    x = randn(*shape)
    rois = random_rois(9, 11, 11, batch=shape[0])
    wanted = roi_align_reference(x, rois, [3, 3], 1.0, 0, True)
    found = ops.roi_align(in_layout(x, layout), rois, 3)
    assert torch.equal(found, wanted)
    assert found.is_contiguous()


def test_strides_of_regions_and_images():
    x = randn(3, 40, 9, 11).contiguous(memory_format=torch.channels_last)
    rois = random_rois(8, 9, 11)
    wide = torch.full((8, 10), float('nan'))
    wide[:, ::2] = rois
    assert torch.equal(
        ops.roi_align(x[1:], wide[:, ::2], 3),
        ops.roi_align(x[1:].clone(), rois, 3))
    # one image for all numbers
    same = x[:1].expand(2, -1, -1, -1)
    rois[:, 0] = 1
    assert torch.equal(
        ops.roi_align(same, rois, 3), ops.roi_align(same.clone(), rois, 3))


def test_a_region_on_the_grid_gives_means_of_pixels():
    """With aligned=True, bins of 2 x 2 pixels are their means."""
    x = torch.arange(64.).view(1, 1, 8, 8)
    roi = torch.tensor([[0., 2, 2, 6, 6]])
    wanted = torch.nn.functional.avg_pool2d(x[:, :, 2:6, 2:6], 2)
    assert torch.equal(ops.roi_align(x, roi, 2), wanted)


def test_the_number_selects_the_image():
    x = torch.stack([torch.full((2, 6, 6), float(i)) for i in range(3)])
    rois = torch.tensor([[i, 1, 1, 4, 5] for i in (2., 0, 1)])
    found = ops.roi_align(x, rois, 2)
    assert found.mean((1, 2, 3)).tolist() == [2, 0, 1]


def test_nothing_in_nothing_out():
    x = randn(1, 8, 5, 5)
    assert ops.roi_align(x, torch.zeros(0, 5), (2, 3)).shape == (0, 8, 2, 3)
    empty = x[:0]
    assert ops.roi_align(empty, torch.zeros(0, 5), 2).shape == (0, 8, 2, 2)


@pytest.mark.parametrize('value', [float('inf'), float('-inf'), float('nan')])
@pytest.mark.parametrize('corner', range(1, 5))
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_regions_without_a_size_are_zero(value, corner, sampling_ratio):
    roi = torch.tensor([[0., 1, 1, 4, 4]])
    roi[0, corner] = value
    x = randn(1, 20, 6, 6)
    args = ([2, 2], 1.0, sampling_ratio, True)
    assert not ops.roi_align(x, roi, *args).any()
    assert not roi_align_reference(x, roi, *args).any()


@pytest.mark.parametrize('size', [(1, 6), (6, 1), (1, 1)])
def test_regions_without_area_on_maps_of_one_row_or_column_are_zero(size):
    x = randn(1, 20, *size)
    roi = torch.tensor([[0., 0.5, 0.5, 0.5, 0.5]])
    args = ([2, 2], 1.0, 0, True)
    assert not ops.roi_align(x, roi, *args).any()
    assert not roi_align_reference(x, roi, *args).any()


@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_turned_around_regions_are_like_the_definition(sampling_ratio):
    x = randn(1, 20, 6, 6)
    roi = torch.tensor([[0., 5, 5, 1, 1]])
    args = ([2, 2], 1.0, sampling_ratio, True)
    assert torch.equal(
        ops.roi_align(x, roi, *args), roi_align_reference(x, roi, *args))


def test_a_huge_region_takes_no_longer():
    """Its bins are larger than MAX_SAMPLES pixels."""
    x = randn(1, 20, 6, 6)
    size = 3.0 * MAX_SAMPLES
    rois = torch.tensor([[0., -size, -size, size, size],
                         [0., -1e30, -1e30, 1e30, 1e30]])
    found = ops.roi_align(x, rois, 2)
    assert found.abs().max() < 1e-4
    assert torch.equal(found, roi_align_reference(x, rois, [2, 2], 1.0, 0,
                                                  True))


def test_infinite_pixels_stay_where_they_are():
    x = randn(1, 33, 8, 8)
    x[:, :, 6:] = float('inf')
    rois = torch.tensor([[0., 0, 0, 8, 4], [0., 1, 4, 6, 8]])
    found = ops.roi_align(x, rois, 2)
    assert found[0].isfinite().all() and not found[1].isfinite().all()
    assert torch.equal(found, roi_align_reference(x, rois, [2, 2], 1.0, 0,
                                                  True))


def test_threads_do_not_change_the_result():
    x, rois = randn(2, 70, 20, 20), random_rois(50, 20, 20)
    wanted = ops.roi_align(x, rois, 7)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert torch.equal(ops.roi_align(x, rois, 7), wanted)


X, ROIS = torch.zeros(2, 8, 5, 5), torch.zeros(3, 5)


@pytest.mark.parametrize('name, call', [
    ('x', lambda: ops.roi_align(X.double(), ROIS, 7)),
    ('x', lambda: ops.roi_align(X[0], ROIS, 7)),
    ('x', lambda: ops.roi_align(X[:, :0], ROIS, 7)),
    ('x', lambda: ops.roi_align(X[:, :, :0], ROIS, 7)),
    ('rois', lambda: ops.roi_align(X, ROIS.double(), 7)),
    ('rois', lambda: ops.roi_align(X, ROIS[:, 1:], 7)),
    ('rois', lambda: ops.roi_align(X, ROIS[0], 7)),
    ('rois', lambda: ops.roi_align(X, ROIS + 2, 7)),
    ('rois', lambda: ops.roi_align(X, ROIS - 1, 7)),
    ('rois', lambda: ops.roi_align(X, ROIS * float('nan'), 7)),
    ('output_size', lambda: ops.roi_align(X, ROIS, 0)),
    ('output_size', lambda: ops.roi_align(X, ROIS, (7, -1))),
    ('output_size', lambda: ops.roi_align(X, ROIS, (7, 7, 7))),
])  # yapf: disable
def test_errors_name_the_argument(name, call):
    with pytest.raises((ValueError, RuntimeError), match=rf'\b{name}\b'):
        call()


def test_the_definition_has_the_same_errors():
    args = ([7, 7], 1.0, 0, True)
    for x, rois in ((X[0], ROIS), (X, ROIS[0]), (X, ROIS + 2)):
        with pytest.raises(ValueError):
            roi_align_reference(x, rois, *args)
