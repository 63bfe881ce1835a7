"""Scaled dot product attention whose two products are quantized."""
import math
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.registry import MODELS
from ..spec import Spec


def has_products(spec: Spec) -> bool:
    """Whether a spec says anything of an attention's own products."""
    return any(
        cfg is not None for cfg in (spec.attention, spec.softmax,
                                    spec.query_norm, spec.key_norm))


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Attention map of scores.

    A query that may not attend to any key gets zeros, not NaN, which would
    also be the scale of a quantizer.

    Args:
        scores (Tensor): Shape (B, H, N, M).
        mask (Tensor | None): Broadcasts with it. Boolean: where a query may
            attend. Otherwise it is added.

    Returns:
        Tensor: Same shape as the scores.
    """
    if mask is None:
        return scores.softmax(-1)
    if mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    else:
        scores = scores + mask
    blind = (scores == -math.inf).all(-1, keepdim=True)
    return scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, C) to (B, H, N, C / H)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def split_qkv(x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 3 C) to queries, keys and values, each (B, H, N, C / H)."""
    return x.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, C / H) to (B, N, C)."""
    return x.transpose(1, 2).flatten(2)


def _norm(cfg: dict | None, dims: int) -> nn.Module | None:
    if cfg is None:
        return None
    with MODELS.switch_scope_and_registry('mmcompress') as registry:
        return registry.build({**cfg, 'dims': dims})


class QuantDotProduct(nn.Module):
    """Attention of queries to keys, with quantized operands.

    ``softmax(scale * Q(norm(q)) Q(norm(k))^T + mask)``, then dropout, is the
    map; quantized again, it is multiplied with quantized values. Scores, mask
    and softmax are float32 at least. The scale follows the product, so that a
    norm doesn't undo it. It is called like
    :func:`torch.nn.functional.scaled_dot_product_attention`.

    Args:
        spec (Spec): How operands are quantized.
        heads (int): Heads of the attention.
        dims (int): Channels of a head's queries and keys.
        like (Tensor): A weight of the attention, for device, type and whether
            what is new is trained.
        scale (float | None): Of the scores, where a call names none. Defaults
            to the root of the channels of a query, inverted; pruned attentions
            have another one.
    """

    def __init__(self,
                 spec: Spec,
                 heads: int,
                 dims: int,
                 like: Tensor,
                 scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.norm_q = _norm(spec.query_norm, dims)
        self.norm_k = _norm(spec.key_norm, dims)
        self.qk, self.av = spec.products(heads)
        self.to(like).requires_grad_(like.requires_grad)

    def scores(self, query: Tensor, key: Tensor, scale: float) -> Tensor:
        """Scaled products of queries and keys.

        Args:
            query (Tensor): Shape (B, H, N, D).
            key (Tensor): Shape (B, H, M, D).
            scale (float): Their factor.

        Returns:
            Tensor: Shape (B, H, N, M), at least float32.
        """
        if self.norm_q is not None:
            query = self.norm_q(query)
        if self.norm_k is not None:
            key = self.norm_k(key)
        return self.qk(query, key.transpose(-2, -1)) * scale

    def values(self, attn: Tensor, value: Tensor) -> Tensor:
        """Sums of values by an attention map.

        Args:
            attn (Tensor): Shape (B, H, N, M).
            value (Tensor): Shape (B, H, M, D).

        Returns:
            Tensor: Shape (B, H, N, D), in the dtype of the values.
        """
        return self.av(attn, value).to(value.dtype)

    def forward(self,
                query: Tensor,
                key: Tensor,
                value: Tensor,
                attn_mask: Tensor | None = None,
                dropout_p: float = 0.,
                is_causal: bool = False,
                scale: float | None = None) -> Tensor:
        """Attend.

        Args:
            query (Tensor): Shape (B, H, N, D).
            key (Tensor): Shape (B, H, M, D).
            value (Tensor): Shape (B, H, M, Dv).
            attn_mask (Tensor | None): Broadcasts to (B, H, N, M). Boolean:
                where a query may attend. Otherwise it is added to the scores.
            dropout_p (float): Share of the map that is dropped.
            is_causal (bool): Whether queries see no later keys.
            scale (float | None): Of the scores. Defaults to the module's, or
                ``D**-0.5``.

        Returns:
            Tensor: Shape (B, H, N, Dv), in the dtype of the values.
        """
        if scale is None:
            scale = self.scale or query.shape[-1]**-0.5
        if is_causal:
            if attn_mask is not None:
                raise ValueError('is_causal is a mask of its own: give no '
                                 'attn_mask with it')
            attn_mask = torch.ones(
                query.shape[-2],
                key.shape[-2],
                dtype=torch.bool,
                device=query.device).tril()
        attn = masked_softmax(self.scores(query, key, scale), attn_mask)
        return self.values(F.dropout(attn, dropout_p), value)


def quantize_dot_product(attn: nn.Module, spec: Spec) -> None:
    """Rule of what calls its attribute ``scaled_dot_product_attention``.

    Args:
        attn (nn.Module): mmpretrain's MultiheadAttention, or what derives
            from it.
        spec (Spec): How its products are quantized.

    Raises:
        ValueError: If it has a ``qk_scale``.
    """
    if not has_products(spec):
        return
    if isinstance(attn.scaled_dot_product_attention, QuantDotProduct):
        # by an earlier step, as its layers
        return
    # of pruned ones
    scale = getattr(attn, 'scale', None)
    if scale is None and isinstance(attn.scaled_dot_product_attention,
                                    partial):
        raise ValueError(
            f'{type(attn).__name__} with a qk_scale can not be quantized: '
            'mmpretrain multiplies scores by the root of the head size then, '
            'whatever qk_scale is. Leave it out of the config, or exclude '
            'this attention')
    product = QuantDotProduct(spec, attn.num_heads, attn.head_dims,
                              attn.proj.weight, scale)
    attn.scaled_dot_product_attention = product.train(attn.training)
