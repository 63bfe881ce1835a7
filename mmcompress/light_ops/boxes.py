"""Non-maximum suppression and overlaps, in the compiled operators' order.

The arithmetic follows theirs step by step in the same precision, so that the
same boxes are kept, also at equal scores and at overlaps near the threshold.
"""
import numpy as np
import torch
from torch import Tensor

# boxes that are compared with each other and with all later ones at once
BLOCK = 128


def _overlaps(boxes: np.ndarray, areas: np.ndarray, others: np.ndarray,
              other_areas: np.ndarray, offset: int) -> np.ndarray:
    """IoU of boxes and others.

    Args:
        boxes (np.ndarray): Shape (4, N, 1), or (4, 1) for a single box.
        areas (np.ndarray): Shape (N, 1), or (1, ).
        others (np.ndarray): Shape (4, M).
        other_areas (np.ndarray): Shape (M, ).
        offset (int): 1 if a box from 3 to 3 is one pixel wide, else 0.

    Returns:
        np.ndarray: Shape (N, M), or (M, ).
    """
    width = np.minimum(boxes[2], others[2])
    width -= np.maximum(boxes[0], others[0])
    height = np.minimum(boxes[3], others[3])
    height -= np.maximum(boxes[1], others[1])
    if offset:
        width += offset
        height += offset
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    np.add(areas, other_areas, out=height)
    height -= width
    # degenerate boxes: 0 / 0 is above no threshold
    with np.errstate(divide='ignore', invalid='ignore'):
        width /= height
    return width


