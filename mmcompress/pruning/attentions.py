"""Units of attentions: channels of their heads.

A channel leaves all heads of a layer, and queries, keys and values alike.
Scores stay scaled by the root of the whole head's width, as an attribute:
weights that are left are those that were trained, and nothing else changes.
"""
from collections.abc import Callable, Iterator
from functools import partial

import torch.nn as nn
import torch.nn.functional as F

from .multihead import PrunedMultiheadAttention
from .units import Member, Units, heads_index, units_of
from .window import PrunedWindowMSA


def _attention(attn: nn.Module, name: str, head_dims: int, inner: Member,
               outer: str, shrink: Callable[[nn.Module, int],
                                            None]) -> Iterator[Units]:
    """The one group of an attention that projects by one weight."""
    heads = heads_index(attn.num_heads, head_dims)
    members = (inner, Member(outer, ('weight', ), 1, heads))
    yield Units(name, name, 'attention', members, shrink)


def _qkv(attn: nn.Module, head_dims: int) -> Member:
    return Member('qkv', ('weight', 'bias'), 0,
                  heads_index(attn.num_heads, head_dims, copies=3))


# ---- mmpretrain's MultiheadAttention ---------------------------------------


def _shrink_mmpretrain(attn: nn.Module, num: int) -> None:
    attention = attn.scaled_dot_product_attention
    # one with a qk_scale has it of the whole heads already
    if not isinstance(attention, partial):
        attn.scale = attn.head_dims**-0.5
        attn.scaled_dot_product_attention = partial(
            F.scaled_dot_product_attention, scale=attn.scale)
    attn.head_dims = num
    attn.embed_dims = num * attn.num_heads


@units_of('mmpretrain.models.utils.attention.MultiheadAttention')
def _mmpretrain(attn: nn.Module, name: str) -> Iterator[Units]:
    # a value that is added to the output keeps its channels
    if not attn.v_shortcut:
        yield from _attention(attn, name, attn.head_dims,
                              _qkv(attn, attn.head_dims), 'proj',
                              _shrink_mmpretrain)


# ---- Swin ------------------------------------------------------------------


def _shrink_window(attn: nn.Module, num: int) -> None:
    PrunedWindowMSA.swap(attn)


@units_of('mmpretrain.models.utils.attention.WindowMSA',
          'mmdet.models.backbones.swin.WindowMSA',
          'mmseg.models.backbones.swin.WindowMSA',
          'mmpose.models.backbones.swin.WindowMSA', PrunedWindowMSA)
def _window(attn: nn.Module, name: str) -> Iterator[Units]:
    head_dims = len(attn.proj.weight[0]) // attn.num_heads
    yield from _attention(attn, name, head_dims, _qkv(attn, head_dims), 'proj',
                          _shrink_window)


# ---- torch's MultiheadAttention --------------------------------------------


@units_of(nn.MultiheadAttention, PrunedMultiheadAttention)
def _torch(attn: nn.MultiheadAttention, name: str) -> Iterator[Units]:
    # others have keys that are no tokens, or three weights
    plain = attn.in_proj_weight is not None and attn.bias_k is None
    if plain and not attn.add_zero_attn:
        inner = Member('', ('in_proj_weight', 'in_proj_bias'), 0,
                       heads_index(attn.num_heads, attn.head_dim, copies=3))
        yield from _attention(attn, name, attn.head_dim, inner, 'out_proj',
                              PrunedMultiheadAttention.swap)
