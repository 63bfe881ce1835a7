"""What all detectors do with their boxes: clip, select, suppress."""
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .operators import suppress
from .refusal import refuse

#: Coders whose boxes are clipped to ``[0, size of the image]``.
CODERS = ('DeltaXYWHBBoxCoder', 'DistancePointBBoxCoder', 'TBLRBBoxCoder')


class Suppression(NamedTuple):
    """Greedy suppression as a config wants it.

    Attributes:
        iou (float): What overlaps more is suppressed.
        of_all (bool): Whether boxes of other classes count, too.
        limit (int): The most that are kept; 0: all.
    """
    iou: float
    of_all: bool
    limit: int

    def __call__(self, boxes: Tensor, scores: Tensor, labels: Tensor,
                 valid: Tensor) -> Tensor:
        """Places of the boxes that stay, best first.

        Args:
            boxes (Tensor): Shape (N, 4).
            scores (Tensor): Shape (N, ), not negative.
            labels (Tensor): int64, shape (N, ).
            valid (Tensor): bool, shape (N, ); others don't exist.
        """
        boxes = torch.where(valid[:, None], boxes, 0)
        if not self.of_all:
            # classes lie apart, by the same sums as in mmcv: these round
            apart = labels.to(boxes.dtype) * (boxes.max() + 1)
            boxes = boxes + apart[:, None]
        scores = torch.where(valid, scores, -1)
        return suppress(boxes, scores, self.iou, self.limit or boxes.shape[0])


def read_suppression(name: str, module: object, cfg: Mapping,
                     limit: int | None) -> Suppression:
    """How a head suppresses.

    Args:
        name (str): Of the head.
        module (object): The head.
        cfg (Mapping): Its ``nms``.
        limit (int | None): Boxes that it keeps.

    Raises:
        NoPostprocess: If it is another kind.
    """
    cfg = dict(cfg or dict(type=None))
    kind = cfg.pop('type', 'nms')
    if kind != 'nms':
        raise refuse(
            name, module, f'suppression of type {kind!r} is none of '
            'ONNX, which has `nms` only')
    of_all = bool(cfg.pop('class_agnostic', False))
    iou = cfg.pop('iou_threshold', cfg.pop('iou_thr', None))
    # of how many boxes mmcv goes class by class, with the same result
    cfg.pop('split_thr', None)
    limits = [n for n in (limit, cfg.pop('max_num', None)) if n and n > 0]
    if cfg or iou is None:
        raise refuse(
            name, module, 'of nms, `iou_threshold`, `class_agnostic` '
            f'and `max_num` are known, not {", ".join(cfg) or cfg}')
    return Suppression(float(iou), of_all, min(limits, default=0))


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Clip corners to an image.

    Args:
        boxes (Tensor): Shape (N, 4).
        size (Tensor): Height and width, float32, shape (2, ).
    """
    height, width = size[0], size[1]
    largest = torch.stack([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), largest)


def decode(coder: object, priors: Tensor, deltas: Tensor,
           size: Tensor) -> Tensor:
    """Boxes of what a head predicts.

    Args:
        coder (object): One of :data:`CODERS`.
        priors (Tensor): Shape (N, 4), or (N, 2) of points.
        deltas (Tensor): Shape (N, 4).
        size (Tensor): Height and width of the image, shape (2, ).
    """
    boxes = coder.decode(priors, deltas, max_shape=None)
    return clip(boxes, size) if coder.clip_border else boxes


def check_coder(name: str, coder: object) -> None:
    """Refuse boxes that are coded in another way.

    Raises:
        NoPostprocess: Names the coder.
    """
    if type(coder).__name__ not in CODERS:
        raise refuse(name, coder, f'of boxes, {", ".join(CODERS)} are known')


def large_enough(boxes: Tensor, least: float) -> Tensor:
    """Which boxes have sides above a length; below 0: all.

    Args:
        boxes (Tensor): Shape (N, 4).
        least (float): In pixels.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    if least < 0:
        return torch.ones_like(boxes[:, 0], dtype=torch.bool)
    return (sides > least).all(1)
