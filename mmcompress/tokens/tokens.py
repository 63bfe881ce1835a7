"""Tokens that were merged, on their way from layer to layer."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .matching import Match

# what treats each token alone: its result is merged as its input is
_PER_TOKEN = {
    F.layer_norm, F.linear, F.gelu, F.relu, F.silu, F.dropout, F.rms_norm
}


class Tokens:
    """Merged tokens that look like all of them.

    A layer that merges returns it, and the next one takes it: nothing else
    holds state. Whoever else looks at it sees the full sequence, in which
    each token has the row of the group that it went into. What treats each
    token alone, as a norm, is done on the merged ones.

    Args:
        x (Tensor): One row per group, shape (B, M, C).
        mass (Tensor | None): How many tokens each stands for, float32 of
            shape (B, M, 1); 0 is padding. None: each for itself.
        group (Tensor | None): The group of each token, int64 of shape (B, N).
            None: nothing was merged.
        protected (tuple[int, ...] | None): Rows of the tokens that must not
            be merged. None: nothing was merged.
        padded (bool): Whether some rows may be padding.
    """

    def __init__(self,
                 x: Tensor,
                 mass: Tensor | None = None,
                 group: Tensor | None = None,
                 protected: tuple[int, ...] | None = None,
                 padded: bool = False) -> None:
        self.x = x
        self.mass = mass
        self.group = group
        self.protected = protected
        self.padded = padded

    @classmethod
    def of(cls, x: 'Tensor | Tokens') -> 'Tokens':
        """Tokens as they are, or a tensor of which none were merged."""
        return x if isinstance(x, cls) else cls(x)

    def full(self) -> Tensor:
        """The full sequence, shape (B, N, C)."""
        if self.group is None:
            return self.x
        index = self.group.unsqueeze(-1).expand(-1, -1, self.x.size(-1))
        return self.x.gather(1, index)

    def merged(self, x: Tensor, mass: Tensor, match: Match) -> 'Tokens':
        """What a merge makes of these.

        Args:
            x (Tensor): New rows, shape (B, M', C).
            mass (Tensor): New masses, shape (B, M', 1).
            match (Match): Where each row of these went.
        """
        slot = match.slot
        group = slot if self.group is None else slot.gather(1, self.group)
        return Tokens(x, mass, group, match.protected, self.padded
                      or match.pads)

    def replaced(self, x: Tensor) -> 'Tokens':
        """Other rows for the same groups.

        Args:
            x (Tensor): Shape (B, M, C).
        """
        return Tokens(x, self.mass, self.group, self.protected, self.padded)

    @classmethod
    def __torch_function__(cls,
                           func: Any,
                           types: Any,
                           args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func in _PER_TOKEN and isinstance(args[0], cls):
            return args[0].replaced(func(args[0].x, *args[1:], **kwargs))

        def unmerge(value: Any) -> Any:
            if isinstance(value, cls):
                return value.full()
            if isinstance(value, (tuple, list)):
                return type(value)(map(unmerge, value))
            return value

        return func(*unmerge(args), **{
            key: unmerge(value)
            for key, value in kwargs.items()
        })

    # ---- A tensor of the full length ---------------------------------------

    @property
    def shape(self) -> torch.Size:
        """Of the full sequence."""
        length = self.x if self.group is None else self.group
        return torch.Size((self.x.size(0), length.size(1), self.x.size(2)))

    def size(self, dim: int | None = None) -> torch.Size | int:
        """As of the full sequence."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.x.size(0)

    def __getitem__(self, index: Any) -> Tensor:
        if (isinstance(index, tuple) and len(index) == 2
                and index[0] == slice(None) and isinstance(index[1], int)
                and self.group is not None):
            # one token of each image, such as the class token
            where = self.group[:, index[1]].view(-1, 1, 1)
            return self.x.gather(1, where.expand(-1, -1,
                                                 self.x.size(2))).squeeze(1)
        return self.full()[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name in ('x', 'mass', 'group',
                                             'protected'):
            # asked for by copy and pickle before there is anything
            raise AttributeError(name)
        return getattr(self.full(), name)

    def __add__(self, other: Any) -> Tensor:
        return self.full() + other

    __radd__ = __add__

    def __repr__(self) -> str:
        return f'Tokens({self.x.size(1)} of {self.shape[1]})'
