"""Attention inside of windows with fewer channels per head."""
import torch.nn as nn
from torch import Tensor

from mmcompress.in_place import InPlace
from mmcompress.quantization.attention.dot_product import (merge_heads,
                                                           split_qkv)
from mmcompress.quantization.attention.window import (add_window_mask,
                                                      relative_bias)


class PrunedWindowMSA(InPlace):
    """Window attention of Swin, in all mm libraries, with narrower heads.

    The libraries' take the width of a head from that of their input. The
    scale of the scores is an attribute, and stays that of the whole heads.
    """
    prefix = 'Pruned'

    @classmethod
    def swap(cls, attn: nn.Module) -> None:
        """Turn an attention, whose parameters have been cut, into one."""
        if not isinstance(attn, cls):
            cls.become(attn)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend inside of windows.

        Args:
            x (Tensor): Shape (B * W, N, C).
            mask (Tensor | None): Added to scores, shape (W, N, N).

        Returns:
            Tensor: Shape (B * W, N, C).
        """
        q, k, v = split_qkv(self.qkv(x), self.num_heads)
        scores = q * self.scale @ k.transpose(-2, -1)
        scores = scores + relative_bias(self,
                                        self.relative_position_bias_table)
        scores = add_window_mask(scores, mask)
        attn = self.attn_drop(self.softmax(scores))
        return self.proj_drop(self.proj(merge_heads(attn @ v)))
