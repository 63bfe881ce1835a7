"""Attention of Conditional DETR and DAB-DETR."""
import torch.nn as nn
from torch import Tensor

from ..spec import Spec
from .dot_product import has_products, masked_softmax, merge_heads, split_heads
from .in_place import InPlace
from .masks import attention_mask


class QuantConditionalAttention(InPlace):
    """mmdet's ConditionalAttention, with products as children.

    The queries of a cross attention have two parts, content and position,
    and heads of twice the size of the values'. They are quantized as they are
    multiplied, both parts together, before they are scaled.
    """

    @classmethod
    def swap(cls, attn: nn.Module, spec: Spec) -> None:
        """Turn a module into a quantized one, unless products stay float.

        Raises:
            TypeError: If its class has a ``forward_attn`` of its own.
        """
        if not has_products(spec):
            return
        home = type(attn).forward_attn.__module__
        if home != 'mmdet.models.layers.transformer.utils':
            raise TypeError(
                f'{type(attn).__name__} has a forward_attn of its own, which '
                'a quantized one would replace: exclude it')
        super().swap(attn, spec)

    def _attach(self, spec: Spec) -> None:
        dims = (1 + self.cross_attn) * self.embed_dims // self.num_heads
        self._add_products(spec, dims, self.out_proj.weight)

    def forward_attn(
            self,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            attn_mask: Tensor | None = None,
            key_padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            query (Tensor): Projected, shape (B, N, C) or (B, N, 2 C).
            key (Tensor): Projected, shape (B, M, C) or (B, M, 2 C).
            value (Tensor): Projected, shape (B, M, C).
            attn_mask (Tensor | None): Shape (N, M) or (B * H, N, M). Boolean:
                True where a query may not attend. Otherwise it is added.
            key_padding_mask (Tensor | None): True for keys that no query may
                attend to, shape (B, M).

        Returns:
            tuple[Tensor, Tensor]: Shape (B, N, C), and the map's mean over
            heads, shape (B, N, M).
        """
        heads = self.num_heads
        q, k, v = (split_heads(x, heads) for x in (query, key, value))
        scores = self.products.scores(q, k, q.shape[-1]**-0.5)
        mask = attention_mask(attn_mask, key_padding_mask, scores)
        attn = self.attn_drop(masked_softmax(scores, mask))
        out = self.out_proj(merge_heads(self.products.values(attn, v)))
        return out, attn.mean(1)
