"""Queries and keys of the attention layers that a loss taps."""
from typing import Any

import torch.nn as nn
from torch import Tensor

from .checks import check_keys, check_lists, shapes_of


def heads_at(model: nn.Module, path: str) -> int | None:
    """Number of heads of the attention that a module belongs to.

    Args:
        model (nn.Module): It.
        path (str): Of a module in the attention, such as its ``qkv``.

    Returns:
        int | None: None where nothing that it lies in has ``num_heads``.
    """
    while path:
        num_heads = getattr(model.get_submodule(path), 'num_heads', None)
        if isinstance(num_heads, int):
            return num_heads
        path = path.rpartition('.')[0]
    return None


def split_qkv(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    """Queries and keys from the output of one layer that gives all three.

    Args:
        qkv (Tensor): Shape (N, L, 3 * H * D), as mmpretrain's attentions
            order it: queries, keys, values; in each, heads.
        num_heads (int): H.

    Returns:
        tuple[Tensor, Tensor]: Both of shape (N, H, L, D).
    """
    q, k, _ = qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k


class QueriesAndKeys:
    """Reads queries and keys from what the taps of a loss yield.

    Args:
        loss (nn.Module): Named in messages.
        num_heads (int | None): Of all layers. None: what the attentions that
            are tapped say.
    """

    def __init__(self, loss: nn.Module, num_heads: int | None) -> None:
        if num_heads is not None and num_heads < 1:
            raise ValueError(f'num_heads must be positive, got {num_heads}')
        self.name = type(loss).__name__
        self.num_heads = num_heads
        self.seen: dict[str, list[int | None]] = dict(student=[], teacher=[])

    def look(self, side: str, model: nn.Module, path: str) -> None:
        """Note how many heads there are where a side is tapped.

        Raises:
            ValueError: If it isn't ``num_heads``.
        """
        found = heads_at(model, path)
        if None not in (found, self.num_heads) and found != self.num_heads:
            raise ValueError(
                f'{self.name}: num_heads is {self.num_heads}, and {path} of '
                f'the {side} is of an attention with {found}')
        self.seen[side].append(found)

    def read(self, loss: nn.Module, side: str,
             tapped: Any) -> list[tuple[Tensor, Tensor]]:
        """Queries and keys of each layer.

        Args:
            loss (nn.Module): Named in messages.
            side (str): Whose they are.
            tapped (Any): A list of tensors (N, L, 3 * H * D), one per layer,
                or a dict with such lists ``q`` and ``k`` of tensors (N, H, L,
                D).

        Returns:
            list[tuple[Tensor, Tensor]]: Both of shape (N, H, L, D).

        Raises:
            TypeError: If they are not tensors.
            ValueError: If their shapes are others, or nothing says how many
                heads there are.
        """
        if isinstance(tapped, dict):
            check_keys(loss, ('q', 'k'), **{side: tapped})
            q, k = (_listed(tapped[key]) for key in 'qk')
            check_lists(loss, **{f'{side}.q': q, f'{side}.k': k})
            if shapes_of(q) != shapes_of(k) or any(x.dim() != 4 for x in q):
                raise ValueError(
                    f'{self.name}: q {shapes_of(q)} and k {shapes_of(k)} of '
                    'the layers must be alike, (N, heads, L, D)')
            return list(zip(q, k))
        tapped = _listed(tapped)
        check_lists(loss, **{side: tapped})
        return [self.split(side, i, qkv) for i, qkv in enumerate(tapped)]

    def split(self, side: str, layer: int,
              qkv: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of a layer, from all three.

        Args:
            side (str): Whose they are.
            layer (int): Index among the taps.
            qkv (Tensor): Shape (N, L, 3 * H * D).

        Returns:
            tuple[Tensor, Tensor]: Both of shape (N, H, L, D).

        Raises:
            ValueError: If the shape is another, or H is not known.
        """
        given = (f'{self.name}: layer {layer} of the {side} gives '
                 f'{tuple(qkv.shape)}')
        seen = self.seen[side]
        # a single tap may be of a layer that runs several times
        found = seen[layer if len(seen) > 1 else 0] if seen else None
        num_heads = self.num_heads or found
        if qkv.dim() != 3:
            raise ValueError(f'{given}, which is not the output (N, L, 3 * C) '
                             "of an attention's qkv")
        if num_heads is None:
            raise ValueError(f'{given}, and no module that it lies in has '
                             'num_heads; give it as an argument')
        if qkv.shape[2] % (3 * num_heads):
            raise ValueError(f'{given}, which is not 3 times {num_heads} '
                             'heads wide; tap the qkv of the attention')
        return split_qkv(qkv, num_heads)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, Tensor) else value


def check_alike(loss: nn.Module, student: list[Tensor], teacher: list[Tensor],
                axes: str) -> None:
    """Check that layers of both sides agree but in the last axis.

    Args:
        loss (nn.Module): Named in messages.
        student (list[Tensor]): Four axes, one per layer.
        teacher (list[Tensor]): The same.
        axes (str): What the first three are, for messages.

    Raises:
        ValueError: If not.
    """
    name = type(loss).__name__
    if len(student) != len(teacher) or not student:
        raise ValueError(f'{name}: {len(student)} layers of the student and '
                         f'{len(teacher)} of the teacher; tap as many, in '
                         'the same order')
    for i, (s, t) in enumerate(zip(student, teacher)):
        if s.shape[:3] != t.shape[:3]:
            raise ValueError(
                f'{name}: layer {i} has {axes} {tuple(s.shape[:3])} in the '
                f'student and {tuple(t.shape[:3])} in the teacher, which '
                'nothing adapts: they need the same tokens, heads and windows')
