"""Boxes of heads that predict one for each query."""
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from .boxes import clip
from .dense import NAMES
from .refusal import is_inherited, refuse


class QueryPostprocess(nn.Module):
    """Predictions of a DETR: the best of the last layer, no suppression.

    Args:
        name (str): Of the head in the model.
        head (nn.Module): A head of mmdet.
        outs (Any): What it returns.

    Raises:
        NoPostprocess: If it predicts in a way of its own.
    """
    names = NAMES

    def __init__(self, name: str, head: nn.Module, outs: Any) -> None:
        super().__init__()
        known = (
            is_inherited(head, 'predict_by_feat', 'DETRHead',
                         'DeformableDETRHead')
            and is_inherited(head, '_predict_by_feat_single', 'DETRHead'))
        if not known or len(outs) != 2:
            raise refuse(name, head, 'it has a `predict_by_feat` of its own')
        self.head = [head]

    def forward(self, outs: tuple[Tensor, Tensor],
                size: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            outs (tuple[Tensor, Tensor]): Scores, shape (layers, 1, Q,
                classes); centers and sizes of boxes as parts of the image's,
                shape (layers, 1, Q, 4).
            size (Tensor): Height and width of the image, shape (2, ).

        Returns:
            tuple[Tensor]: Boxes in pixels of the preprocessed image, shape
            (n, 4); scores, best first; labels, int64.
        """
        head, = self.head
        logits, predicted = outs[0][-1, 0], outs[1][-1, 0]
        num = (head.test_cfg or {}).get('max_per_img', len(logits))
        if head.loss_cls.use_sigmoid:
            scores, index = logits.sigmoid().flatten().topk(num)
            labels = index % head.num_classes
            places = index.div(head.num_classes, rounding_mode='floor')
        else:
            values, classes = logits.softmax(-1)[:, :-1].max(-1)
            scores, places = values.topk(num)
            labels = classes[places]
        center, sides = predicted[places].split(2, 1)
        boxes = torch.cat([center - 0.5 * sides, center + 0.5 * sides], 1)
        scale = torch.stack([size[1], size[0], size[1], size[0]])
        return clip(boxes * scale, size), scores, labels
