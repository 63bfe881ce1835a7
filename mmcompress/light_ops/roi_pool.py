"""RoIPool: the largest cell of each bin, forward and backward.

The compiled mmcv has this operator for GPUs only.
"""
import torch
from torch import Tensor

from .bins import as_table, bin_cells, from_table, image_index

MODES = ('sum', 'mean', 'max')


def _covered(begin: Tensor, end: Tensor, size: int, num_bins: int) -> Tensor:
    """Which cells each bin covers along one axis.

    Args:
        begin (Tensor): Of the regions in cells, shape (R, ).
        end (Tensor): Shape (R, ).
        size (int): Of the map.
        num_bins (int): Per region.

    Returns:
        Tensor: 1 or 0, shape (R, num_bins, size).
    """
    bin_size = ((end - begin) / num_bins)[:, None]
    bins = torch.arange(num_bins, device=begin.device).to(begin)
    low = (bins * bin_size + begin[:, None]).floor()[..., None]
    high = ((bins + 1) * bin_size + begin[:, None]).ceil()[..., None]
    cells = torch.arange(size, device=begin.device)
    return ((cells >= low) & (cells < high)).to(begin)


@torch.no_grad()
def roi_pool_forward(input: Tensor, rois: Tensor, output: Tensor,
                     argmax: Tensor, pooled_height: int, pooled_width: int,
                     spatial_scale: float) -> None:
    """Write the pooled features into ``output``.

    Args:
        input (Tensor): Shape (N, C, H, W).
        rois (Tensor): Image, x1, y1, x2, y2 in pixels, shape (R, 5).
        output (Tensor): Shape (R, C, P, Q); 0 where a bin has no cell.
        argmax (Tensor): Receives the flat index of the cell in its map, -1
            for none, like ``output``.
        pooled_height (int): P, bins per region.
        pooled_width (int): Q.
        spatial_scale (float): Cells per pixel.
    """
    height, width = input.shape[2:]
    images = image_index(rois, len(input))
    boxes = rois[:, 1:].to(torch.promote_types(rois.dtype, torch.float32))
    x1, y1 = (boxes[:, :2] * spatial_scale).unbind(1)
    x2, y2 = ((boxes[:, 2:] + 1) * spatial_scale).unbind(1)
    exists = ((x2 > x1) & (y2 > y1)).view(-1, 1, 1)
    cells = bin_cells(
        _covered(y1, y2, height, pooled_height) * exists,
        _covered(x1, x2, width, pooled_width) * exists, images)
    found, _, _, best = torch.embedding_bag(
        as_table(input), cells.cell, cells.first, mode=MODES.index('max'))
    shape = (len(rois), input.size(1), pooled_height, pooled_width)
    is_empty = (cells.count == 0)[:, None]
    best = best.long() % (height * width)
    output.copy_(from_table(found.masked_fill(is_empty, 0), shape))
    argmax.copy_(from_table(best.masked_fill(is_empty, -1), shape))


@torch.no_grad()
def roi_pool_backward(grad_output: Tensor, rois: Tensor, argmax: Tensor,
                      grad_input: Tensor, pooled_height: int,
                      pooled_width: int, spatial_scale: float) -> None:
    """Add each bin's gradient to its cell; see :func:`roi_pool_forward`."""
    num_images, channels, height, width = grad_input.shape
    images = image_index(rois, num_images).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=rois.device).view(1, -1, 1, 1)
    index = (images * channels + channel) * (height * width) + argmax
    grad = torch.where(argmax < 0, 0, grad_output)
    grad_input.view(-1).index_add_(0,
                                   index.clamp(min=0).flatten(),
                                   grad.flatten())
