"""The text transformer of CLIP, whose tokens can become fewer."""
from dataclasses import dataclass, replace

import torch
from mmpretrain.models.multimodal.clip.clip_transformer import CLIPTransformer
from mmpretrain.models.utils.clip_generator_helper import \
    ResidualAttentionBlock
from torch import Tensor

from mmcompress.attention import attend


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
        """Attention, what becomes of the tokens, feed-forward."""
        y, q, k = attend(self.attn, self.ln_1(state.x), state.bias())
        state = self.reduce(replace(state, x=state.x + y), q, k)
        return replace(state, x=state.x + self.mlp(self.ln_2(state.x)))

    def reduce(self, state: TextState, q: Tensor, k: Tensor) -> TextState:
        """Tokens after the attention; here, all of them."""
        return state


class TextTransformer(CLIPTransformer):
    """CLIP's text transformer, which tells blocks where texts end."""

    @classmethod
    def take_over(cls, transformer: CLIPTransformer) -> None:
        """Make a transformer of mmpretrain one of these, in place."""
        transformer.__class__ = cls
        for block in transformer.resblocks:
            block.__class__ = TextBlock

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
