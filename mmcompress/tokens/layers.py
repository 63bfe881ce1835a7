"""Encoder layers that merge tokens between attention and feed-forward."""
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcompress.ops import match_merge
from . import matching
from .matching import Match, num_bipartite
from .merging import merge
from .tokens import Tokens

#: Matchings that a config can name.
MATCHINGS = {
    name: getattr(matching, name)
    for name in ('bipartite', 'attention_graph', 'complete_graph', 'evit',
                 'kth', 'local_cells', 'pitome', 'random', 'threshold')
}
# looked up once, not in each forward
_PARAMETERS = {
    name: dict(inspect.signature(function).parameters)
    for name, function in MATCHINGS.items()
}
#: What a layer hands to a matching that names it.
_GIVEN = ('q', 'k', 'r', 'protected', 'padding', 'mass')


@dataclass(frozen=True)
class Merging:
    """How a layer merges.

    Attributes:
        r (int | None): How many tokens leave; None where the matching decides
            it.
        protected (tuple[int, ...]): Positions of tokens that stay, such as
            the class token, in a sequence of which nothing was merged.
            Negative ones count from the end.
        proportional (bool): Whether the logarithm of a token's mass is added
            to the scores of its key.
        matching (str): Name of a matching, see
            :mod:`mmcompress.tokens.matching`.
        options (dict): Its other arguments.
        normalize (bool): See :func:`~mmcompress.tokens.merging.merge`.
    """
    r: int | None
    protected: tuple[int, ...] = ()
    proportional: bool = True
    matching: str = 'bipartite'
    options: dict = field(default_factory=dict)
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.matching not in MATCHINGS:
            raise ValueError(f'matching is one of {", ".join(MATCHINGS)}, not '
                             f'{self.matching!r}')
        known = _PARAMETERS[self.matching]
        if self.r is None and not self.decides(self.matching):
            raise ValueError(f'the matching {self.matching!r} needs r')
        if self.r and 'r' not in known:
            raise ValueError(f'the matching {self.matching!r} decides how '
                             f'many leave: leave r={self.r} out, and say '
                             'where by `layers`')
        allowed = [name for name in known if name not in _GIVEN]
        wrong = sorted(self.options.keys() - set(allowed))
        if wrong:
            options = ', '.join(allowed) or 'no options'
            raise ValueError(f'the matching {self.matching!r} has no '
                             f'{", ".join(wrong)}; it has {options}')
        if self.normalize and self.options.get('official'):
            raise ValueError(
                'official=True: these weights may be negative, and are no '
                'average. mmcompress.CrossGET merges by them, with '
                'normalize=False; without `official` they are proportional '
                'to the exponential of the importance')
        missing = [
            name for name in allowed if name not in self.options
            and known[name].default is inspect.Parameter.empty
        ]
        if missing:
            raise ValueError(f'the matching {self.matching!r} needs '
                             f'{", ".join(missing)}')

    @staticmethod
    def decides(matching: str) -> bool:
        """Whether a matching can do without ``r``."""
        wants = _PARAMETERS[matching]
        return 'r' not in wants or wants['r'].default is None

    @property
    def is_fused(self) -> bool:
        """Whether one operator matches and merges."""
        return self.matching == 'bipartite'

    def match(self, q: Tensor, k: Tensor, tokens: Tokens) -> Match:
        """Where tokens go.

        Args:
            q (Tensor): Queries, shape (B, H, M, D).
            k (Tensor): Keys, shape (B, H, M, D).
            tokens (Tokens): What they are of.
        """
        wants = _PARAMETERS[self.matching]
        if tokens.padded and 'padding' not in wants:
            raise ValueError(
                f'the matching {self.matching!r} can not follow one that '
                "leaves padding; 'bipartite' and 'threshold' can")
        given = dict(
            q=q,
            k=k,
            r=self.r,
            protected=self.positions(tokens),
            mass=tokens.mass,
            padding=tokens.mass.squeeze(-1) == 0 if tokens.padded else None)
        given = {key: given[key] for key in _GIVEN if key in wants}
        return MATCHINGS[self.matching](**{**given, **self.options})

    def positions(self, tokens: Tokens) -> tuple[int, ...]:
        """Where the protected tokens are now."""
        if tokens.protected is not None:
            return tokens.protected
        num = tokens.x.size(1)
        return tuple(sorted(p % num for p in self.protected))


def run_layer(run: Callable, tokens: Any, with_cp: bool = False) -> Any:
    """Run a layer whose tokens are not a tensor, with checkpoints or without.

    Args:
        run (Callable): The layer.
        tokens (Any): What it takes, with the tensor ``x``.
        with_cp (bool): Whether it is run again in the backward pass.
    """
    if not tokens.x.requires_grad:
        return run(tokens)
    if not torch.is_grad_enabled():
        # within a reentrant checkpoint, which would lose the gradients of
        # all that is not a tensor
        with torch.enable_grad():
            return checkpoint(run, tokens, use_reentrant=False)
    if with_cp:
        return checkpoint(run, tokens, use_reentrant=False)
    return run(tokens)


class MergingLayer(nn.Module):
    """Base of layers that merge; a float layer becomes one by its class.

    Parameters and their names stay. It takes a tensor or :class:`Tokens` and
    returns :class:`Tokens` as soon as something was merged.

    Attributes:
        merging (Merging): How it merges.
        with_cp (bool): Whether activations are computed again in the backward
            pass instead of being kept.
    """
    merging: Merging
    with_cp = False

    def attention(self, x: Tensor,
                  bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's first half.

        Args:
            x (Tensor): Tokens, shape (B, M, C).
            bias (Tensor | None): Of scores, see
                :func:`mmcompress.attention.attend`.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Tokens, queries and keys.
        """
        raise NotImplementedError

    def feed_forward(self, x: Tensor) -> Tensor:
        """The layer's second half, shape (B, M, C)."""
        raise NotImplementedError

    def forward(self, x: Tensor | Tokens) -> Tensor | Tokens:
        """Attend, merge, and feed forward.

        Args:
            x (Tensor | Tokens): Shape (B, N, C).
        """
        return run_layer(self.run, Tokens.of(x), self.with_cp
                         and self.training)

    def run(self, tokens: Tokens) -> Tensor | Tokens:
        """Compute it."""
        bias = None
        if self.merging.proportional and tokens.mass is not None:
            bias = tokens.mass.log().mT.unsqueeze(1)
        x, q, k = self.attention(tokens.x, bias)
        tokens = self.merge(tokens.replaced(x), q, k)
        tokens = tokens.replaced(self.feed_forward(tokens.x))
        return tokens.x if tokens.group is None else tokens

    def merge(self, tokens: Tokens, q: Tensor, k: Tensor) -> Tokens:
        """Merge tokens by their queries and keys."""
        if self.merging.r == 0:
            return tokens
        if self.merging.is_fused and not tokens.padded:
            return self._merge_fused(tokens, k)
        match = self.merging.match(q, k, tokens)
        if match.num == tokens.x.size(1) and not match.pads:
            return tokens
        x, mass = merge(tokens.x, tokens.mass, match, self.merging.normalize)
        return tokens.merged(x, mass, match)

    def _merge_fused(self, tokens: Tokens, k: Tensor) -> Tokens:
        protected = self.merging.positions(tokens)
        if not num_bipartite(tokens.x.size(1), protected, self.merging.r):
            return tokens
        x, mass, slot = match_merge(k, tokens.x, tokens.mass, self.merging.r,
                                    protected)
        first = tuple(range(len(protected)))
        return tokens.merged(x, mass, Match(slot, x.size(1), first))
