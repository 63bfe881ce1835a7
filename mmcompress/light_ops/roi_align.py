"""RoIAlign, average and maximum, forward and backward.

A bin's average of bilinear samples weighs rows and columns separately, so
samples that share cells are merged: a bin becomes one weighted sum of cells,
with all channels at once.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from .bins import BinCells, as_table, bin_cells, from_table, image_index

# regions at a time, which bounds the memory of the lists of cells
CHUNK = 256


class _Samples:
    """Where regions are sampled along one axis.

    Args:
        begin (Tensor): Of the regions, pixels, shape (R, ).
        end (Tensor): Shape (R, ).
        size (int): Cells of the map.
        num_bins (int): Per region.
        spatial_scale (float): Cells per pixel.
        sampling_ratio (int): Samples per bin, 0 for one per cell.
        aligned (bool): Whether cell centres are at halves.

    Raises:
        ValueError: If a region ends before it begins, and ``aligned``.
    """

    def __init__(self, begin: Tensor, end: Tensor, size: int, num_bins: int,
                 spatial_scale: float, sampling_ratio: int,
                 aligned: bool) -> None:
        # the same steps in the same precision as the compiled operator:
        # rounding decides about the number of samples and the border
        shift = 0.5 if aligned else 0.0
        self.begin = begin * spatial_scale - shift
        length = (end * spatial_scale - shift) - self.begin
        if not aligned:
            length = length.clamp(min=1)
        elif not bool((length >= 0).all()):
            raise ValueError('regions of RoIAlign must not end before they '
                             f'begin; the shortest is {float(length.min())} '
                             'cells long')
        self.size = size
        self.bin_size = length / num_bins
        self.count = (
            torch.full_like(length, sampling_ratio)
            if sampling_ratio > 0 else self.bin_size.ceil())
        self.num_bins = num_bins

    def positions(self, i: Tensor) -> Tensor:
        """Of the samples ``i`` (G, ) in every bin, shape (R, P, G)."""
        bins = torch.arange(self.num_bins, device=i.device).to(self.begin)
        bin_size = self.bin_size[:, None, None]
        return (self.begin[:, None, None] + bins[:, None] * bin_size) + (
            i.to(self.begin) + 0.5) * bin_size / self.count[:, None, None]

    def cells(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The two cells around positions.

        Args:
            positions (Tensor): Any shape.

        Returns:
            tuple[Tensor, Tensor, Tensor]: The lower cell, the upper one and
            the share of the upper; the border's cell where a position is up
            to one cell outside. Further outside, :meth:`inside` is False.
        """
        # NaN is where a region has no samples
        positions = positions.nan_to_num(0).clamp(min=0, max=self.size)
        lower = positions.long()
        share = positions - lower
        share = torch.where(lower >= self.size - 1, 0, share)
        lower = lower.clamp(max=self.size - 1)
        return lower, (lower + 1).clamp(max=self.size - 1), share

    def inside(self, positions: Tensor) -> Tensor:
        """Whether positions read something."""
        return (positions >= -1) & (positions <= self.size)

    @property
    def most(self) -> int:
        """The largest number of samples in a bin."""
        return int(self.count.max()) if len(self.count) else 0

    def weights(self) -> Tensor:
        """Of the map's cells in each bin's average, shape (R, P, size)."""
        i = torch.arange(self.most, device=self.begin.device)
        positions = self.positions(i)
        count = self.count[:, None, None]
        each = (self.inside(positions) & (i < count)) / count.clamp(min=1)
        lower, upper, share = self.cells(positions)
        weights = positions.new_zeros(*positions.shape[:2], self.size)
        weights.scatter_add_(2, lower, (1 - share) * each.to(positions))
        return weights.scatter_add_(2, upper, share * each.to(positions))


