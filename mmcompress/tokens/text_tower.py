"""The text transformer of CLIP, whose tokens can become fewer."""
from dataclasses import dataclass, replace

import torch
from mmpretrain.models.utils.clip_generator_helper import \
    ResidualAttentionBlock
from torch import Tensor

from mmcompress.attention import attend
from .clip_classes import CLIPTransformer
from .cross_tokens import CrossOffset
from .layers import Merging, run_layer
from .matching import complete_graph
from .merging import merge


@dataclass(frozen=True)
class TextState:
    """Tokens of texts on their way from block to block.

    Attributes:
        x (Tensor): Shape (B, T, C).
        end (Tensor): Where each text ends, int64 of shape (B, ).
        mass (Tensor | None): How many tokens each stands for, shape
            (B, T, 1); None: one.
        crosses (tuple[Tensor, ...]): Cross token of each block, shape (B, C).
    """
    x: Tensor
    end: Tensor
    mass: Tensor | None = None
    crosses: tuple[Tensor, ...] = ()

    def at_end(self) -> Tensor:
        """The token at each text's end, shape (B, C)."""
        index = self.end.view(-1, 1, 1).expand(-1, -1, self.x.size(2))
        return self.x.gather(1, index).squeeze(1)

    def bias(self) -> Tensor:
        """Of scores: none sees what is behind, large ones are seen more.

        Returns:
            Tensor: Shape (B or 1, 1, T, T).
        """
        num = self.x.size(1)
        mask = torch.ones((num, num), dtype=torch.bool, device=self.x.device)
        bias = torch.zeros_like(mask, dtype=self.x.dtype)
        bias = bias.masked_fill(mask.triu(1), float('-inf'))[None, None]
        if self.mass is None:
            return bias
        return bias + self.mass.log().mT.unsqueeze(1)


class TextBlock(ResidualAttentionBlock):
    """A block of CLIP's text transformer, from state to state."""

    def forward(self, state: TextState) -> TextState:
        """Run it."""
        return run_layer(self.run, state)

    def run(self, state: TextState) -> TextState:
        """Attention, what becomes of the tokens, feed-forward."""
        y, q, k = attend(self.attn, self.ln_1(state.x), state.bias())
        state = self.reduce(replace(state, x=state.x + y), q, k)
        return replace(state, x=state.x + self.mlp(self.ln_2(state.x)))

    def reduce(self, state: TextState, q: Tensor, k: Tensor) -> TextState:
        """Tokens after the attention; here, all of them."""
        return state


class CrossTextBlock(CrossOffset, TextBlock):
    """A block that merges and has a cross token, behind all others.

    The cross token starts anew from the text's end. That can not see it, and
    its own query says what is important: features of texts do not depend on
    the offset.

    Attributes:
        merging (Merging): How it merges.
    """
    merging: Merging

    def run(self, state: TextState) -> TextState:
        """With a new cross token."""
        cross = state.at_end().detach() + self.cross_token
        x = state.x[:, :-1] if state.crosses else state.x
        x = torch.cat([x, cross.unsqueeze(1)], dim=1)
        crosses = (*state.crosses, cross)
        return super().run(replace(state, x=x, crosses=crosses))

    def reduce(self, state: TextState, q: Tensor, k: Tensor) -> TextState:
        """Merge; the first token, the end and the cross token stay."""
        if self.merging.r == 0:
            return state
        num = state.x.size(1)
        match = complete_graph(
            q,
            k,
            self.merging.r,
            protected=(0, num - 1),
            guide=state.end,
            also_protected=state.end,
            official=not self.merging.normalize)
        if match.num == num:
            return state
        x, mass = merge(state.x, state.mass, match, self.merging.normalize)
        end = match.slot.gather(1, state.end.unsqueeze(1)).squeeze(1)
        return replace(state, x=x, mass=mass, end=end)


class TextTransformer(CLIPTransformer):
    """CLIP's text transformer, which tells blocks where texts end."""

    @classmethod
    def take_over(cls, transformer: CLIPTransformer) -> None:
        """Make a transformer of mmpretrain one of these, in place."""
        transformer.__class__ = cls
        for block in transformer.resblocks:
            block.__class__ = TextBlock

    def let_cross(self, mergings: list[Merging], learns: bool) -> None:
        """Give blocks a cross token, and let them merge.

        Args:
            mergings (list[Merging]): Of each block.
            learns (bool): Whether a loss depends on the offsets.
        """
        for block, merging in zip(self.resblocks, mergings):
            block.__class__ = CrossTextBlock
            block.add_offset(block.ln_1.weight)
            block.cross_token.requires_grad_(learns)
            block.merging = merging

    def forward(self, x: Tensor, end: Tensor) -> TextState:
        """Run all blocks.

        Args:
            x (Tensor): Embedded tokens, shape (B, T, C).
            end (Tensor): Where each text ends, int64 of shape (B, ).
        """
        state = TextState(x, end)
        for block in self.resblocks:
            state = block(state)
        return state
