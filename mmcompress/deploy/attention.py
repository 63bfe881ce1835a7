"""Packed projections of torch's attention, which has them in one weight."""
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import OperandBits, folds
from mmcompress.quantization.attention.multihead import (
    QuantMultiheadAttention, split_heads)
from .fold.folding import Folding
from .fold.links import Trace
from .inference_only import InferenceOnly
from .integer_layers import PackedIntegerLinear


class PackedProjections(InferenceOnly):
    """What projects to queries, keys and values, each by integers.

    Args:
        layers (list[PackedIntegerLinear]): In this order.
        bits (OperandBits): Those of the trained attention.
    """

    def __init__(self, layers: list[PackedIntegerLinear],
                 bits: OperandBits) -> None:
        super().__init__()
        self.query, self.key, self.value = layers
        self.bits = bits

    def operand_bits(self) -> OperandBits:
        """Those of the trained attention."""
        return self.bits

    def forward(self, query: Tensor, key: Tensor,
                value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project, shapes (B, N, E) and twice (B, M, E), which stay."""
        return self.query(query), self.key(key), self.value(value)


class PackedMultiheadAttention(QuantMultiheadAttention):
    """Attention whose projections are packed; its products are as trained."""

    def operand_bits(self) -> OperandBits:
        """Those of the projections."""
        return self.projections.operand_bits()

    def inference_bytes(self) -> None:
        """Nothing of its own."""

    def project(self, query: Tensor, key: Tensor,
                value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, before their own quantizers."""
        return tuple(
            split_heads(y, self.num_heads)
            for y in self.projections(query, key, value))


@folds(QuantMultiheadAttention)
def fold_multihead(attn: QuantMultiheadAttention,
                   folding: Folding) -> nn.Module | None:
    """The projections by integers, if all of them have some."""
    rules = attn.inference_rules()
    if rules is None:
        return None
    bits = attn.operand_bits()
    layers = [folding.linear(attn, rule) for rule in rules]
    name = folding.names[attn]
    for key in ('weight_quant', 'query_quant', 'key_quant', 'value_quant'):
        delattr(attn, key)
    attn.in_proj_weight = attn.in_proj_bias = None
    attn.__class__ = PackedMultiheadAttention
    attn.projections = PackedProjections(layers, bits)
    folding.traces.append(
        Trace(attn.projections, name, source=name, output=name))
    # what is left, the other projection among it
    return folding.inside(attn)
