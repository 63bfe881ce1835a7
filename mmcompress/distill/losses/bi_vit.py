"""Bi-ViT: a student ranks what it attends to as the teacher does."""
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .attention import QueriesAndKeys, check_alike
from .base import DistillLoss
from .checks import check_lists, shapes_of


def attention(q: Tensor, k: Tensor) -> Tensor:
    """Attention of queries to keys, ``softmax(q k^T / sqrt(D))``.

    Args:
        q (Tensor): Shape (N, H, R, D).
        k (Tensor): Shape (N, H, L, D).

    Returns:
        Tensor: At least float32, shape (N, H, R, L).
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k = at_least_float32(q), at_least_float32(k)
        return (q @ k.mT * max(q.shape[-1], 1)**-0.5).softmax(-1)


def ranking_loss(student: Tensor, teacher: Tensor,
                 pairs: tuple[Tensor, Tensor], theta: float) -> Tensor:
    """How far pairs of a row are from the teacher's order, as a mean.

    Args:
        student (Tensor): Attention, shape (N, H, R, L).
        teacher (Tensor): Same shape.
        pairs (tuple[Tensor, Tensor]): Columns of the first and of the second
            of each pair, of shapes that expand to (N, H, R, P).
        theta (float): By how much the student's must differ to cost nothing,
            in the teacher's order. Pairs of which the teacher's are equal
            never cost anything.

    Returns:
        Tensor: Scalar.
    """
    shape = (*student.shape[:-1], pairs[0].shape[-1])
    first, second = (columns.expand(shape) for columns in pairs)
    order = (teacher.gather(-1, first) - teacher.gather(-1, second)).sign()
    margin = student.gather(-1, first) - student.gather(-1, second)
    cost = (theta - order * margin).clamp(min=0)
    return torch.where(order != 0, cost, 0).mean()


def all_pairs(num: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All pairs of columns, each once, shape (num * (num - 1) / 2, )."""
    first, second = torch.triu_indices(num, num, 1, device=device)
    return first, second


def random_pairs(attention: Tensor, num_pairs: int) -> tuple[Tensor, Tensor]:
    """Pairs of different columns, with replacement.

    Args:
        attention (Tensor): Shape (N, H, R, L).
        num_pairs (int): How many for each row.

    Returns:
        tuple[Tensor, Tensor]: Both of shape (R, num_pairs): images and heads
        share them.
    """
    rows, num = attention.shape[-2:]
    shape, device = (rows, num_pairs), attention.device
    first = torch.randint(num, shape, device=device)
    apart = torch.randint(1, num, shape, device=device)
    return first, (first + apart) % num


@MODELS.register_module()
class RankDistillLoss(DistillLoss):
    """Ranking-aware distillation of Bi-ViT (Li et al., AAAI 2024,
    arXiv:2305.12354).

    ``loss_weight`` times :func:`ranking_loss` of the attention, as a mean over
    images, heads and rows, and a sum over layers. With ``theta=0`` it is 0 if
    and only if the student orders each row as the teacher does, whatever the
    values.

    A tap is the list of the layers, each one of

    - ``qkv`` of an attention, such as ``'backbone.layers.0.attn.qkv'`` in
      mmpretrain's vision transformers, whose attention has no module of its
      own: ``softmax(q k^T / sqrt(D))`` is computed from it;
    - a softmax, such as ``'backbone.stages.0.blocks.0.attn.w_msa.softmax'`` in
      its Swin, where a bias and a mask are added before.

    A dict ``dict(q=[...], k=[...])`` of what normalises the student's queries
    and keys does as well. Both sides may differ in this.

    The paper's own formula and its code are not public: this is what its
    description says, a hinge on the order of pairs.

    Args:
        theta (float | str): See :func:`ranking_loss`. ``'1/N'``: the mean
            value of a row of N.
        num_pairs (int | None): How many random pairs of each row count, where
            there are more; images and heads share them. None: all pairs.
        num_heads (int | None): See :class:`DGDLoss`.
        loss_weight (float): Defaults to 1.0.

    Raises:
        ValueError: If an argument is none of these, or in ``forward`` if
            layers, images, heads or tokens don't correspond.

    Attributes:
        draw_pairs (Callable): Attention and number -> pairs. Replace it on an
            instance to inject draws. Defaults to :func:`random_pairs`.
    """

    takes_levels = True

    def __init__(self,
                 theta: float | str = 0.0,
                 num_pairs: int | None = 256,
                 num_heads: int | None = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__()
        if theta != '1/N' and (isinstance(theta, str) or theta < 0):
            raise ValueError("theta must be '1/N' or a number that is not "
                             f'negative, got {theta!r}')
        if num_pairs is not None and num_pairs < 1:
            raise ValueError('num_pairs must be positive, or None for all '
                             f'pairs, got {num_pairs}')
        self.theta = theta
        self.num_pairs = num_pairs
        self.loss_weight = loss_weight
        self.draw_pairs = random_pairs
        self.queries_and_keys = QueriesAndKeys(self, num_heads)

    def look_at_tap(self, model: nn.Module, path: str) -> None:
        """Note the student's number of heads."""
        self.queries_and_keys.look('student', model, path)

    def look_at_teacher_tap(self, model: nn.Module, path: str) -> None:
        """Note the teacher's number of heads."""
        self.queries_and_keys.look('teacher', model, path)

    def forward(self, student: Any, teacher: Any) -> Tensor:
        """Compute the loss.

        Args:
            student (Any): Of each layer, ``qkv`` (N, L, 3 * H * D) or
                attention (N, H, R, L); or a dict of lists ``q`` and ``k``,
                (N, H, L, D).
            teacher (Any): The same, of another D perhaps.

        Returns:
            Tensor: Scalar; 0 without images or with a single column.
        """
        rows_s = self._attention('student', student)
        rows_t = self._attention('teacher', teacher)
        check_alike(self, rows_s, rows_t, '(images, heads, rows)')
        shapes = shapes_of(rows_s), shapes_of(rows_t)
        if shapes[0] != shapes[1]:
            raise ValueError('RankDistillLoss: rows of the student and of the '
                             f'teacher differ in length: {shapes[0]} and '
                             f'{shapes[1]}')
        total = self.zero(*rows_s)
        for s, t in zip(rows_s, rows_t):
            num = s.shape[-1]
            if not s.numel() or num == 1:
                continue
            theta = 1 / num if self.theta == '1/N' else self.theta
            total = total + ranking_loss(s, t.detach(), self._pairs(s), theta)
        return self.loss_weight * total

    def _pairs(self, attention: Tensor) -> tuple[Tensor, Tensor]:
        num = attention.shape[-1]
        if self.num_pairs is None or num * (num - 1) // 2 <= self.num_pairs:
            return all_pairs(num, attention.device)
        return self.draw_pairs(attention, self.num_pairs)

    def _attention(self, side: str, tapped: Any) -> list[Tensor]:
        """Attention of each layer, at least float32, shape (N, H, R, L)."""
        reader = self.queries_and_keys
        if isinstance(tapped, dict):
            layers = reader.read(self, side, tapped)
        else:
            tapped = [tapped] if isinstance(tapped, Tensor) else tapped
            check_lists(self, **{side: tapped})
            layers = [
                x if x.dim() == 4 else reader.split(side, i, x)
                for i, x in enumerate(tapped)
            ]
        return [
            at_least_float32(x) if isinstance(x, Tensor) else attention(*x)
            for x in layers
        ]
