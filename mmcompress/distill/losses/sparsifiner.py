"""Sparsifiner: predict the teacher's attention, keep its tokens."""
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .attention import QueriesAndKeys
from .base import DistillLoss
from .bi_vit import attention
from .checks import check_keys, check_lists, check_tensors
from .kd import softened_kl


def reconstruction_error(approx: Tensor, attn: Tensor) -> Tensor:
    """Squared differences of a layer's attention, as a sum.

    Args:
        approx (Tensor): Predicted, shape (N, H, R, L).
        attn (Tensor): Shape (N, H, L, L), of which the last R rows count:
            nothing is predicted for class and distillation token.

    Returns:
        Tensor: Scalar.
    """
    return (approx - attn[:, :, -approx.shape[2]:]).square().sum()


@MODELS.register_module()
class AttentionReconLoss(DistillLoss):
    """Loss of Sparsifiner's first stage (Wei et al., CVPR 2023,
    arXiv:2303.13755).

    ``loss_weight`` times :func:`reconstruction_error`, as a mean over layers.

    The student's tap is the list of the predictors, such as
    ``'backbone.layers.0.attn.mask_predictor'``. The teacher's is that of the
    attentions' ``qkv``, such as ``'backbone.layers.0.attn.qkv'``, or of maps.

    Args:
        reduction (str): ``'sum'``: over images, so that the weight belongs to
            a batch size, as in the official code (168 of each GPU);
            ``'mean_batch'``: a mean over images.
        num_heads (int | None): Of the teacher. None: what the attentions that
            are tapped say.
        loss_weight (float): Defaults to 0.01, for ``'sum'``.

    Raises:
        ValueError: If ``reduction`` is neither, or in ``forward`` if layers
            or shapes don't correspond.
    """

    takes_levels = True

    def __init__(self,
                 reduction: str = 'sum',
                 num_heads: int | None = None,
                 loss_weight: float = 0.01) -> None:
        super().__init__()
        if reduction not in ('sum', 'mean_batch'):
            raise ValueError("reduction must be 'sum' or 'mean_batch', got "
                             f'{reduction!r}')
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.queries_and_keys = QueriesAndKeys(self, num_heads)

    def look_at_teacher_tap(self, model: nn.Module, path: str) -> None:
        """Note the teacher's number of heads."""
        self.queries_and_keys.look('teacher', model, path)

    def forward(self, student: Any, teacher: Any) -> Tensor:
        """Compute the loss.

        Args:
            student (Any): Of each layer, predicted attention (N, H, R, L).
            teacher (Any): Of each layer, ``qkv`` (N, L, 3 * H * D) or
                attention (N, H, L, L).

        Returns:
            Tensor: Scalar; 0 without images.
        """
        check_lists(self, student=student, teacher=teacher)
        if len(student) != len(teacher) or not student:
            raise ValueError(
                f'AttentionReconLoss: {len(student)} predictors of the '
                f'student and {len(teacher)} attentions of the teacher; tap '
                'as many, in the same order')
        maps = [self._maps(i, x.detach()) for i, x in enumerate(teacher)]
        for i, (s, t) in enumerate(zip(student, maps)):
            shape = (*t.shape[:2], *t.shape[3:])
            if s.dim() != 4 or (*s.shape[:2], s.shape[3]) != shape or \
                    s.shape[2] > t.shape[2]:
                raise ValueError(
                    f'AttentionReconLoss: layer {i} predicts {tuple(s.shape)}'
                    f' and the teacher attends {tuple(t.shape)}; they need '
                    'the same images, heads and tokens, and taps of '
                    'mask_predictor')
        total = self.zero(*student)
        if not student[0].numel():
            return total
        for s, t in zip(student, maps):
            total = total + reconstruction_error(at_least_float32(s), t)
        if self.reduction == 'mean_batch':
            total = total / len(student[0])
        return self.loss_weight * total / len(student)

    def _maps(self, layer: int, x: Tensor) -> Tensor:
        """The teacher's attention of a layer, shape (N, H, L, L)."""
        if x.dim() == 4:
            return at_least_float32(x)
        return attention(*self.queries_and_keys.split('teacher', layer, x))


@MODELS.register_module()
class TokenDistillLoss(DistillLoss):
    """Loss of Sparsifiner's second stage on the last layer's patches.

    - ``'mse'``: the mean over tokens and channels of squared differences;
    - ``'kl'``: each token's channels are logits; the divergence from the
      teacher's distribution to the student's, as a mean over tokens.

    Taps are the last norm, such as ``'backbone.ln1'``. Where tokens are
    pruned, only those count that are left: the student's is then
    ``dict(tokens='backbone.ln1',
    mask='backbone.layers.9.token_pruner')`` with the last layer that
    prunes.

    Args:
        criterion (str): ``'mse'`` or ``'kl'``.
        num_extra_tokens (int): Tokens before the patches, which don't count.
        loss_weight (float): Defaults to 0.5.

    Raises:
        ValueError: If ``criterion`` is neither, or in ``forward`` if shapes
            differ.
    """

    reads_only = ('mask', )

    def __init__(self,
                 criterion: str = 'mse',
                 num_extra_tokens: int = 1,
                 loss_weight: float = 0.5) -> None:
        super().__init__()
        if criterion not in ('mse', 'kl'):
            raise ValueError(
                f"criterion must be 'mse' or 'kl', got {criterion!r}")
        self.criterion = criterion
        self.num_extra_tokens = num_extra_tokens
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | dict, teacher: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student (Tensor | dict): Tokens, shape (N, extra + L, C); or a
                dict of these, ``tokens``, and of ``mask``, (N, L).
            teacher (Tensor): Tokens, shape (N, extra + L, C).

        Returns:
            Tensor: Scalar; 0 without images or patches that are left.
        """
        mask = None
        if isinstance(student, dict):
            check_keys(self, ('tokens', 'mask'), student=student)
            student, mask = student['tokens'], student['mask']
        check_tensors(self, student=student, teacher=teacher)
        if student.shape != teacher.shape or student.dim() != 3:
            raise ValueError(
                f'TokenDistillLoss: student {tuple(student.shape)} and '
                f'teacher {tuple(teacher.shape)} must be tokens (N, L, C) of '
                'the same shape')
        zero = self.zero(student)
        student, teacher = (
            at_least_float32(x[:, self.num_extra_tokens:])
            for x in (student, teacher.detach()))
        if mask is None:
            mask = torch.ones_like(student[..., 0])
        elif mask.shape != student.shape[:2]:
            raise ValueError(
                f'TokenDistillLoss: the mask {tuple(mask.shape)} is not one '
                f'of the patches {tuple(student.shape[:2])}; is '
                f'num_extra_tokens={self.num_extra_tokens} right?')
        if self.criterion == 'mse':
            # as a mean over channels
            cost = F.mse_loss(student, teacher, reduction='none').mean(-1)
        else:
            cost = softened_kl(student, teacher, 1.0, -1).sum(-1)
        left = mask.to(cost.dtype)
        mean = torch.where(left > 0, cost, 0).sum() / left.sum().clamp(min=1)
        return zero + self.loss_weight * mean
