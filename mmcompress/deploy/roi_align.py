"""RoIAlign of channels-last features, as a weighted sum of pixels."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .fold import Folding, folds


def _linear(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two neighbours of each position and the weight of the second.

    Positions further outside than 1 pixel get the weight NaN.
    """
    outside = (position < -1) | (position > size)
    position = position.clamp(0, size - 1)
    low = position.long()
    high = (low + 1).clamp(max=size - 1)
    share = torch.where(outside, torch.nan, position - low)
    return low, high, share


def roi_align(features: Tensor, rois: Tensor, output_size: tuple[int, int],
              spatial_scale: float, sampling_ratio: int,
              aligned: bool) -> Tensor:
    """Average samples in the bins of boxes, as ``mmcv.ops.roi_align`` does.

    Each bin is a weighted sum of pixels, each a row of channels: one
    ``embedding_bag``. It agrees with mmcv's up to the order of the sums.

    Args:
        features (Tensor): Shape (N, C, H, W); channels-last memory is not
            copied.
        rois (Tensor): Image, x1, y1, x2, y2, shape (K, 5).
        output_size (tuple[int, int]): Bins, vertical and horizontal.
        spatial_scale (float): From coordinates of boxes to pixels.
        sampling_ratio (int): Samples along a side of a bin; 0: one per pixel.
        aligned (bool): Shift by half a pixel, which is correct.

    Returns:
        Tensor: Shape (K, C, *output_size), channels-last memory.
    """
    dtype = features.dtype
    features, rois = features.float(), rois.float()
    channels, height, width = features.shape[1:]
    rows, columns = output_size
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0)
    start, size = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        size = size.clamp(min=1)
    bins = size / size.new_tensor([columns, rows])
    if sampling_ratio > 0:
        grid = torch.full_like(bins, sampling_ratio).long()
    else:
        grid = bins.ceil().clamp(min=0).long()

    # one bag of samples per bin
    samples = grid.prod(1).repeat_interleave(rows * columns)
    bag = torch.arange(len(samples), device=rois.device)
    bag = bag.repeat_interleave(samples)
    first = samples.cumsum(0) - samples
    roi, cell = bag // (rows * columns), bag % (rows * columns)
    local = torch.arange(len(bag), device=rois.device) - first[bag]
    across, down = grid[roi].unbind(1)
    (x0, y0), (bin_w, bin_h) = start[roi].unbind(1), bins[roi].unbind(1)
    # as mmcv rounds them
    x = x0 + cell % columns * bin_w + (local % across + 0.5) * bin_w / across
    y = y0 + cell // columns * bin_h + (local // across + 0.5) * bin_h / down

    left, right, x_share = _linear(x, width)
    top, bottom, y_share = _linear(y, height)
    image = rois[:, 0].long()[roi] * height
    indices = torch.stack([(image + line) * width + column
                           for line in (top, bottom)
                           for column in (left, right)], 1)
    weights = torch.stack([
        v * h for v in (1 - y_share, y_share) for h in (1 - x_share, x_share)
    ], 1)
    weights = weights.nan_to_num_(0) / samples[bag, None]
    pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
    pooled = F.embedding_bag(
        indices.flatten(),
        pixels,
        4 * first,
        mode='sum',
        per_sample_weights=weights.flatten())
    pooled = pooled.view(-1, rows, columns, channels).permute(0, 3, 1, 2)
    return pooled.to(dtype)


class ChannelsLastRoIAlign(nn.Module):
    """mmcv's RoIAlign with averages, see :func:`roi_align`.

    mmcv's own on a CPU doesn't understand channels-last memory and, on one
    thread, takes ten times as long.

    Args:
        roi_align (nn.Module): mmcv's.
    """

    def __init__(self, roi_align: nn.Module) -> None:
        super().__init__()
        self.output_size = tuple(roi_align.output_size)
        self.spatial_scale = roi_align.spatial_scale
        self.sampling_ratio = roi_align.sampling_ratio
        self.aligned = roi_align.aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Pool boxes, see :func:`roi_align`."""
        return roi_align(features, rois, self.output_size, self.spatial_scale,
                         self.sampling_ratio, self.aligned)


@folds('mmcv.ops.roi_align.RoIAlign')
def fold_roi_align(layer: nn.Module, folding: Folding) -> nn.Module | None:
    """The features of a packed network are channels-last."""
    if layer.pool_mode != 'avg':
        return None
    return ChannelsLastRoIAlign(layer)
