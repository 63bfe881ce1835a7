"""The same averages as mmcv's, from channels-last memory."""
import pytest
import torch

from mmcompress.deploy.roi_align import ChannelsLastRoIAlign

RoIAlign = pytest.importorskip('mmcv.ops').RoIAlign


def features(dtype=torch.float32):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 19, 26, dtype=dtype)
    return x, x.contiguous(memory_format=torch.channels_last)


def boxes(num):
    corner = torch.rand(num, 2) * torch.tensor([100.0, 70.0]) - 5
    image = torch.randint(2, (num, 1))
    return torch.cat([image, corner, corner + torch.rand(num, 2) * 60], 1)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 1, 2])
@pytest.mark.parametrize('size', [7, (2, 3)])
def test_equals_mmcvs(size, sampling_ratio, aligned):
    layer = RoIAlign(size, 0.25, sampling_ratio, aligned=aligned)
    x, channels_last = features()
    rois = boxes(40)
    found = ChannelsLastRoIAlign(layer)(channels_last, rois)
    assert torch.allclose(found, layer(x, rois), atol=2e-6)


@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_boxes_at_the_edge(sampling_ratio):
    rois = torch.tensor(
        [
            [0, -50, -50, -10, -10],  # outside
            [0, -3, -3, 5, 5],
            [1, 100, 70, 110, 80],
            [1, 10, 10, 10, 10],  # no area
            [0, 0, 0, 104, 76],  # all of it
            [1, -1000, -1000, 2000, 2000]
        ],
        dtype=torch.float32)
    layer = RoIAlign(3, 0.25, sampling_ratio)
    x, channels_last = features()
    found = ChannelsLastRoIAlign(layer)(channels_last, rois)
    assert torch.allclose(found, layer(x, rois), atol=2e-6)


def test_no_boxes():
    layer = ChannelsLastRoIAlign(RoIAlign(7, 0.25, 0))
    assert layer(features()[1], boxes(0)).shape == (0, 5, 7, 7)


def test_both_twins_are_equal_bit_for_bit():
    layer = ChannelsLastRoIAlign(RoIAlign(7, 0.25, 0))
    x, rois = features()[1], boxes(40)
    packed = layer(x, rois)
    layer.twin = 'folded'
    assert layer(x, rois).equal(packed)


def test_half_precision_is_computed_in_float32():
    layer = ChannelsLastRoIAlign(RoIAlign(7, 0.25, 0))
    x = features()[1].half()
    rois = boxes(10)
    found = layer(x, rois)
    assert found.dtype == torch.float16
    assert found.equal(layer(x.float(), rois).half())
