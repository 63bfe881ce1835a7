"""Classes of images and of pixels."""
from typing import Any

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .refusal import is_inherited, refuse


class ClassPostprocess(nn.Module):
    """Probabilities of a classifier.

    Args:
        model (nn.Module): A classifier of mmpretrain.
        outs (Any): What its head returns.

    Raises:
        NoPostprocess: If its head predicts in a way of its own.
    """

    def __init__(self, model: nn.Module, outs: Any) -> None:
        super().__init__()
        head = model.head
        kinds = ('ClsHead', 'MultiLabelClsHead')
        if not (is_inherited(model, 'predict', 'ImageClassifier')
                and isinstance(outs, Tensor)
                and is_inherited(head, 'predict', *kinds)
                and is_inherited(head, '_get_predictions', *kinds)):
            raise refuse('head', head, 'predictions of '
                         f'{" and ".join(kinds)} are known')
        self.is_multi = is_inherited(head, '_get_predictions', kinds[1])
        self.names = ('scores', ) if self.is_multi else ('scores', 'labels')

    def forward(self, logits: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            logits (Tensor): Shape (1, classes).
            size (Tensor): Not looked at.

        Returns:
            tuple[Tensor]: Scores, shape (1, classes); the best class, shape
            (1, ), unless there are several labels.
        """
        if self.is_multi:
            return (logits.sigmoid(), )
        scores = F.softmax(logits, 1)
        return scores, scores.argmax(1)


class MapPostprocess(nn.Module):
    """Classes of pixels.

    Args:
        model (nn.Module): A segmentor of mmseg.
        outs (Any): What its head returns.
        size (tuple[int, int]): Of images.

    Raises:
        NoPostprocess: If it predicts in a way of its own, or by windows that
            are smaller than images.
    """
    names = ('labels', )

    def __init__(self, model: nn.Module, outs: Any, size: tuple[int,
                                                                int]) -> None:
        super().__init__()
        for method in ('predict', 'encode_decode', 'inference'):
            if not is_inherited(model, method, 'EncoderDecoder'):
                raise refuse('model', model, f'it has a `{method}` of its own')
        head = model.decode_head
        if not (is_inherited(head, 'predict', 'BaseDecodeHead')
                and is_inherited(head, 'predict_by_feat', 'BaseDecodeHead')
                and isinstance(outs, Tensor)):
            raise refuse('decode_head', head,
                         'it has a `predict_by_feat` of its own')
        window = model.test_cfg.get('crop_size')
        if model.test_cfg.mode == 'slide' and (window[0] < size[0]
                                               or window[1] < size[1]):
            raise refuse(
                'model', model, 'it slides a window of '
                f'{window[0]} x {window[1]} over images of {size[0]} x '
                f'{size[1]}. Export it with --size {window[0]} {window[1]}, '
                "or with --cfg-options model.test_cfg.mode='whole'")
        self.size = size
        self.align_corners = head.align_corners
        self.threshold = head.threshold if outs.shape[1] == 1 else None

    def forward(self, logits: Tensor, size: Tensor) -> tuple[Tensor]:
        """Predict.

        Args:
            logits (Tensor): Shape (1, classes, h, w).
            size (Tensor): Not looked at.

        Returns:
            tuple[Tensor]: Classes, int64, shape (1, H, W).
        """
        logits = F.interpolate(
            logits,
            self.size,
            mode='bilinear',
            align_corners=self.align_corners)
        if self.threshold is not None:
            return ((logits.sigmoid() > self.threshold)[:, 0].long(), )
        return (logits.argmax(1), )
