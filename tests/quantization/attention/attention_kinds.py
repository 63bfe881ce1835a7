"""The attentions that are quantized, as the mm libraries have them."""
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn as nn
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention
from mmdet.models.backbones.swin import WindowMSA as DetWindowMSA
from mmdet.models.layers import ConditionalAttention
from mmpose.models.backbones.hrformer import WindowMSA as HRWindowMSA
from mmpose.models.backbones.swin import WindowMSA as PoseWindowMSA
from mmpretrain.models.backbones.davit import DaViTWindowMSA
from mmpretrain.models.backbones.twins import GlobalSubsampledAttention
from mmpretrain.models.utils import (BEiTAttention, MultiheadAttention,
                                     WindowMSA, WindowMSAV2)
from mmpretrain.models.utils.attention import (CrossMultiheadAttention,
                                               PromptMultiheadAttention)
from mmseg.models.backbones.beit import BEiTAttention as SegBEiTAttention
from mmseg.models.backbones.mae import MAEAttention
from mmseg.models.backbones.swin import WindowMSA as SegWindowMSA

from mmcompress.quantization import QuantLayer, Spec
from mmcompress.quantization.attention import attention_rule, handled_children
from mmcompress.quantization.swap import float_base

C, H, N = 12, 3, 9
LSQ = dict(type='LSQ', bits=4)
SPEC = Spec(weight=LSQ, activation=LSQ, attention=LSQ)


class Kind(NamedTuple):
    """How an attention is made and called."""
    make: Callable[[], nn.Module]
    inputs: Callable[[], dict]


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def _window() -> dict:
    mask = torch.zeros(2, N, N)
    mask[1, :4, 4:] = -100
    return dict(x=tokens(4, N, C), mask=mask)


def _torch(**options) -> Kind:
    first = options.get('batch_first', False)

    def inputs() -> dict:
        q, k, v = tokens(5, 2, C), tokens(7, 2, C), tokens(7, 2, C)
        padding = torch.zeros(2, 7, dtype=torch.bool)
        padding[1, 5:] = True
        mask = torch.rand(2 * H, 5, 7) < 0.2
        if first:
            q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        return dict(
            query=q, key=k, value=v, key_padding_mask=padding, attn_mask=mask)

    return Kind(lambda: nn.MultiheadAttention(C, H, **options), inputs)


def _conditional(cross: bool) -> Kind:

    def inputs() -> dict:
        x, key = tokens(2, 5, C), tokens(2, 7 if cross else 5, C)
        padding = torch.zeros(2, key.shape[1], dtype=torch.bool)
        padding[1, 4:] = True
        return dict(
            query=x,
            key=key,
            query_pos=tokens(2, 5, C),
            key_pos=tokens(*key.shape),
            ref_sine_embed=tokens(2, 5, C),
            key_padding_mask=padding,
            is_first=True)

    return Kind(lambda: ConditionalAttention(C, H, cross_attn=cross), inputs)


def _deformable(batch_first: bool) -> Kind:

    def inputs() -> dict:
        query, value = tokens(5, 2, C), tokens(20, 2, C)
        padding = torch.zeros(2, 20, dtype=torch.bool)
        padding[1, 12:16] = True
        if batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        return dict(
            query=query,
            value=value,
            query_pos=tokens(*query.shape),
            key_padding_mask=padding,
            reference_points=torch.rand(2, 5, 2, 4 if batch_first else 2),
            spatial_shapes=torch.tensor([[4, 4], [2, 2]]),
            level_start_index=torch.tensor([0, 16]))

    return Kind(
        lambda: MultiScaleDeformableAttention(
            C, H, 2, 2, dropout=0., batch_first=batch_first), inputs)


def _prompt() -> dict:
    order = torch.stack([torch.randperm(6) for _ in range(2)])
    return dict(
        x=tokens(2, 2, C), visible_tokens=tokens(2, 5, C), ids_restore=order)


