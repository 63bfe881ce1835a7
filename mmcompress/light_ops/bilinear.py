"""Read a feature map between its cells, zero outside of it."""
import torch
from torch import Tensor


def corner_weights(y: Tensor, x: Tensor, height: int | Tensor,
                   width: int | Tensor) -> tuple[Tensor, Tensor]:
    """The four cells around each position, and what each contributes.

    Args:
        y (Tensor): Rows, cell centres at whole numbers; any shape.
        x (Tensor): Columns, the same shape.
        height (int | Tensor): Of the map; a tensor broadcasts against ``y``.
        width (int | Tensor): Likewise.

    Returns:
        tuple[Tensor, Tensor]: Flat indices ``row * width + column``, and
        weights with their derivatives by ``y`` and ``x``; the four are a new
        last dimension. Cells outside of the map weigh 0.
    """
    inside = (y > -1) & (y < height) & (x > -1) & (x < width)
    top, left = y.detach().floor(), x.detach().floor()
    # in this form the derivative at whole numbers is the one to the right
    lower, right = y - top, x - left
    indices, weights = [], []
    for row, row_weight in ((top, 1 - lower), (top + 1, lower)):
        for column, column_weight in ((left, 1 - right), (left + 1, right)):
            there = (
                inside & (row >= 0) & (row < height) & (column >= 0)
                & (column < width))
            index = row.long() * width + column.long()
            indices.append(torch.where(there, index, 0))
            weights.append(torch.where(there, row_weight * column_weight, 0))
    return torch.stack(indices, -1), torch.stack(weights, -1)
