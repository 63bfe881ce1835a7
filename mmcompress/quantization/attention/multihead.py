"""torch's MultiheadAttention, whose weights and products are quantized."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.attention import attends
from mmcompress.lowbit import (InferenceRule, LowBitLayer, OperandBits,
                               num_bytes)
from mmcompress.precision import at_least_float32
from ..integers import integer_rule
from ..layers import Place, bits_of, build_quantizer
from ..spec import Spec
from .dot_product import (QuantDotProduct, masked_softmax, merge_heads,
                          split_heads)
from .masks import attention_mask

_INPUTS = ('query_quant', 'key_quant', 'value_quant')


class QuantMultiheadAttention(LowBitLayer, nn.MultiheadAttention):
    """Quantized :class:`torch.nn.MultiheadAttention`.

    A float one becomes one in place (:meth:`swap`), with the same parameters.
    One quantizer is for the weight that projects to queries, keys and values;
    three are for what it is multiplied with, since queries and keys carry
    positions that values don't. The other projection is called, other than by
    torch's.

    Differs from torch's where a query may not attend to any key: its row of
    the map is 0, not NaN, as
    :func:`torch.nn.functional.scaled_dot_product_attention` has it.
    """

    @classmethod
    def swap(cls, attn: nn.MultiheadAttention, spec: Spec) -> None:
        """Turn an attention into a quantized one, in place.

        Args:
            attn (nn.MultiheadAttention): In float.
            spec (Spec): How its weights, their inputs and its products are
                quantized.

        Raises:
            ValueError: If it has options that this one has not.
        """
        lacks = {
            'kdim or vdim': attn.in_proj_weight is None,
            'add_bias_kv': attn.bias_k is not None,
            'add_zero_attn': attn.add_zero_attn
        }
        for option, is_set in lacks.items():
            if is_set:
                raise ValueError(
                    f'nn.MultiheadAttention with {option} can not be '
                    'quantized: leave the option out, or exclude this '
                    'attention')
        attn._float_class = type(attn)
        attn._float_same_embed_dim = attn._qkv_same_embed_dim
        attn.__class__ = cls
        attn._attach(spec)

    def _attach(self, spec: Spec) -> None:
        weight = self.in_proj_weight
        # torch's encoder layers read the parameters past `forward`, in eval
        # mode, of attentions that say True
        self._qkv_same_embed_dim = False
        inputs = Place()
        if spec.act_granularity == 'channel':
            inputs = Place(-1, self.embed_dim)
        self.weight_quant = build_quantizer(spec.weight,
                                            Place(0, weight.shape[0]))
        if self.weight_quant is not None and self.weight_quant.stateful:
            self.weight_quant.be_signed()
        for name in _INPUTS:
            setattr(self, name, build_quantizer(spec.activation, inputs))
        for name in ('weight_quant', *_INPUTS):
            quantizer = getattr(self, name)
            if quantizer is not None:
                quantizer.to(weight).train(self.training)
                quantizer.requires_grad_(weight.requires_grad)
        product = QuantDotProduct(spec, self.num_heads, self.head_dim, weight)
        self.products = product.train(self.training)
        if spec.weight is not None or spec.activation is not None:
            spec.swap(self.out_proj)

    def to_float(self) -> nn.MultiheadAttention:
        """The attention as it was, with the same parameters."""
        plain = copy.copy(self)
        plain.__dict__ = dict(self.__dict__)
        plain._modules = dict(out_proj=self.out_proj)
        plain._qkv_same_embed_dim = plain.__dict__.pop('_float_same_embed_dim')
        plain.__class__ = plain.__dict__.pop('_float_class')
        return plain

    def operand_bits(self) -> OperandBits:
        """Of what projects to queries, keys and values."""
        inputs = tuple(bits_of(getattr(self, name)) for name in _INPUTS)
        return OperandBits(bits_of(self.weight_quant), inputs)

    def inference_bytes(self) -> int | None:
        """Codes of the packed weight at their bits, a scale per row, bias."""
        bits = self.operand_bits()
        if not bits.are_low:
            return None
        rows, columns = self.in_proj_weight.shape
        codes = (rows * columns * bits.weight + 7) // 8
        return codes + 4 * rows + num_bytes([self.in_proj_bias])

    @torch.no_grad()
    def inference_rules(self) -> list[InferenceRule] | None:
        """Of queries, keys and values; None unless all have integers."""
        if not self.operand_bits().are_low:
            return None
        biases = (None, ) * 3
        if self.in_proj_bias is not None:
            biases = self.in_proj_bias.chunk(3)
        rows = self.weight_quant.quantize_int(self.in_proj_weight).rows(3)
        rules = [
            integer_rule(self.weight_quant, codes, getattr(self, name), bias)
            for codes, name, bias in zip(rows, _INPUTS, biases)
        ]
        if any(rule is None or rule.is_one_bit for rule in rules):
            return None
        return rules

    def project(self, query: Tensor, key: Tensor,
                value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, before their own quantizers.

        Args:
            query (Tensor): Shape (B, N, E).
            key (Tensor): Shape (B, M, E).
            value (Tensor): Shape (B, M, E).

        Returns:
            tuple[Tensor, Tensor, Tensor]: Shapes (B, H, N, E / H) and twice
            (B, H, M, E / H).
        """
        dtype = self.in_proj_weight.dtype
        with torch.autocast(query.device.type, enabled=False):
            weight = self.in_proj_weight
            if self.weight_quant is not None:
                weight = self.weight_quant(weight)
            weights = at_least_float32(weight).chunk(3)
            biases = (None, ) * 3
            if self.in_proj_bias is not None:
                biases = at_least_float32(self.in_proj_bias).chunk(3)
            outs = []
            for x, name, w, b in zip((query, key, value), _INPUTS, weights,
                                     biases):
                quantizer = getattr(self, name)
                if quantizer is not None:
                    x = quantizer(x)
                y = F.linear(at_least_float32(x, like=w), w, b)
                outs.append(split_heads(y.to(dtype), self.num_heads))
        return tuple(outs)

    def forward(self,
                query: Tensor,
                key: Tensor,
                value: Tensor,
                key_padding_mask: Tensor | None = None,
                need_weights: bool = True,
                attn_mask: Tensor | None = None,
                average_attn_weights: bool = True,
                is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query (Tensor): Shape (N, B, E), (B, N, E) if ``batch_first``, or
                (N, E).
            key (Tensor): The same of M keys.
            value (Tensor): As the key.
            key_padding_mask (Tensor | None): Keys that no query attends to,
                shape (B, M) or (M, ), True or -inf; or what is added.
            need_weights (bool): Whether to return the map.
            attn_mask (Tensor | None): The same of pairs, shape (N, M) or
                (B * H, N, M).
            average_attn_weights (bool): Whether the map is a mean over heads.
            is_causal (bool): Says that ``attn_mask`` is causal; it is used as
                it is.

        Returns:
            tuple[Tensor, Tensor | None]: Of the query's shape; and the map
            before it is quantized, shape (B, N, M) or (B, H, N, M), without B
            if the query has none.

        Raises:
            ValueError: If ``is_causal`` comes without a mask.
        """
        if is_causal and attn_mask is None:
            raise ValueError('is_causal needs the causal attn_mask')
        is_batched = query.dim() == 3
        if not is_batched:
            query, key, value = query[None], key[None], value[None]
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = (
                x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self.project(query, key, value)
        # pruned, scores are scaled as before
        scale = getattr(self, 'scale', self.head_dim**-0.5)
        scores = self.products.scores(q, k, scale)
        mask = attention_mask(attn_mask, key_padding_mask, scores)
        attn = F.dropout(
            masked_softmax(scores, mask), self.dropout, self.training)
        out = self.out_proj(merge_heads(self.products.values(attn, v)))
        weights = None
        if need_weights:
            weights = attn.mean(1) if average_attn_weights else attn
        if not is_batched:
            return out[0], weights if weights is None else weights[0]
        return out if self.batch_first else out.transpose(0, 1), weights


@attends(QuantMultiheadAttention)
def _attend(attn: QuantMultiheadAttention, x: Tensor,
            bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = attn.project(x, x, x)
    y = attn.products(
        q,
        k,
        v,
        bias,
        dropout_p=attn.dropout if attn.training else 0.,
        scale=getattr(attn, 'scale', None))
    return attn.out_proj(merge_heads(y)), q, k
