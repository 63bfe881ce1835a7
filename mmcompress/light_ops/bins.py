"""The cells of a feature map that the bins of regions consist of."""
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class BinCells:
    """Cells of all bins, bin after bin, each row by row.

    Attributes:
        cell (Tensor): Flat index ``(image * H + y) * W + x``, shape (T, ).
        bin (Tensor): Flat index ``(region * P + p) * Q + q``, shape (T, ).
        first (Tensor): Where each bin begins, shape (R * P * Q, ).
        count (Tensor): Number of its cells, shape (R * P * Q, ).
        weight (Tensor): Product of the row's and the column's, shape (T, ).
    """
    cell: Tensor
    bin: Tensor
    first: Tensor
    count: Tensor
    weight: Tensor


def _first(count: Tensor) -> Tensor:
    """Where each group begins in a flat list of all groups."""
    return count.cumsum(0) - count


def _per_bin(values: Tensor, num_rows: int, num_columns: int,
             axis: int) -> Tensor:
    """Repeat (R, P) values of rows, or (R, Q) of columns, for all bins."""
    return values.unsqueeze(2 - axis).expand(-1, num_rows,
                                             num_columns).flatten()


def bin_cells(rows: Tensor, columns: Tensor, images: Tensor) -> BinCells:
    """Cells at the crossings of rows and columns that weigh something.

    Args:
        rows (Tensor): Weights of the map's rows in each row of bins, shape
            (R, P, H).
        columns (Tensor): Likewise of its columns, shape (R, Q, W).
        images (Tensor): The image of each region, shape (R, ).

    Returns:
        BinCells: Of ``R * P * Q`` bins.
    """
    num_rows, height = rows.shape[1:]
    num_columns, width = columns.shape[1:]
    row_used, column_used = rows != 0, columns != 0
    y, x = row_used.nonzero()[:, 2], column_used.nonzero()[:, 2]
    y_weight, x_weight = rows[row_used], columns[column_used]

    row_count, column_count = row_used.sum(2), column_used.sum(2)
    shape = (num_rows, num_columns)
    row_first = _per_bin(
        _first(row_count.flatten()).view_as(row_count), *shape, 0)
    column_first = _per_bin(
        _first(column_count.flatten()).view_as(column_count), *shape, 1)
    row_count = _per_bin(row_count, *shape, 0)
    column_count = _per_bin(column_count, *shape, 1)

    # a strip is one row of cells of one bin
    bins = torch.arange(len(row_count), device=rows.device)
    strip_bin = bins.repeat_interleave(row_count)
    entry = torch.arange(len(strip_bin), device=rows.device)
    entry += (row_first - _first(row_count))[strip_bin]
    base = y[entry] * width
    base += (images * (height * width)).repeat_interleave(
        num_rows * num_columns)[strip_bin]
    strip_weight = y_weight[entry]

    strip_length = column_count[strip_bin]
    strip = torch.arange(
        len(strip_bin), device=rows.device).repeat_interleave(strip_length)
    entry = torch.arange(len(strip), device=rows.device)
    entry += (column_first[strip_bin] - _first(strip_length))[strip]
    count = row_count * column_count
    return BinCells(
        cell=x[entry] + base[strip],
        bin=strip_bin[strip],
        first=_first(count),
        count=count,
        weight=x_weight[entry] * strip_weight[strip])


def image_index(rois: Tensor, num_images: int) -> Tensor:
    """First column of regions as an index.

    Args:
        rois (Tensor): Shape (R, 5).
        num_images (int): In the batch.

    Raises:
        ValueError: If a region is of an image that is not there.
    """
    images = rois[:, 0].long()
    if len(images) and not (0 <= int(images.min())
                            and int(images.max()) < num_images):
        raise ValueError(f'regions of images {int(images.min())} to '
                         f'{int(images.max())} in a batch of {num_images}')
    return images


def as_table(feature: Tensor) -> Tensor:
    """A feature map (N, C, H, W) as rows of channels, (N * H * W, C)."""
    return feature.permute(0, 2, 3, 1).reshape(-1, feature.size(1))


def from_table(table: Tensor, shape: tuple) -> Tensor:
    """Rows of channels back to (N, C, H, W)."""
    num_images, channels, height, width = shape
    return table.view(num_images, height, width, channels).permute(0, 3, 1, 2)
