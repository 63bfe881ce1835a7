"""Which attentions are quantized, by what, and which are not."""
import torch.nn as nn

from mmcompress.lowbit import Rules
from .beit import QuantBEiTAttention, QuantCrossAttention
from .conditional import QuantConditionalAttention
from .deformable import QuantDeformableAttention
from .dot_product import quantize_dot_product
from .multihead import QuantMultiheadAttention
from .window import QuantWindowMSA, QuantWindowMSAV2

_PRETRAIN = 'mmpretrain.models'

#: ``rule(attn, spec)`` quantizes an attention in place: its products, and the
#: weights that it reads by itself. Layers that it calls are left alone.
attention_rule = Rules('quantized attention')
attention_rule(nn.MultiheadAttention,
               'mmcompress.pruning.multihead.PrunedMultiheadAttention')(
                   QuantMultiheadAttention.swap)
attention_rule(f'{_PRETRAIN}.utils.attention.MultiheadAttention',
               f'{_PRETRAIN}.utils.attention.PromptMultiheadAttention',
               f'{_PRETRAIN}.backbones.twins.GlobalSubsampledAttention')(
                   quantize_dot_product)
attention_rule(f'{_PRETRAIN}.utils.attention.WindowMSA',
               f'{_PRETRAIN}.backbones.davit.DaViTWindowMSA',
               'mmdet.models.backbones.swin.WindowMSA',
               'mmseg.models.backbones.swin.WindowMSA',
               'mmpose.models.backbones.swin.WindowMSA',
               'mmpose.models.backbones.hrformer.WindowMSA',
               'mmcompress.pruning.window.PrunedWindowMSA')(
                   QuantWindowMSA.swap)
attention_rule(f'{_PRETRAIN}.utils.attention.WindowMSAV2')(
    QuantWindowMSAV2.swap)
attention_rule(f'{_PRETRAIN}.utils.attention.BEiTAttention',
               'mmseg.models.backbones.beit.BEiTAttention')(
                   QuantBEiTAttention.swap)
attention_rule(f'{_PRETRAIN}.utils.attention.CrossMultiheadAttention')(
    QuantCrossAttention.swap)
attention_rule('mmdet.models.layers.transformer.utils.ConditionalAttention')(
    QuantConditionalAttention.swap)
attention_rule(
    'mmcv.ops.multi_scale_deform_attn.MultiScaleDeformableAttention')(
        QuantDeformableAttention.swap)

_NO_RULE = 'there is no quantized version of it'
_POOLED = 'queries and keys are pooled after the projection'
_CHANNELS = 'it attends over channels, not tokens'
_ROUTED = 'keys and values are those of the regions that were chosen'
_ROTARY = 'queries and keys are rotated after the projection'
_FLOAT = {
    'mmpose.models.utils.rtmcc_block.RTMCCBlock':
    'its map is a squared ReLU, without softmax',
    f'{_PRETRAIN}.backbones.levit.Attention':
    _NO_RULE,
    f'{_PRETRAIN}.backbones.levit.AttentionSubsample':
    _NO_RULE,
    f'{_PRETRAIN}.utils.attention.LeAttention':
    _NO_RULE,
    f'{_PRETRAIN}.backbones.mvit.MultiScaleAttention':
    _POOLED,
    f'{_PRETRAIN}.backbones.xcit.XCA':
    _CHANNELS,
    f'{_PRETRAIN}.backbones.xcit.ClassAttntion':
    _NO_RULE,
    f'{_PRETRAIN}.backbones.edgenext.SDTAEncoder':
    _CHANNELS,
    f'{_PRETRAIN}.backbones.davit.ChannelAttention':
    _CHANNELS,
    f'{_PRETRAIN}.utils.attention.ChannelMultiheadAttention':
    _CHANNELS,
    f'{_PRETRAIN}.backbones.efficientformer.AttentionWithBias':
    _NO_RULE,
    f'{_PRETRAIN}.backbones.hivit.Attention':
    _NO_RULE,
    f'{_PRETRAIN}.backbones.mixmim.MixMIMWindowAttention':
    _NO_RULE,
    f'{_PRETRAIN}.backbones.twins.LocallyGroupedSelfAttention':
    _NO_RULE,
    f'{_PRETRAIN}.backbones.vit_eva02.AttentionWithRoPE':
    _ROTARY,
    f'{_PRETRAIN}.backbones.vit_sam.Attention':
    _NO_RULE,
    'mmdet.models.utils.vlfuse_helper.BiMultiHeadAttention':
    _NO_RULE,
    'mmpose.models.backbones.dstformer.Attention':
    _NO_RULE,
    'mmseg.models.backbones.twins.LocallyGroupedSelfAttention':
    _NO_RULE,
    'mmseg.models.utils.self_attention_block.SelfAttentionBlock':
    _NO_RULE,
    'mmcv.cnn.bricks.non_local._NonLocalNd':
    _NO_RULE,
    'mmcv.ops.cc_attention.CrissCrossAttention':
    _NO_RULE,
    'mmcompress.backbones.lepe_attention.LePEAttention':
    _NO_RULE,
    'mmcompress.backbones.lepe_attention.NCHWLePEAttention':
    _NO_RULE,
    'mmcompress.backbones.routing_attention.BiLevelRoutingAttention':
    _ROUTED,
    'mmcompress.backbones.routing_attention.NCHWRoutingAttention':
    _ROUTED,
    'mmcompress.sparse_attention.attention.SparseAttention':
    'a mask that is predicted for each image comes between them',
}
_FLOAT_LAYERS = {
    'mmcompress.sparse_attention.predictor.MaskPredictor':
    'it chooses keys, in float32',
}


def float_products(module: nn.Module) -> str | None:
    """Why an attention's products stay float; None if it is not known for it.

    Its layers are quantized as any others.
    """
    if attention_rule.find(module) is not None:
        return None
    if isinstance(module, QuantMultiheadAttention):
        return None
    if isinstance(module, nn.MultiheadAttention):
        return ('its class derives from nn.MultiheadAttention and has a '
                'forward of its own')
    return _find(_FLOAT, module)


def float_layers(module: nn.Module) -> str | None:
    """Why the layers of a module stay float; None if they needn't."""
    return _find(_FLOAT_LAYERS, module)


def _find(reasons: dict[str, str], module: nn.Module) -> str | None:
    paths = (f'{cls.__module__}.{cls.__qualname__}'
             for cls in type(module).__mro__)
    return next((reasons[path] for path in paths if path in reasons), None)


def handled_children(module: nn.Module) -> tuple[str, ...]:
    """Layers below an attention that are not quantized as others are.

    Its rule does it, or, where it has none, nothing can, because their weights
    are read past them.
    """
    if isinstance(module, nn.MultiheadAttention):
        return ('out_proj', )
    return ()


def eight_bit_children(module: nn.Module) -> tuple[str, ...]:
    """Layers below an attention that are sensitive, so 8 bit by default.

    They say where an attention looks.
    """
    rule = attention_rule.find(module)
    if rule == QuantDeformableAttention.swap:
        return ('sampling_offsets', 'attention_weights')
    if rule == QuantWindowMSAV2.swap:
        return ('cpb_mlp.0', 'cpb_mlp.2')
    return ()