def _columns(boxes: Tensor, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes as x1, y1, x2, y2 of shape (4, N), and their areas (N, )."""
    columns = np.ascontiguousarray(boxes.detach().cpu().numpy().T)
    x1, y1, x2, y2 = columns
    return columns, (x2 - x1 + offset) * (y2 - y1 + offset)


@torch.no_grad()
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float,
        offset: int) -> Tensor:
    """Indices of the kept boxes, best first.

    Args:
        boxes (Tensor): x1, y1, x2, y2, shape (N, 4).
        scores (Tensor): Shape (N, ).
        iou_threshold (float): Boxes that overlap more are dropped.
        offset (int): See mmcv.

    Returns:
        Tensor: Indices into ``boxes``.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    order = scores.sort(0, descending=True)[1]
    columns, areas = _columns(boxes[order], offset)
    threshold = np.float32(iou_threshold)
    kept = []
    rest = np.arange(len(areas))
    while len(rest):
        block, rest = rest[:BLOCK], rest[BLOCK:]
        mine, size = columns[:, block, None], areas[block, None]
        above = _overlaps(mine, size, columns[:, block], areas[block],
                          offset) > threshold
        alive = np.ones(len(block), bool)
        for i, row in enumerate(above):
            if alive[i]:
                alive[i + 1:] &= ~row[i + 1:]
        kept.append(block[alive])
        if len(rest):
            above = _overlaps(mine[:, alive], size[alive], columns[:, rest],
                              areas[rest], offset) > threshold
            rest = rest[~above.any(0)]
    return order[torch.from_numpy(np.concatenate(kept)).to(order.device)]


def _decay(scores: np.ndarray, overlaps: np.ndarray, iou_threshold: np.float32,
           sigma: np.float32, method: int) -> np.ndarray:
    """Scores after a better box: cut off, linear (1) or Gaussian (2)."""
    if method == 2:
        # rounded once, as the C library's expf is
        exponent = (-(overlaps * overlaps) / sigma).astype(np.float64)
        return scores * np.exp(exponent).astype(scores.dtype)
    factor = 1 - overlaps if method == 1 else np.zeros_like(scores)
    return np.where(overlaps >= iou_threshold, scores * factor, scores)


@torch.no_grad()
def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, iou_threshold: float,
            sigma: float, min_score: float, method: int,
            offset: int) -> Tensor:
    """Lower the scores of boxes that overlap a better one.

    Args:
        boxes (Tensor): x1, y1, x2, y2, shape (N, 4).
        scores (Tensor): Shape (N, ).
        dets (Tensor): Receives boxes and scores, shape (N, 5); its first
            rows are those that remain.
        iou_threshold (float): Overlap from which the methods 0 and 1 act.
        sigma (float): Of method 2.
        min_score (float): Boxes that fall below it are dropped.
        method (int): 0 cuts off, 1 is linear, 2 Gaussian.
        offset (int): See mmcv.

    Returns:
        Tensor: Indices into ``boxes`` of those that remain.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    columns, areas = _columns(boxes, offset)
    values = scores.detach().cpu().numpy().copy()
    iou_threshold, sigma, min_score = np.float32(
        [iou_threshold, sigma, min_score])
    index = np.arange(len(areas))
    i = 0
    while i < len(index):
        # the best of those that are left comes to position i
        swap = np.arange(len(index))
        best = i
        if not np.isnan(values[i]):
            # Gaussian decay by a degenerate box is NaN, which nothing exceeds
            best += int(np.nan_to_num(values[i:], nan=-np.inf).argmax())
        swap[[i, best]] = best, i
        index, values = index[swap], values[swap]
        later = index[i + 1:]
        overlaps = _overlaps(columns[:, index[i:i + 1]], areas[index[i:i + 1]],
                             columns[:, later], areas[later], offset)
        values[i + 1:] = _decay(values[i + 1:], overlaps, iou_threshold, sigma,
                                method)
        remains = ~(values < min_score)
        remains[:i + 1] = True
        # the last ones fill the gaps: decides between equal scores later
        count = int(remains.sum())
        gaps = np.flatnonzero(~remains[:count])
        fill = count + np.flatnonzero(remains[count:])[::-1]
        index[gaps], values[gaps] = index[fill], values[fill]
        index, values = index[:count], values[:count]
        i += 1
    rows = np.concatenate([columns[:, index], values[None]]).T
    dets[:len(index)] = torch.from_numpy(rows)
    return torch.from_numpy(index)


@torch.no_grad()
def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Kept boxes, each with those that it suppresses.

    Args:
        dets (Tensor): x1, y1, x2, y2, score, shape (N, 5).
        iou_threshold (float): Boxes that overlap as much are suppressed.

    Returns:
        list[list[int]]: Indices into ``dets``, by falling score.
    """
    order = dets[:, 4].sort(0, descending=True)[1].cpu().numpy()
    columns, areas = _columns(dets[:, :4], 0)
    groups = []
    while len(order):
        best, order = order[0], order[1:]
        overlaps = _overlaps(columns[:, [best]], areas[[best]],
                             columns[:, order], areas[order], 0)
        hit = overlaps >= np.float32(iou_threshold)
        groups.append([int(best), *order[hit].tolist()])
        order = order[~hit]
    return groups


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int,
                  aligned: bool, offset: int) -> None:
    """Overlaps of two sets of boxes.

    Args:
        bboxes1 (Tensor): x1, y1, x2, y2, shape (N, 4).
        bboxes2 (Tensor): Shape (M, 4), or (N, 4) if ``aligned``.
        ious (Tensor): Receives the result, shape (N, M) or (N, ).
        mode (int): 0 divides by the union, 1 by the area of the first.
        aligned (bool): Whether to compare row by row.
        offset (int): See mmcv.
    """
    first = bboxes1 if aligned else bboxes1[:, None]
    size = (
        torch.minimum(first[..., 2:], bboxes2[..., 2:]) -
        torch.maximum(first[..., :2], bboxes2[..., :2]) + offset)
    inter = size.clamp(min=0).prod(-1)
    area = (first[..., 2:] - first[..., :2] + offset).prod(-1)
    if mode == 0:
        area = area + (bboxes2[..., 2:] - bboxes2[..., :2] +
                       offset).prod(-1) - inter
    ious.copy_(inter / area)
