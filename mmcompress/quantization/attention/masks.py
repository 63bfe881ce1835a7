"""Masks of attentions, as torch's MultiheadAttention takes them."""
import math

import torch
from torch import Tensor


def _added(mask: Tensor, name: str, scores: Tensor) -> Tensor:
    """What is added to scores."""
    if mask.is_floating_point():
        return mask
    if mask.dtype not in (torch.bool, torch.uint8, torch.int64):
        raise TypeError(f'{name} must be boolean or float, got {mask.dtype}')
    zeros = scores.new_zeros(mask.shape)
    return zeros.masked_fill_(mask.bool(), -math.inf)


def attention_mask(attn_mask: Tensor | None, key_padding_mask: Tensor | None,
                   scores: Tensor) -> Tensor | None:
    """What is added to scores.

    Args:
        attn_mask (Tensor | None): Shape (N, M) or (B * H, N, M). Boolean: True
            where a query may not attend. Otherwise it is added.
        key_padding_mask (Tensor | None): The same of keys, shape (B, M).
        scores (Tensor): Shape (B, H, N, M).

    Returns:
        Tensor | None: Broadcasts with the scores; None if there is no mask.

    Raises:
        TypeError: If a mask is neither boolean nor float.
        ValueError: If it has another shape.
    """
    batch, heads, queries, keys = scores.shape
    mask = None
    if attn_mask is not None:
        allowed = ((queries, keys), (batch * heads, queries, keys))
        if attn_mask.shape not in allowed:
            raise ValueError(
                f'attn_mask must be of shape {allowed[0]} or {allowed[1]}, '
                f'got {tuple(attn_mask.shape)}')
        mask = _added(attn_mask, 'attn_mask', scores)
        if mask.dim() == 3:
            mask = mask.unflatten(0, (batch, heads))
    if key_padding_mask is not None:
        if key_padding_mask.shape != (batch, keys):
            raise ValueError(
                f'key_padding_mask must be of shape {(batch, keys)}, got '
                f'{tuple(key_padding_mask.shape)}')
        padding = _added(key_padding_mask, 'key_padding_mask', scores)
        padding = padding[:, None, None]
        mask = padding if mask is None else mask + padding
    return mask
