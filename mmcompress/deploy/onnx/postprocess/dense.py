"""Boxes of heads that predict some at every place of their features."""
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn as nn
from torch import Tensor

from .boxes import check_coder, decode, large_enough, read_suppression
from .refusal import is_inherited, refuse

#: Outputs of all detectors.
NAMES = ('boxes', 'scores', 'labels')


class Candidates(NamedTuple):
    """The best predictions of a level, before boxes are decoded.

    Attributes:
        scores (Tensor): Shape (n, ).
        labels (Tensor): int64, shape (n, ).
        places (Tensor): Of their priors, int64, shape (n, ).
        valid (Tensor): Which are above the threshold, bool, shape (n, ).
    """
    scores: Tensor
    labels: Tensor
    places: Tensor
    valid: Tensor


def best(scores: Tensor, threshold: float, num: int) -> Candidates:
    """The best pairs of prior and class.

    How many are above the threshold depends on the image; how many are
    returned does not.

    Args:
        scores (Tensor): Shape (P, classes).
        threshold (float): Valid are scores above.
        num (int): The most that are returned; 0 and less: all.
    """
    total = scores.numel()
    top, index = scores.flatten().topk(min(num, total) if num > 0 else total)
    num_classes = scores.shape[1]
    places = index.div(num_classes, rounding_mode='floor')
    valid = top > threshold
    return Candidates(top, index % num_classes, places, valid)


def rows(maps: Tensor, width: int) -> Tensor:
    """Predictions of an image by priors.

    Args:
        maps (Tensor): Shape (1, priors * width, H, W).
        width (int): Numbers per prior.

    Returns:
        Tensor: Shape (H * W * priors, width).
    """
    return maps[0].permute(1, 2, 0).reshape(-1, width)


class Priors(nn.Module):
    """Priors of a level, by their places.

    Args:
        generator (object): Of all levels.
        level (int): Which.
        size (tuple[int, int]): Of its features.
        with_stride (bool): Whether points have their strides behind.
    """

    def __init__(self, generator: object, level: int, size: tuple[int, int],
                 with_stride: bool) -> None:
        super().__init__()
        options = dict(with_stride=True) if with_stride else {}
        made = generator.single_level_grid_priors(
            size, level_idx=level, device='cpu', **options)
        # of anchors, those of one place and the places: a file of all of
        # them can be larger than that of a network in 8 bits
        anchors = getattr(generator, 'base_anchors', None)
        self.register_buffer('table', made)
        self.register_buffer('shifts', None)
        if anchors is not None:
            base = anchors[level]
            width, height = generator.strides[level]
            y, x = torch.meshgrid(
                torch.arange(size[0]) * height,
                torch.arange(size[1]) * width,
                indexing='ij')
            shifts = torch.stack([x, y, x, y], -1).reshape(-1, 4).to(base)
            if torch.equal((base + shifts[:, None]).reshape_as(made), made):
                self.table, self.shifts = base.clone(), shifts

    def forward(self, places: Tensor) -> Tensor:
        """Those at some places, shape (n, 4) or (n, 2)."""
        if self.shifts is None:
            return self.table[places]
        num = len(self.table)
        shifts = self.shifts[places.div(num, rounding_mode='floor')]
        return self.table[places % num] + shifts