KINDS = {
    'torch':
    _torch(),
    'torch_batch_first':
    _torch(batch_first=True),
    'torch_no_bias':
    _torch(bias=False),
    'mmpretrain':
    Kind(lambda: MultiheadAttention(C, H), lambda: dict(x=tokens(2, N, C))),
    'mmpretrain_prompt':
    Kind(lambda: PromptMultiheadAttention(C, H), _prompt),
    'twins':
    Kind(lambda: GlobalSubsampledAttention(C, H, sr_ratio=3),
         lambda: dict(x=tokens(2, 36, C), hw_shape=(6, 6))),
    'swin_pretrain':
    Kind(lambda: WindowMSA(C, (3, 3), H), _window),
    'swin_det':
    Kind(lambda: DetWindowMSA(C, H, (3, 3)), _window),
    'swin_seg':
    Kind(lambda: SegWindowMSA(C, H, (3, 3)), _window),
    'swin_pose':
    Kind(lambda: PoseWindowMSA(C, H, (3, 3)), _window),
    'hrformer':
    Kind(lambda: HRWindowMSA(C, H, (3, 3)), _window),
    'hrformer_no_rpe':
    Kind(lambda: HRWindowMSA(C, H, (3, 3), with_rpe=False), _window),
    'davit':
    Kind(lambda: DaViTWindowMSA(C, (3, 3), H), _window),
    'swin_v2':
    Kind(lambda: WindowMSAV2(C, (3, 3), H), _window),
    'swin_v2_no_bias':
    Kind(lambda: WindowMSAV2(C, (3, 3), H, qkv_bias=False), _window),
    'beit_pretrain':
    Kind(lambda: BEiTAttention(C, H, (3, 3), use_rel_pos_bias=True),
         lambda: dict(x=tokens(2, 10, C), rel_pos_bias=tokens(H, 10, 10))),
    'beit_shared':
    Kind(lambda: BEiTAttention(C, H, (3, 3), False, bias=True),
         lambda: dict(x=tokens(2, 10, C), rel_pos_bias=tokens(H, 10, 10))),
    'beit_seg':
    Kind(lambda: SegBEiTAttention(C, H, (3, 3)),
         lambda: dict(x=tokens(2, 10, C))),
    'mae_seg':
    Kind(lambda: MAEAttention(C, H, (3, 3), bias=False),
         lambda: dict(x=tokens(2, 10, C))),
    'cae':
    Kind(
        lambda: CrossMultiheadAttention(C, H, qkv_bias=True),
        lambda: dict(x=tokens(2, 5, C), k=tokens(2, 7, C), v=tokens(2, 7, C))),
    'cae_no_bias':
    Kind(
        lambda: CrossMultiheadAttention(C, H),
        lambda: dict(x=tokens(2, 5, C), k=tokens(2, 7, C), v=tokens(2, 7, C))),
    'conditional_self':
    _conditional(False),
    'conditional_cross':
    _conditional(True),
    'deformable':
    _deformable(False),
    'deformable_batch_first':
    _deformable(True),
}


def make(name: str) -> nn.Module:
    """An attention in which nothing is zero."""
    torch.manual_seed(0)
    attn = KINDS[name].make()
    for parameter in attn.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attn


def is_float_layer(module: nn.Module) -> bool:
    return float_base(module) is not None and not isinstance(
        module, QuantLayer)


def quantize(attn: nn.Module,
             spec: Spec = SPEC,
             layers: bool = True) -> nn.Module:
    """Do to an attention what the step does, also to layers that it calls."""
    skipped = handled_children(attn)
    attention_rule.find(attn)(attn, spec)
    for name, child in attn.named_modules():
        if layers and is_float_layer(child) and name not in skipped:
            spec.swap(child)
    return attn


def run(attn: nn.Module, inputs: dict) -> torch.Tensor:
    """The result, without an attention map."""
    out = attn(**inputs)
    return out[0] if isinstance(out, tuple) else out
