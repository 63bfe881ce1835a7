"""Models of the mm libraries' own configs, with fewer layers and channels."""
import copy
from typing import NamedTuple

import torch
import torch.nn as nn
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from mmcompress.model.config import without_downloads
from mmcompress.model.inputs import made_up_batch


class Small(NamedTuple):
    """How a model is made smaller.

    Attributes:
        config (str): Of a library.
        changes (dict): What is merged into its ``model``.
        size (tuple[int, int] | None): Of images; None: as the config says.
    """
    config: str
    changes: dict
    size: tuple[int, int] | None = None


def _vit(**options) -> dict:
    arch = dict(
        embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
    return dict(
        backbone=dict(arch=arch, img_size=32, patch_size=16, **options),
        head=dict(in_channels=24))


_R18 = dict(depth=18, base_channels=8)
_FFN = dict(ffn_cfg=dict(feedforward_channels=32))
_DETR = dict(
    backbone=_R18,
    neck=dict(in_channels=[64]),
    num_queries=5,
    encoder=dict(num_layers=1, layer_cfg=_FFN),
    decoder=dict(num_layers=2, layer_cfg=_FFN))
_DEFORMABLE = dict(
    _DETR,
    neck=dict(in_channels=[16, 32, 64]),
    num_queries=20,
    as_two_stage=False)
_SWIN = dict(embed_dims=24, depths=[2, 2], num_heads=[3, 6])
_UPER = dict(
    decode_head=dict(in_channels=[24, 24, 24, 24], channels=16, num_classes=4),
    auxiliary_head=dict(
        in_channels=24, channels=16, num_convs=1, num_classes=4),
    test_cfg=dict(mode='whole'))
_SEG_VIT = dict(
    img_size=(64, 64),
    embed_dims=24,
    num_layers=4,
    num_heads=3,
    mlp_ratio=2,
    out_indices=[0, 1, 2, 3])

MODELS_OF_LIBRARIES = {
    'faster_rcnn':
    Small(
        'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        dict(
            backbone=_R18,
            neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
            rpn_head=dict(in_channels=16, feat_channels=16),
            roi_head=dict(
                bbox_roi_extractor=dict(out_channels=16),
                bbox_head=dict(in_channels=16, fc_out_channels=32)),
            test_cfg=dict(rcnn=dict(score_thr=0.)))),
    'retinanet':
    Small(
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        dict(
            backbone=_R18,
            neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
            bbox_head=dict(in_channels=16, feat_channels=16,
                           stacked_convs=1))),
    'rtmdet':
    Small(
        'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
        dict(
            backbone=dict(widen_factor=0.125),
            neck=dict(
                in_channels=[32, 64, 128], out_channels=32, num_csp_blocks=1),
            bbox_head=dict(in_channels=32, feat_channels=32))),
    'resnet':
    Small(
        'mmpretrain::resnet/resnet50_8xb32_in1k.py',
        dict(
            backbone=dict(base_channels=8, stem_channels=8, expansion=4),
            head=dict(in_channels=256, num_classes=5)), (64, 64)),
    'mobilenet_v2':
    Small(
        'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
        dict(
            backbone=dict(widen_factor=0.25),
            head=dict(in_channels=1280, num_classes=5)), (64, 64)),
    'deit':
    Small('mmpretrain::deit/deit-tiny_4xb256_in1k.py', _vit()),
    'deit_distilled':
    Small('mmpretrain::deit/deit-tiny-distilled_4xb256_in1k.py', _vit()),
    'vit':
    Small('mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py',
          _vit()),
    'swin':
    Small(
        'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
        dict(
            backbone=dict(
                arch=_SWIN, img_size=64, window_size=4, out_indices=(1, )),
            head=dict(in_channels=48)), (64, 64)),
    'swin_v2':
    Small(
        'mmpretrain::swin_transformer_v2/'
        'swinv2-tiny-w8_16xb64_in1k-256px.py',
        dict(
            backbone=dict(
                arch=dict(_SWIN, extra_norm_every_n_blocks=0),
                img_size=64,
                window_size=[4, 4],
                out_indices=(1, )),
            head=dict(in_channels=48)), (64, 64)),
    'beit':
    Small(
        'mmpretrain::beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k.py',
        _vit()),
    'vitpose':
    Small(
        'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_ViTPose-base_8xb64-210e_coco-256x192.py',
        dict(
            backbone=dict(
                arch=dict(
                    embed_dims=24,
                    num_layers=2,
                    num_heads=3,
                    feedforward_channels=48)),
            head=dict(
                in_channels=24,
                deconv_out_channels=(8, ),
                deconv_kernel_sizes=(4, ),
                decoder=dict(heatmap_size=(24, 32))))),
    'rtmpose':
    Small(
        'mmpose::body_2d_keypoint/rtmpose/coco/'
        'rtmpose-t_8xb256-420e_coco-256x192.py',
        dict(
            backbone=dict(widen_factor=0.125),
            head=dict(
                in_channels=128,
                gau_cfg=dict(hidden_dims=32, s=16),
                final_layer_kernel_size=3))),
    'detr':
    Small('mmdet::detr/detr_r50_8xb2-150e_coco.py',
          dict(_DETR, test_cfg=dict(max_per_img=5))),
    'conditional_detr':
    Small('mmdet::conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
          _DETR),
    'dab_detr':
    Small('mmdet::dab_detr/dab-detr_r50_8xb2-50e_coco.py', _DETR),
    'deformable_detr':
    Small('mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
          _DEFORMABLE),
    'dino':
    Small(
        'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
        dict(
            _DEFORMABLE,
            as_two_stage=True,
            dn_cfg=dict(group_cfg=dict(num_dn_queries=4)))),
    'upernet_swin':
    Small(
        'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_'
        'ade20k-512x512.py',
        dict(
            backbone=dict(
                embed_dims=12,
                depths=[2, 1, 1, 1],
                num_heads=[3, 3, 6, 6],
                window_size=4),
            decode_head=dict(
                in_channels=[12, 24, 48, 96], channels=16, num_classes=4),
            auxiliary_head=dict(in_channels=48, channels=16, num_classes=4)),
        (64, 64)),
    'segformer':
    Small(
        'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        dict(
            backbone=dict(embed_dims=8, num_layers=[1, 1, 1, 1]),
            decode_head=dict(
                in_channels=[8, 16, 40, 64], channels=16, num_classes=4)),
        (64, 64)),
    'mmseg_vit':
    Small('mmseg::vit/vit_deit-s16_upernet_8xb2-80k_ade20k-512x512.py',
          dict(_UPER, backbone=_SEG_VIT, neck=None), (64, 64)),
    'mmseg_beit':
    Small(
        'mmseg::beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py',
        dict(
            _UPER,
            backbone=_SEG_VIT,
            neck=dict(embed_dim=24, rescales=[4, 2, 1, 0.5])), (64, 64)),
    'mmseg_mae':
    Small(
        'mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py',
        dict(
            _UPER,
            backbone=_SEG_VIT,
            neck=dict(embed_dim=24, rescales=[4, 2, 1, 0.5])), (64, 64)),
}


