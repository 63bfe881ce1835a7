"""Tokens that were merged, on their way from layer to layer."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from .matching import Match

# over the last dimensions that they are told
_NORMS = {F.layer_norm, F.rms_norm}
# what treats each token alone: its result is merged as its input is
_PER_TOKEN = {F.linear, F.gelu, F.relu, F.silu, F.dropout, *_NORMS}
# what would be kept on a sequence that is gone at once
_ATTACHED = {
    'grad', 'register_hook', 'register_post_accumulate_grad_hook',
    'retain_grad'
}


def _changes(name: str) -> bool:
    """Whether a function of this name changes its first argument."""
    return name.endswith('_') and not name.endswith('__')


def _is_per_token(func: Callable, args: tuple, kwargs: dict) -> bool:
    """Whether a function treats each token alone.

    Args:
        func (Callable): Of torch.
        args (tuple): Those behind the tokens.
        kwargs (dict): Its other arguments.
    """
    if func in _NORMS:
        shape = args[0] if args else kwargs['normalized_shape']
        return len(shape) == 1
    return func in _PER_TOKEN


# a dataclass, since wrappers as FSDP look for tensors in these
@dataclass(eq=False, repr=False)
class Tokens:
    """Merged tokens that look like all of them.

    A layer that merges returns it, and the next one takes it: nothing else
    holds state. Whoever else looks at it sees the full sequence, in which
    each token has the row of the group that it went into. What treats each
    token alone, as a norm, is done on the merged ones. It can not be changed
    in place, and what views of it are written to is lost: the full sequence
    is made anew for each look.

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

    x: Tensor
    mass: Tensor | None = None
    group: Tensor | None = None
    protected: tuple[int, ...] | None = None
    padded: bool = False

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
        kwargs = dict(kwargs or {})
        if not args and 'input' in kwargs:
            args = (kwargs.pop('input'), )
        first, *others = args or (None, )
        if isinstance(first, cls):
            if _is_per_token(func, others, kwargs):
                return first.replaced(func(first.x, *others, **kwargs))
            if _changes(func.__name__):
                first._refuse(func.__name__)
        if isinstance(kwargs.get('out'), cls):
            kwargs['out']._refuse('out=')

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
        if (self.group is not None and isinstance(index, tuple)
                and [type(i) for i in index] == [slice, int]
                and index[0] == slice(None)):
            # one token of each image, such as the class token
            where = self.group[:, index[1]].view(-1, 1, 1)
            return self.x.gather(1, where.expand(-1, -1,
                                                 self.x.size(2))).squeeze(1)
        return self.full()[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name in self.__dataclass_fields__:
            # asked for by copy and pickle before there is anything
            raise AttributeError(name)
        if _changes(name) or name in _ATTACHED:
            self._refuse(name)
        return getattr(self.full(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__:
            self._refuse(f'{name} =')
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f'Tokens({self.x.size(1)} of {self.shape[1]})'

    def _refuse(self, name: str) -> NoReturn:
        raise TypeError(
            f'{name!r} on merged tokens would be lost: whoever looks at them '
            'gets the full sequence as a new tensor, which layers behind do '
            'not see. Take a tensor first, `x = x.clone()`, and hand that on')


def _of_full(name: str) -> Callable:
    """The operator of this name, of the full sequence."""

    def operator(self: Tokens, *others: Any) -> Any:
        return getattr(self.full(), name)(*others)

    return operator


def _refused(name: str) -> Callable:

    def operator(self: Tokens, *others: Any) -> NoReturn:
        self._refuse(name)

    return operator


# Python looks for operators at the class only
for _name in ('add', 'sub', 'mul', 'truediv', 'floordiv', 'mod', 'pow',
              'matmul', 'and', 'or', 'xor'):
    setattr(Tokens, f'__{_name}__', _of_full(f'__{_name}__'))
    setattr(Tokens, f'__r{_name}__', _of_full(f'__r{_name}__'))
    setattr(Tokens, f'__i{_name}__', _refused(f'__i{_name}__'))
for _name in ('eq', 'ne', 'lt', 'le', 'gt', 'ge', 'neg', 'pos', 'abs',
              'invert', 'bool', 'float', 'int', 'array', 'iter'):
    setattr(Tokens, f'__{_name}__', _of_full(f'__{_name}__'))
for _name in ('setitem', 'delitem'):
    setattr(Tokens, f'__{_name}__', _refused(f'__{_name}__'))
