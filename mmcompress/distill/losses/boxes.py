"""Boxes (cx, cy, w, h), as queries have them."""
import torch
from torch import Tensor


def normalised(boxes: list[Tensor], sizes: list[tuple]) -> list[Tensor]:
    """Boxes as DETRs have them.

    Args:
        boxes (list[Tensor]): (x1, y1, x2, y2) in pixels, shape (M, 4).
        sizes (list[tuple]): (height, width) of the images.

    Returns:
        list[Tensor]: (cx, cy, w, h) in [0, 1], shape (M, 4).
    """
    result = []
    for box, (height, width) in zip(boxes, sizes):
        low, high = box[:, :2], box[:, 2:]
        cxcywh = torch.cat([(low + high) / 2, high - low], dim=1)
        result.append(cxcywh / box.new_tensor([width, height] * 2))
    return result


def pairwise_giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalized IoU of each box with each of the others.

    Args:
        boxes (Tensor): (cx, cy, w, h), shape (M, 4). Widths and heights
            below 1e-6 count as that, so that no area is 0.
        others (Tensor): The same, shape (K, 4).

    Returns:
        Tensor: In [-1, 1], shape (M, K).
    """
    (low, high, area), (low_o, high_o, area_o) = (
        _corners(boxes[:, None]), _corners(others[None]))  # yapf: disable
    overlap = (torch.minimum(high, high_o) -
               torch.maximum(low, low_o)).clamp(min=0).prod(-1)
    hull = (torch.maximum(high, high_o) - torch.minimum(low, low_o)).prod(-1)
    union = area + area_o - overlap
    return overlap / union - (hull - union) / hull


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    center, size = boxes[..., :2], boxes[..., 2:].clamp(min=1e-6)
    return center - size / 2, center + size / 2, size.prod(-1)
