"""Attentions of BEiT and CAE, which read the weights of their layers."""
from torch import Tensor

from ..spec import Spec
from .dot_product import merge_heads, split_heads, split_qkv
from .in_place import InPlace
from .window import qkv_bias, relative_bias


class QuantBEiTAttention(InPlace):
    """BEiT's attention, also of MAE and EVA, with products as children.

    Unlike the library's, it calls ``qkv``, and adds the bias of queries and
    values to what that returns.
    """

    def forward(self, x: Tensor, rel_pos_bias: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x (Tensor): Shape (B, N, C).
            rel_pos_bias (Tensor | None): Of all layers, shape (H, N, N).

        Returns:
            Tensor: Shape (B, N, C).
        """
        qkv = self.qkv(x)
        if self.bias == 'qv_bias':
            qkv = qkv + qkv_bias(self)
        q, k, v = split_qkv(qkv, self.num_heads)
        scores = self.products.scores(q, k, self.scale)
        if self.relative_position_bias_table is not None:
            scores = scores + relative_bias(self,
                                            self.relative_position_bias_table)
        if rel_pos_bias is not None:
            scores = scores + rel_pos_bias
        attn = self.attn_drop(scores.softmax(-1))
        x = merge_heads(self.products.values(attn, v))
        return self.proj_drop(self.proj(x))


class QuantCrossAttention(InPlace):
    """CAE's attention to tokens of another kind, with products as children.

    Unlike the library's, it calls ``q``, ``k`` and ``v``, and adds the bias of
    queries and values to what these return.
    """

    def _attach(self, spec: Spec) -> None:
        weight = self.proj.weight
        self._add_products(spec, len(weight) // self.num_heads, weight)

    def forward(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend.

        Args:
            x (Tensor): Of queries, shape (B, N, C).
            k (Tensor): Of keys, shape (B, M, C).
            v (Tensor): Of values, shape (B, M, C).

        Returns:
            Tensor: Shape (B, N, C).
        """
        q, k, v = self.q(x), self.k(k), self.v(v)
        if self.q_bias is not None:
            q, v = q + self.q_bias, v + self.v_bias
        q, k, v = (split_heads(y, self.num_heads) for y in (q, k, v))
        attn = self.products.scores(q, k, self.scale).softmax(-1)
        x = merge_heads(self.products.values(self.attn_drop(attn), v))
        return self.proj_drop(self.proj(x))
