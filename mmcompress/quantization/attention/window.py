"""Attention inside of windows, of Swin and its relatives."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..spec import Spec
from .dot_product import has_products, merge_heads, split_qkv
from .in_place import InPlace


def relative_bias(attn: nn.Module, table: Tensor) -> Tensor:
    """Of each pair of positions, shape (H, N, N)."""
    index = attn.relative_position_index
    return table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1)


def add_window_mask(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Add the mask of each window.

    Args:
        scores (Tensor): Shape (B * W, H, N, N).
        mask (Tensor | None): Shape (W, N, N).
    """
    if mask is None:
        return scores
    windows = scores.unflatten(0, (-1, len(mask)))
    return (windows + mask[:, None]).flatten(0, 1)


def qkv_bias(attn: nn.Module) -> Tensor:
    """Of queries and values; keys have none."""
    return torch.cat([attn.q_bias, torch.zeros_like(attn.v_bias), attn.v_bias])


class QuantWindowMSA(InPlace):
    """Window attention of Swin, in all mm libraries, with products as
    children.

    Queries are quantized before they are scaled. Relative positions, the mask
    of shifted windows and softmax are float.
    """

    @classmethod
    def swap(cls, attn: nn.Module, spec: Spec) -> None:
        """Turn a module into a quantized one, unless products stay float."""
        if has_products(spec):
            super().swap(attn, spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend inside of windows.

        Args:
            x (Tensor): Shape (B * W, N, C).
            mask (Tensor | None): Added to scores, shape (W, N, N).

        Returns:
            Tensor: Shape (B * W, N, C).
        """
        q, k, v = split_qkv(self.qkv(x), self.num_heads)
        scores = self.products.scores(q, k, self.scale)
        # HRFormer's is an option, DaViT has none
        table = getattr(self, 'relative_position_bias_table', None)
        if table is not None:
            scores = scores + relative_bias(self, table)
        scores = add_window_mask(scores, mask)
        attn = self.attn_drop(self.softmax(scores))
        x = merge_heads(self.products.values(attn, v))
        return self.proj_drop(self.proj(x))


class QuantWindowMSAV2(InPlace):
    """Window attention of Swin V2, with products as children.

    Its queries and keys have unit length, and are quantized then; a norm of
    queries or keys comes before. Unlike the library's, it calls ``qkv``.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend inside of windows.

        Args:
            x (Tensor): Shape (B * W, N, C).
            mask (Tensor | None): Added to scores, shape (W, N, N).

        Returns:
            Tensor: Shape (B * W, N, C).
        """
        qkv = self.qkv(x)
        if self.q_bias is not None:
            qkv = qkv + qkv_bias(self)
        q, k, v = split_qkv(qkv, self.num_heads)
        products = self.products
        if products.norm_q is not None:
            q = products.norm_q(q)
        if products.norm_k is not None:
            k = products.norm_k(k)
        scores = products.qk(
            F.normalize(q, dim=-1),
            F.normalize(k, dim=-1).transpose(-2, -1))
        scores = scores * self.logit_scale.clamp(max=math.log(100)).exp()
        table = self.cpb_mlp(self.relative_coords_table)
        table = table.view(-1, self.num_heads)
        scores = scores + 16 * relative_bias(self, table).sigmoid()
        attn = self.softmax(add_window_mask(scores, mask))
        attn = self.attn_drop(attn)
        x = merge_heads(products.values(attn, v))
        return self.proj_drop(self.proj(x))