def _samples(rois: Tensor, shape: tuple, bins: tuple[int, int],
             spatial_scale: float, sampling_ratio: int,
             aligned: bool) -> tuple[_Samples, _Samples]:
    """Samples of regions (R, 5) along rows and columns of the map."""
    # half precision would round positions to whole cells
    rois = rois.to(torch.promote_types(rois.dtype, torch.float32))
    return tuple(
        _Samples(rois[:, 2 - axis], rois[:, 4 - axis], shape[2 + axis],
                 bins[axis], spatial_scale, sampling_ratio, aligned)
        for axis in range(2))


def _chunks(rois: Tensor, shape: tuple, *geometry):
    """Samples and images of some regions at a time, and which they are."""
    images = image_index(rois, shape[0])
    for begin in range(0, len(rois), CHUNK):
        part = slice(begin, begin + CHUNK)
        yield part, *_samples(rois[part], shape, *geometry), images[part]


def _average(table: Tensor, cells: BinCells) -> Tensor:
    """Sum of weighted rows of the table, shape (bins, C)."""
    return F.embedding_bag(
        cells.cell,
        table,
        cells.first,
        per_sample_weights=cells.weight.to(table),
        mode='sum')


def _add_average_gradient(grad_table: Tensor, grad: Tensor,
                          cells: BinCells) -> None:
    """The transposed sum: each cell collects from the bins it is in.

    Args:
        grad_table (Tensor): Receives it, shape (cells of all maps, C).
        grad (Tensor): Of the bins, shape (bins, C).
        cells (BinCells): Of the bins.
    """
    cell, order = cells.cell.sort()
    count = torch.bincount(cell, minlength=len(grad_table))
    grad_table += F.embedding_bag(
        cells.bin[order],
        grad,
        count.cumsum(0) - count,
        per_sample_weights=cells.weight[order].to(grad),
        mode='sum')


class _Corners:
    """Cells and weights of one sample per bin, for regions of images.

    Args:
        y (Tensor): Positions, broadcasts with ``x``.
        x (Tensor): Positions.
        rows (_Samples): Of the regions.
        columns (_Samples): Of the regions.
        base (Tensor): First cell of each region's image.

    Attributes:
        index (list[Tensor]): Of the four cells.
        weight (list[Tensor]): Their weights, 0 for samples outside.
    """

    def __init__(self, y: Tensor, x: Tensor, rows: _Samples, columns: _Samples,
                 base: Tensor) -> None:
        inside = rows.inside(y) & columns.inside(x)
        *ys, y_share = rows.cells(y)
        *xs, x_share = columns.cells(x)
        self.index, self.weight = [], []
        for row, row_share in zip(ys, (1 - y_share, y_share)):
            for column, share in zip(xs, (1 - x_share, x_share)):
                self.index.append(base + row * columns.size + column)
                self.weight.append(row_share * share * inside)


