"""Vision transformers of mmpretrain that carry a cross token."""
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor

from .layers import MergingLayer
from .matching import Match
from .mmpretrain_layers import MergingEncoderLayer
from .tokens import Tokens


@dataclass(eq=False, repr=False)
class CrossTokens(Tokens):
    """Tokens, with a cross token behind them that no one else sees.

    Args:
        x (Tensor): The last row is the cross token, shape (B, M + 1, C).
        mass (Tensor | None): Also of the cross token, shape (B, M + 1, 1).
        group (Tensor): Row of each token but the cross token, shape (B, N).
        protected (tuple[int, ...] | None): As of :class:`Tokens`.
        crosses (tuple[Tensor, ...]): The cross token as each layer so far
            read it, shape (B, C) each.
    """

    crosses: tuple[Tensor, ...] = ()

    @classmethod
    def start(cls, x: Tensor) -> 'CrossTokens':
        """From tokens and the cross token behind them.

        Args:
            x (Tensor): Shape (B, N + 1, C).
        """
        group = torch.arange(x.size(1) - 1, device=x.device)
        return cls(x, None, group.expand(len(x), -1))

    def crossed(self, offset: Tensor) -> 'CrossTokens':
        """With a cross token that does not depend on earlier layers' weights.

        Args:
            offset (Tensor): Added to its value, shape (C, ).
        """
        cross = self.x[:, -1].detach() + offset
        x = torch.cat([self.x[:, :-1], cross.unsqueeze(1)], dim=1)
        return CrossTokens(
            x,
            self.mass,
            self.group,
            self.protected,
            crosses=(*self.crosses, cross))

    def merged(self, x: Tensor, mass: Tensor, match: Match) -> 'CrossTokens':
        """As of :class:`Tokens`."""
        new = super().merged(x, mass, match)
        return CrossTokens(
            new.x, new.mass, new.group, new.protected, crosses=self.crosses)

    def replaced(self, x: Tensor) -> 'CrossTokens':
        """As of :class:`Tokens`."""
        return CrossTokens(
            x, self.mass, self.group, self.protected, crosses=self.crosses)


class CrossStart(nn.Module):
    """Base of what stands before the layers; appends a cross token.

    It begins as the class token does.
    """

    def forward(self, x: Tensor) -> CrossTokens:
        """Append it, and do what is done with all tokens.

        Args:
            x (Tensor): Embedded tokens, shape (B, N, C).
        """
        return CrossTokens.start(super().forward(
            torch.cat([x, x[:, :1]], dim=1)))


class CrossLayerNorm(CrossStart, nn.LayerNorm):
    """A norm before the layers, of CLIP."""


class CrossIdentity(CrossStart, nn.Identity):
    """Nothing before the layers."""


class CrossOffset(nn.Module):
    """Base of layers with an offset of the cross token, 0 at first.

    Checkpoints of the model without cross tokens load, and leave it at 0.

    Attributes:
        cross_token (nn.Parameter): Shape (C, ).
    """

    def add_offset(self, like: Tensor) -> None:
        """Add the parameter.

        Args:
            like (Tensor): One of the layer's own, of the same width.
        """
        self.cross_token = nn.Parameter(like.detach().new_zeros(len(like)))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args:
                              Any) -> None:
        state_dict.setdefault(f'{prefix}cross_token',
                              torch.zeros_like(self.cross_token))
        super()._load_from_state_dict(state_dict, prefix, *args)


class CrossEncoderLayer(CrossOffset, MergingEncoderLayer):
    """A ``TransformerEncoderLayer`` that merges and has a cross token."""

    def run(self, tokens: CrossTokens) -> CrossTokens:
        """Compute it."""
        return MergingLayer.run(self, tokens.crossed(self.cross_token))


class CrossVisionTransformer(VisionTransformer):
    """A ``VisionTransformer`` with a cross token, which it does not return.

    Raw tokens are merged ones.
    """
    has_cross_token = True

    def forward(self, x: Tensor, with_crosses: bool = False) -> tuple:
        """As of mmpretrain's.

        Args:
            x (Tensor): Images, shape (B, 3, H, W).
            with_crosses (bool): Whether to return cross tokens as well.

        Returns:
            tuple: What ``out_type`` says, of each of ``out_indices``; with
            cross tokens, that and a tuple of these, shape (B, C) each, of
            all layers up to the last that it returns.
        """
        outs, crosses = zip(*super().forward(x))
        return (outs, crosses[-1]) if with_crosses else outs

    def _format_output(self, x: CrossTokens,
                       hw: tuple[int, int]) -> tuple[Any, tuple]:
        """What is returned of a layer, and the cross tokens up to it."""
        if self.out_type == 'raw':
            return x.x[:, :-1], x.crosses
        return super()._format_output(x, hw), x.crosses
