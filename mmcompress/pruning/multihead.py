"""torch's MultiheadAttention with fewer channels per head."""
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.attention import attend_torch, attends
from mmcompress.quantization.attention.dot_product import (masked_softmax,
                                                           merge_heads,
                                                           split_heads)
from mmcompress.quantization.attention.masks import attention_mask


class PrunedMultiheadAttention(nn.MultiheadAttention):
    """:class:`torch.nn.MultiheadAttention` whose heads are narrower.

    torch refuses projections that are not as wide as the embedding. A whole
    attention becomes one in place (:meth:`swap`); its parameters keep their
    names. ``embed_dim`` is the width of what it is called with.

    Differs from torch's where a query may not attend to any key: its row of
    the map is 0, not NaN.

    Attributes:
        scale (float): Of the scores: that of the whole heads.
    """

    @classmethod
    def swap(cls, attn: nn.MultiheadAttention, head_dim: int) -> None:
        """Turn an attention, whose parameters have been cut, into one.

        Args:
            attn (nn.MultiheadAttention): Whole or pruned.
            head_dim (int): Channels per head that are left.
        """
        if not isinstance(attn, cls):
            attn.scale = attn.head_dim**-0.5
            attn.__class__ = cls
        # torch's encoder layers read the parameters past `forward`, in eval
        # mode, of attentions that say True
        attn._qkv_same_embed_dim = False
        attn.head_dim = head_dim

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
            tuple[Tensor, Tensor | None]: Of the query's shape; and the map,
            shape (B, N, M) or (B, H, N, M), without B if the query has none.

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
        q, k, v = self._project(query, key, value)
        dropout = self.dropout if self.training else 0.
        pairs = q.new_empty(()).expand(*q.shape[:3], k.shape[2])
        mask = attention_mask(attn_mask, key_padding_mask, pairs)
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.scale
            attn = F.dropout(masked_softmax(scores, mask), dropout)
            weights = attn.mean(1) if average_attn_weights else attn
            y = attn @ v
        else:
            y = F.scaled_dot_product_attention(
                q, k, v, mask, dropout, scale=self.scale)
        out = self.out_proj(merge_heads(y))
        if not is_batched:
            return out[0], weights if weights is None else weights[0]
        return out if self.batch_first else out.transpose(0, 1), weights

    def _project(self, *inputs: Tensor) -> list[Tensor]:
        """Queries, keys and values, each of shape (B, H, N or M, D)."""
        biases = (None, ) * 3
        if self.in_proj_bias is not None:
            biases = self.in_proj_bias.chunk(3)
        return [
            split_heads(F.linear(x, weight, bias),
                        self.num_heads) for x, weight, bias in zip(
                            inputs, self.in_proj_weight.chunk(3), biases)
        ]


attends(PrunedMultiheadAttention)(attend_torch)
