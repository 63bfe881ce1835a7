"""Units of BLIP's text towers, which are BERT with attention to images."""
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.in_place import InPlace
from mmcompress.quantization.attention.dot_product import (merge_heads,
                                                           split_heads)
from .feed_forward import hidden_units, keeps_zero
from .units import Member, Units, heads_index, units_of

_BLIP = 'mmpretrain.models.multimodal.blip.language_model'


class PrunedBertSelfAttention(InPlace):
    """BERT's attention with narrower heads, whose scores are scaled as before.

    The library's takes their scale from the width of a head.
    """
    prefix = 'Pruned'

    @classmethod
    def swap(cls, attn: nn.Module, head_size: int) -> None:
        """Turn an attention, whose parameters have been cut, into one."""
        if not isinstance(attn, cls):
            attn.scale = attn.attention_head_size**-0.5
            cls.become(attn)
        attn.attention_head_size = head_size
        attn.all_head_size = head_size * attn.num_attention_heads

    def forward(self,
                hidden_states: Tensor,
                attention_mask: Tensor | None = None,
                head_mask: Tensor | None = None,
                encoder_hidden_states: Tensor | None = None,
                encoder_attention_mask: Tensor | None = None,
                past_key_value: tuple[Tensor, Tensor] | None = None,
                output_attentions: bool = False) -> tuple:
        """Attend to the text, or to an image.

        Args:
            hidden_states (Tensor): Shape (B, N, C).
            attention_mask (Tensor | None): Added to scores of text, broadcasts
                to (B, H, N, M).
            head_mask (Tensor | None): Multiplied with the map.
            encoder_hidden_states (Tensor | None): Of the image, shape
                (B, M, E); None: the text attends to itself.
            encoder_attention_mask (Tensor | None): Added to scores of images.
            past_key_value (tuple | None): Keys and values of earlier text.
            output_attentions (bool): Whether to return the map.

        Returns:
            tuple: Attended tokens, shape (B, N, H * D); the map, if wanted;
            keys and values.
        """
        is_cross = encoder_hidden_states is not None
        source = encoder_hidden_states if is_cross else hidden_states
        heads = self.num_attention_heads
        q, k, v = (split_heads(layer(x), heads)
                   for layer, x in ((self.query, hidden_states),
                                    (self.key, source), (self.value, source)))
        if is_cross:
            attention_mask = encoder_attention_mask
        elif past_key_value is not None:
            k, v = (torch.cat([past, new], dim=2)
                    for past, new in zip(past_key_value, (k, v)))
        scores = q @ k.transpose(-2, -1) * self.scale
        if attention_mask is not None:
            scores = scores + attention_mask
        attn = scores.softmax(-1)
        if is_cross and self.save_attention:
            self.save_attention_map(attn)
            attn.register_hook(self.save_attn_gradients)
        dropped = self.dropout(attn)
        if head_mask is not None:
            dropped = dropped * head_mask
        y = merge_heads(dropped @ v)
        return (y, *([attn] if output_attentions else []), (k, v))


def _shrink(inner: str, attn: nn.Module, num: int) -> None:
    PrunedBertSelfAttention.swap(attn.get_submodule(inner), num)


@units_of(f'{_BLIP}.BertAttention')
def _attention(attn: nn.Module, name: str) -> Iterator[Units]:
    # of two images, each has its own, one below the other
    twins = hasattr(attn, 'self0')
    for number in ('0', '1') if twins else ('', ):
        inner, outer = f'self{number}', f'output.dense{number}'
        own = attn.get_submodule(inner)
        if own.position_embedding_type != 'absolute':
            # positions are multiplied with queries
            continue
        heads = heads_index(own.num_attention_heads, own.attention_head_size)
        members = [
            Member(f'{inner}.{key}', ('weight', 'bias'), 0, heads)
            for key in ('query', 'key', 'value')
        ]
        members.append(Member(outer, ('weight', ), 1, heads))
        yield Units(f'{name}.{inner}' if twins else name, name, 'attention',
                    tuple(members), partial(_shrink, inner))


@units_of(f'{_BLIP}.BertLayer')
def _layer(layer: nn.Module, name: str) -> Iterator[Units]:
    if keeps_zero(layer.intermediate.intermediate_act_fn):
        yield hidden_units(f'{name}.intermediate', name, 'intermediate.dense',
                           'output.dense',
                           layer.intermediate.dense.out_features)