class DensePostprocess(nn.Module):
    """Predictions of a dense head.

    Args:
        name (str): Of the head in the model.
        head (nn.Module): A head of mmdet.
        outs (tuple): What it returns for an image of the size to export.

    Raises:
        NoPostprocess: If it predicts in a way of its own.
    """
    names = NAMES
    with_stride = False

    def __init__(self, name: str, head: nn.Module, outs: tuple) -> None:
        super().__init__()
        self.head = [head]
        self.cfg = head.test_cfg or {}
        self.suppression = read_suppression(name, head, self.cfg.get('nms'),
                                            self.limit())
        loss = getattr(head, 'loss_cls', None)
        if getattr(loss, 'custom_cls_channels', False):
            raise refuse(f'{name}.loss_cls', loss,
                         'it has an activation of its own')
        self.check(name, head)
        self.priors = nn.ModuleList(
            Priors(head.prior_generator, i, tuple(scores.shape[-2:]),
                   self.with_stride) for i, scores in enumerate(outs[0]))

    def limit(self) -> int | None:
        """Boxes that are kept at most."""
        return self.cfg.get('max_per_img')

    def check(self, name: str, head: nn.Module) -> None:
        """Refuse what is not known.

        Raises:
            NoPostprocess: Names it.
        """
        check_coder(name, head.bbox_coder)

    def activated(self, scores: Tensor) -> Tensor:
        """Scores of classes, shape (P, classes)."""
        head, = self.head
        scores = rows(scores, head.cls_out_channels)
        if head.use_sigmoid_cls:
            return scores.sigmoid()
        return scores.softmax(-1)[:, :-1]

    def select(self, level: int, scores: Tensor) -> Candidates:
        """The best of a level."""
        return best(
            self.activated(scores), self.cfg.get('score_thr', 0),
            self.cfg.get('nms_pre', -1))

    def boxes(self, level: int, predicted: Tensor, places: Tensor,
              size: Tensor) -> Tensor:
        """Boxes of a level at some places, shape (n, 4)."""
        head, = self.head
        deltas = rows(predicted, head.bbox_coder.encode_size)[places]
        return decode(head.bbox_coder, self.priors[level](places), deltas,
                      size)

    def forward(self, outs: tuple, size: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            outs (tuple): What the head returns: scores, boxes, and maybe
                factors of scores, of all levels.
            size (Tensor): Height and width of the image without padding,
                float32, shape (2, ).

        Returns:
            tuple[Tensor]: Boxes in pixels of the preprocessed image, shape
            (n, 4); scores; labels, int64.
        """
        scores, predicted = outs[:2]
        factors = outs[2] if len(outs) > 2 else None
        found = []
        for level in range(len(scores)):
            top = self.select(level, scores[level])
            boxes = self.boxes(level, predicted[level], top.places, size)
            values = top.scores
            if factors is not None:
                factor = rows(factors[level], 1)[:, 0].sigmoid()
                values = values * factor[top.places]
            found.append((boxes, values, top.labels, top.valid))
        boxes, values, labels, valid = map(torch.cat, zip(*found))
        valid = valid & large_enough(boxes, self.cfg.get('min_bbox_size', -1))
        kept = self.suppression(boxes, values, labels, valid)
        return boxes[kept], values[kept], self.labels(labels[kept])

    def labels(self, labels: Tensor) -> Tensor:
        """What the head says of classes."""
        return labels


class DistributionPostprocess(DensePostprocess):
    """Predictions of GFL, whose sides are distributions."""

    def check(self, name: str, head: nn.Module) -> None:
        """All of GFL's heads are alike."""
        check_coder(name, head.bbox_coder)

    def boxes(self, level: int, predicted: Tensor, places: Tensor,
              size: Tensor) -> Tensor:
        """Boxes of a level at some places, shape (n, 4)."""
        head, = self.head
        width = predicted.shape[1] // head.num_base_priors
        sides = head.integral(rows(predicted, width)[places])
        sides = sides * head.prior_generator.strides[level][0]
        centers = head.anchor_center(self.priors[level](places))
        return decode(head.bbox_coder, centers, sides, size)


class ProposalPostprocess(DensePostprocess):
    """Proposals of an RPN, whose levels don't suppress each other."""

    def select(self, level: int, scores: Tensor) -> Candidates:
        """The best of a level; labels are levels."""
        top = best(self.activated(scores), -1., self.cfg.get('nms_pre', -1))
        return top._replace(labels=torch.full_like(top.labels, level))

    def labels(self, labels: Tensor) -> Tensor:
        """Proposals have one class."""
        return torch.zeros_like(labels)


class YOLOXPostprocess(DensePostprocess):
    """Predictions of YOLOX: one class for each place, and no limit."""
    with_stride = True

    def limit(self) -> None:
        """All that are not suppressed are kept."""

    def check(self, name: str, head: nn.Module) -> None:
        """It decodes by itself."""
        if not is_inherited(head, '_bbox_decode', 'YOLOXHead'):
            raise refuse(name, head, 'it decodes boxes in a way of its own')

    def forward(self, outs: tuple, size: Tensor) -> tuple[Tensor, ...]:
        """Predict; see :meth:`DensePostprocess.forward`."""
        head, = self.head
        scores = torch.cat([rows(x, head.cls_out_channels) for x in outs[0]])
        predicted = torch.cat([rows(x, 4) for x in outs[1]])
        sure = torch.cat([rows(x, 1)[:, 0] for x in outs[2]]).sigmoid()
        priors = torch.cat([level.table for level in self.priors])
        boxes = head._bbox_decode(priors, predicted[None])[0]
        values, labels = scores.sigmoid().max(1)
        values = values * sure
        valid = values >= self.cfg['score_thr']
        kept = self.suppression(boxes, values, labels, valid)
        return boxes[kept], values[kept], labels[kept]


_KINDS: dict[str, Callable] = dict(
    BaseDenseHead=DensePostprocess,
    GFLHead=DistributionPostprocess,
    RPNHead=ProposalPostprocess)


def dense_postprocess(name: str, head: nn.Module,
                      outs: Any) -> DensePostprocess:
    """Predictions of a dense head of mmdet.

    Args:
        name (str): Of the head in the model.
        head (nn.Module): The head.
        outs (Any): What it returns for an image of the size to export.

    Raises:
        NoPostprocess: If it predicts in a way of its own.
    """
    if is_inherited(head, 'predict_by_feat', 'YOLOXHead'):
        if is_inherited(head, '_bbox_post_process', 'YOLOXHead'):
            return YOLOXPostprocess(name, head, outs)
    if not (is_inherited(head, 'predict_by_feat', 'BaseDenseHead')
            and is_inherited(head, 'predict', 'BaseDenseHead')):
        raise refuse(name, head, 'it has a `predict_by_feat` of its own')
    for owner, kind in _KINDS.items():
        after = 'RPNHead' if owner == 'RPNHead' else 'BaseDenseHead'
        if (is_inherited(head, '_predict_by_feat_single', owner)
                and is_inherited(head, '_bbox_post_process', after)):
            return kind(name, head, outs)
    raise refuse(name, head, 'it selects or decodes boxes in a way of its own')
