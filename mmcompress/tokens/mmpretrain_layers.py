"""Layers and backbones of mmpretrain that merge tokens."""
from mmpretrain.models.backbones import (DistilledVisionTransformer,
                                         VisionTransformer)
from mmpretrain.models.backbones.vision_transformer import \
    TransformerEncoderLayer
from torch import Tensor

from mmcompress.attention import attend
from mmcompress.backbones.deit3 import DeiT3, DeiT3EncoderLayer
from .layers import MergingLayer
from .tokens import Tokens


class _PreNormLayer(MergingLayer):

    def attention(self, x: Tensor,
                  bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The attention, added to what it reads."""
        y, q, k = attend(self.attn, self.ln1(x), bias)
        return x + y, q, k

    def feed_forward(self, x: Tensor) -> Tensor:
        """The network, added to what it reads."""
        return self.ffn(self.ln2(x), identity=x)


class MergingEncoderLayer(_PreNormLayer, TransformerEncoderLayer):
    """A ``TransformerEncoderLayer`` that merges."""


class MergingDeiT3Layer(_PreNormLayer, DeiT3EncoderLayer):
    """A layer of :class:`mmcompress.DeiT3` that merges."""


class _RawTokens:
    """Returns merged tokens as they are where raw ones are asked for.

    Who does attends to them, whatever their number.
    """

    def _format_output(self, x: Tensor | Tokens, hw: tuple[int, int]):
        if self.out_type == 'raw' and isinstance(x, Tokens):
            return x.x
        return super()._format_output(x, hw)


class MergingVisionTransformer(_RawTokens, VisionTransformer):
    """A ``VisionTransformer`` whose layers merge."""


class MergingDistilledTransformer(_RawTokens, DistilledVisionTransformer):
    """A ``DistilledVisionTransformer`` whose layers merge."""


class MergingDeiT3(_RawTokens, DeiT3):
    """A :class:`mmcompress.DeiT3` whose layers merge."""
