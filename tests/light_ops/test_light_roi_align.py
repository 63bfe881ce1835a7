import pytest
import torch
from operators import assert_close, needs_compiled, on_both, with_grads

from mmcompress.light_ops import roi_align as module

pytestmark = needs_compiled

SHAPE = (2, 3, 11, 14)


def random_rois(n, seed=0, reach=1.0):
    """Regions of an image of 88 x 112 pixels, some of them outside."""
    g = torch.Generator().manual_seed(seed)
    size = torch.tensor([112., 88.])
    xy = (torch.rand(n, 2, generator=g) * 1.6 - 0.3) * size
    wh = torch.rand(n, 2, generator=g)**3 * size * reach
    images = torch.randint(SHAPE[0], (n, 1), generator=g)
    return torch.cat([images, xy, xy + wh], 1)


def feature(dtype=torch.float):
    g = torch.Generator().manual_seed(2)
    return torch.randn(SHAPE, generator=g, dtype=torch.double).to(dtype)


def run(rois, size=(3, 2), scale=1 / 8, ratio=0, mode='avg', aligned=True,
        x=None):  # yapf: disable
    from mmcv.ops import roi_align
    x = feature(rois.dtype) if x is None else x
    return on_both(
        'roi_align', lambda: with_grads(
            lambda t: roi_align(t, rois, size, scale, ratio, mode, aligned), x)
    )


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 1, 3])
@pytest.mark.parametrize('size', [(1, 1), (7, 7), (2, 5)])
def test_output_and_gradient(mode, aligned, ratio, size):
    for seed, scale in ((0, 1 / 8), (1, 0.25)):
        rois = random_rois(12, seed, reach=min(0.5, 0.1 / scale))
        assert_close(*run(rois, size, scale, ratio, mode, aligned))


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_in_double_precision(mode):
    assert_close(*run(random_rois(20, 3).double(), mode=mode))


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_at_the_border_and_between_cells(mode, aligned, ratio):
    # whole image, one cell, no area, on the border, one cell and more outside
    corners = [[0, 0, 112, 88], [0, 0, 8, 8], [16, 16, 16, 16],
               [16, 16, 40, 16], [104, 80, 112, 88], [-8, -8, 0, 0],
               [-4, -4, 4, 4], [112, 88, 120, 96], [-50, -50, -20, -20],
               [-40, -40, 150, 130]]
    rois = torch.tensor([[i % 2, *box] for i, box in enumerate(corners)],
                        dtype=torch.float)
    assert_close(*run(rois, mode=mode, aligned=aligned, ratio=ratio))


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_without_regions(mode):
    compiled, ours = run(torch.zeros(0, 5), mode=mode)
    assert_close(compiled, ours)
    assert ours[0].shape == (0, 3, 3, 2) and not ours[1].any()


def test_maxima_of_equal_samples_send_the_gradient_to_the_first():
    x = torch.ones(SHAPE)
    assert_close(*run(random_rois(12, 4), mode='max', ratio=2, x=x))


def test_more_regions_than_are_done_at_a_time(monkeypatch):
    monkeypatch.setattr(module, 'CHUNK', 5)
    for mode in ('avg', 'max'):
        assert_close(*run(random_rois(13, 5), mode=mode))


def test_features_in_another_memory_format():
    x = feature().to(memory_format=torch.channels_last)
    rois = random_rois(5, 6)
    _, ours = run(rois, x=x)
    compiled, _ = run(rois, x=x.contiguous())
    assert_close(compiled, ours)


@pytest.mark.parametrize('image', [-1, 2])
def test_an_image_that_is_not_there(image):
    with pytest.raises(ValueError, match='in a batch of 2'):
        module.roi_align_forward(feature(), torch.tensor([[image, 0, 0, 8.,
                                                           8]]), None, None,
                                 None, 2, 2, 1.0, 0, 1, True)


def test_a_region_that_ends_before_it_begins():
    with pytest.raises(ValueError, match='-2.0 cells long'):
        module.roi_align_forward(feature(), torch.tensor([[0, 4, 4, 2., 8]]),
                                 None, None, None, 2, 2, 1.0, 0, 1, True)
