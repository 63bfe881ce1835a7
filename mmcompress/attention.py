"""Attention of tokens to each other, and its queries and keys.

What merges, drops or prunes tokens needs an attention's queries and keys, and
adds a bias to its scores. :func:`attend` gives both for every attention that
it knows: float, pruned or quantized.
"""
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.lowbit import Rules

#: ``rule(attn, x, bias)`` is :func:`attend` for a class.
attends = Rules('attention of tokens')


def attend(attn: nn.Module,
           x: Tensor,
           bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Compute a self-attention, with a bias of its scores.

    Without a bias, ``y`` is what ``attn`` returns, in the same mode; its
    children are called as there, so that their hooks see the same.

    Args:
        attn (nn.Module): ``MultiheadAttention`` of mmpretrain or of torch,
            also with ``batch_first=False``; or a quantized one of these.
        x (Tensor): Tokens, shape (B, N, C).
        bias (Tensor | None): Added to the scores, after they are scaled; -inf
            masks. Shape (B or 1, H or 1, N or 1, N).

    Returns:
        tuple[Tensor, Tensor, Tensor]: Attended tokens, shape (B, N, C), and
        queries and keys as they are projected, before norms and quantizers,
        each of shape (B, H, N, D).

    Raises:
        TypeError: If nothing is known of the class.
        ValueError: If it has keys that are no tokens.
    """
    rule = attends.find(attn)
    if rule is None:
        cls = type(attn)
        raise TypeError(
            f'{cls.__module__}.{cls.__qualname__}: it is not known how this '
            'attends to tokens. Known are nn.MultiheadAttention and '
            "mmpretrain's MultiheadAttention, float, pruned and quantized, "
            'and what derives from them and has no forward of its own')
    return rule(attn, x, bias)


@attends('mmpretrain.models.utils.attention.MultiheadAttention')
def _mmpretrain(attn: nn.Module, x: Tensor,
                bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    # pruned, heads are smaller than the embedding says
    qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, attn.head_dims))
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
    options = dict(dropout_p=attn.attn_drop if attn.training else 0.)
    if bias is not None:
        options['attn_mask'] = bias.to(q.dtype)
    # pruned, scores are scaled as before
    if getattr(attn, 'scale', None) is not None:
        options['scale'] = attn.scale
    y = attn.scaled_dot_product_attention(q, k, v, **options)
    y = attn.proj(y.transpose(1, 2).flatten(2))
    y = attn.out_drop(attn.gamma1(attn.proj_drop(y)))
    if attn.v_shortcut:
        y = v.squeeze(1) + y
    return y, q, k


@attends(nn.MultiheadAttention)
def attend_torch(attn: nn.MultiheadAttention, x: Tensor,
                 bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Rule of torch's attention, see :func:`attend`."""
    if attn.bias_k is not None or attn.add_zero_attn:
        raise ValueError('nn.MultiheadAttention with add_bias_kv or '
                         'add_zero_attn attends to more than its tokens: '
                         'leave these options out')
    qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.unflatten(-1,
                            (3, attn.num_heads, -1)).permute(2, 0, 3, 1,
                                                             4).unbind()
    y = F.scaled_dot_product_attention(
        q,
        k,
        v,
        None if bias is None else bias.to(q.dtype),
        dropout_p=attn.dropout if attn.training else 0.,
        scale=getattr(attn, 'scale', None))
    return attn.out_proj(y.transpose(1, 2).flatten(2)), q, k