def _maximum(table: Tensor, rows: _Samples, columns: _Samples,
             images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest sample of every bin, and where it is.

    Args:
        table (Tensor): Shape (cells of all maps, C).
        rows (_Samples): Of R regions and P bins.
        columns (_Samples): Of Q bins.
        images (Tensor): Shape (R, ).

    Returns:
        tuple[Tensor, Tensor, Tensor]: Values, rows and columns, each of shape
        (R, C, P, Q). Where no sample exceeds -10000: that, -1 and -1.
    """
    shape = (len(images), rows.num_bins, columns.num_bins, table.size(1))
    best = table.new_full(shape, -10000)
    best_y, best_x = torch.full_like(best, -1), torch.full_like(best, -1)
    base = (images * (rows.size * columns.size))[:, None, None]
    for i in range(rows.most):
        for j in range(columns.most):
            # most regions have fewer samples than the largest
            some = ((i < rows.count) & (j < columns.count)).nonzero()[:, 0]
            y = rows.positions(base.new_tensor([i]))[some]
            x = columns.positions(base.new_tensor([j])).transpose(1, 2)[some]
            corners = _Corners(y, x, rows, columns, base[some])
            value = F.embedding_bag(
                torch.stack(corners.index, -1).view(-1, 4),
                table,
                per_sample_weights=torch.stack(corners.weight,
                                               -1).view(-1, 4).to(table),
                mode='sum').view(-1, *shape[1:])
            better = value > best[some]
            best[some] = torch.where(better, value, best[some])
            best_y[some] = torch.where(better, y[..., None].to(best),
                                       best_y[some])
            best_x[some] = torch.where(better, x[..., None].to(best),
                                       best_x[some])
    return tuple(t.permute(0, 3, 1, 2) for t in (best, best_y, best_x))


def _add_maximum_gradient(grad_input: Tensor, grad: Tensor, y: Tensor,
                          x: Tensor, rows: _Samples, columns: _Samples,
                          images: Tensor) -> None:
    """Add to the four cells around each bin's largest sample.

    Args:
        grad_input (Tensor): Receives it, contiguous, shape (N, C, H, W).
        grad (Tensor): Shape (R, C, P, Q).
        y (Tensor): Of the sample; -1 where there was none. Like ``grad``.
        x (Tensor): Likewise.
        rows (_Samples): Of the regions.
        columns (_Samples): Of the regions.
        images (Tensor): Shape (R, ).
    """
    channels, cells = grad_input.size(1), rows.size * columns.size
    channel = torch.arange(channels, device=grad.device).view(1, -1, 1, 1)
    base = (images.view(-1, 1, 1, 1) * channels + channel) * cells
    corners = _Corners(y, x, rows, columns, base)
    for index, weight in zip(corners.index, corners.weight):
        share = torch.where(y == -1, 0, grad * weight)
        grad_input.view(-1).index_add_(0, index.flatten(), share.flatten())


@torch.no_grad()
def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor,
                      argmax_y: Tensor, argmax_x: Tensor, aligned_height: int,
                      aligned_width: int, spatial_scale: float,
                      sampling_ratio: int, pool_mode: int,
                      aligned: bool) -> None:
    """Write the pooled features into ``output``.

    Args:
        input (Tensor): Shape (N, C, H, W).
        rois (Tensor): Image, x1, y1, x2, y2 in pixels, shape (R, 5).
        output (Tensor): Shape (R, C, P, Q).
        argmax_y (Tensor): Receives rows of the maxima, like ``output``.
        argmax_x (Tensor): Receives their columns.
        aligned_height (int): P, bins per region.
        aligned_width (int): Q.
        spatial_scale (float): Cells per pixel.
        sampling_ratio (int): Samples per bin, 0 for one per cell.
        pool_mode (int): 0 maximum, 1 average.
        aligned (bool): Whether cell centres are at halves.
    """
    bins = (aligned_height, aligned_width)
    table = as_table(input)
    for part, rows, columns, images in _chunks(rois, input.shape, bins,
                                               spatial_scale, sampling_ratio,
                                               aligned):
        if pool_mode == 0:
            output[part], argmax_y[part], argmax_x[part] = _maximum(
                table, rows, columns, images)
        else:
            cells = bin_cells(rows.weights(), columns.weights(), images)
            output[part] = from_table(
                _average(table, cells), (len(images), table.size(1), *bins))


@torch.no_grad()
def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor,
                       argmax_x: Tensor, grad_input: Tensor,
                       aligned_height: int, aligned_width: int,
                       spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Add the gradient of the features; see :func:`roi_align_forward`."""
    bins = (aligned_height, aligned_width)
    shape = grad_input.shape
    grad_table = grad_output.new_zeros(shape[0] * shape[2] * shape[3],
                                       shape[1])
    for part, rows, columns, images in _chunks(rois, shape, bins,
                                               spatial_scale, sampling_ratio,
                                               aligned):
        grad = grad_output[part]
        if pool_mode == 0:
            _add_maximum_gradient(grad_input, grad, argmax_y[part],
                                  argmax_x[part], rows, columns, images)
        else:
            cells = bin_cells(rows.weights(), columns.weights(), images)
            _add_average_gradient(grad_table, as_table(grad), cells)
    if pool_mode == 1:
        grad_input += from_table(grad_table, shape)
