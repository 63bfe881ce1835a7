"""Layers of mmsegmentation that merge tokens."""
from mmseg.models.backbones.vit import TransformerEncoderLayer
from torch import Tensor

from mmcompress.attention import attend
from .layers import MergingLayer


class MergingEncoderLayer(MergingLayer, TransformerEncoderLayer):
    """A ``TransformerEncoderLayer`` that merges."""

    def attention(self, x: Tensor,
                  bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The attention, added to what it reads."""
        y, q, k = attend(self.attn.attn, self.norm1(x), bias)
        return x + self.attn.dropout_layer(self.attn.proj_drop(y)), q, k

    def feed_forward(self, x: Tensor) -> Tensor:
        """The network, added to what it reads."""
        return self.ffn(self.norm2(x), identity=x)
