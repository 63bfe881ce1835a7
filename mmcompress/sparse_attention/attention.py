"""Attention to the keys that a predictor chooses."""
import torch
import torch.nn.functional as F
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor

from mmcompress.attention import attends
from .predictor import MaskPredictor


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax of what is kept; 0 elsewhere, also where nothing is.

    Args:
        scores (Tensor): Shape (B, H, N, N).
        mask (Tensor): Bool, same shape.
    """
    kept = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    # of nothing, it is NaN
    return kept.masked_fill(~mask, 0)


class SparseAttention(MultiheadAttention):
    """mmpretrain's attention with a mask that a predictor makes.

    It has the same parameters, and :class:`MaskPredictor` as
    ``mask_predictor``. The mask has no gradient. In training with
    ``mask_predictor.reconstruct``, and only then, attention is dense.

    Products are dense whatever the mask says: this saves no time.
    """

    @classmethod
    def swap(cls, attn: MultiheadAttention, predictor: MaskPredictor) -> None:
        """Make an attention sparse, in place."""
        attn.__class__ = cls
        attn.mask_predictor = predictor.to(attn.qkv.weight).train(
            attn.training)

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x (Tensor): Shape (B, N, C).

        Returns:
            Tensor: Shape (B, N, C).
        """
        return self.attend(x)[0]

    def attend(self,
               x: Tensor,
               token_mask: Tensor | None = None,
               bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Attend, and say to what.

        Args:
            x (Tensor): Shape (B, N, C).
            token_mask (Tensor | None): True for patches that were not
                pruned, shape (B, N - extra).
            bias (Tensor | None): Added to the scores.

        Returns:
            tuple[Tensor, Tensor]: Shape (B, N, C), and the map that was used,
            shape (B, H, N, N).
        """
        q, k, v = self.split_qkv(x)
        attn = self.maps(q, k, token_mask, bias)
        dropped = F.dropout(attn, self.attn_drop, self.training)
        y = self.proj((dropped.to(v.dtype) @ v).transpose(1, 2).flatten(2))
        return self.out_drop(self.gamma1(self.proj_drop(y))), attn

    def split_qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each of shape (B, H, N, D)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dims))
        return qkv.permute(2, 0, 3, 1, 4).unbind()

    def maps(self,
             q: Tensor,
             k: Tensor,
             token_mask: Tensor | None = None,
             bias: Tensor | None = None) -> Tensor:
        """Attention of queries to keys, shape (B, H, N, N)."""
        approx = self.mask_predictor(q, k, token_mask)
        # pruned, scores are scaled as before
        scale = getattr(self, 'scale', None) or self.head_dims**-0.5
        scores = q @ k.mT * scale
        if bias is not None:
            scores = scores + bias
        if self.mask_predictor.reconstructs:
            return scores.softmax(-1)
        return masked_softmax(scores,
                              self.mask_predictor.mask(approx, token_mask))


@attends(SparseAttention)
def _sparse(attn: SparseAttention, x: Tensor,
            bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    q, k, _ = attn.split_qkv(x)
    return attn.attend(x, bias=bias)[0], q, k