def scope_of(name: str) -> str:
    return MODELS_OF_LIBRARIES[name].config.partition('::')[0]


def _merged(cfg: dict, changes: dict) -> dict:
    """A config with changes; a dict also replaces what is none."""
    new = copy.deepcopy(cfg)
    for key, value in changes.items():
        old = new.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        new[key] = _merged(old, value) if both else copy.deepcopy(value)
    return new


def config(name: str) -> dict:
    """The library's config of the model, with its changes."""
    small = MODELS_OF_LIBRARIES[name]
    cfg = get_config(small.config)
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return _merged(cfg.model, small.changes)


def build(name: str, steps: list[dict] | None = None) -> nn.Module:
    """A small model, quantized by steps, in which no weight is zero."""
    torch.manual_seed(0)
    cfg = config(name)
    with DefaultScope.overwrite_default_scope(scope_of(name)):
        if steps:
            cfg = dict(type='mmcompress.Compress', model=cfg, steps=steps)
        model = MODELS.build(cfg)
        without_downloads(model)
        model.init_weights()
    model = revert_sync_batchnorm(model)
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return model


def batch_of(name: str, model: nn.Module, num: int = 2, seed: int = 0) -> dict:
    """Noise and labels for it."""
    size = MODELS_OF_LIBRARIES[name].size
    if size is None and scope_of(name) == 'mmdet':
        size = (64, 64)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(scope_of(name)):
        return made_up_batch(model, scope_of(name), size, num)
