"""Small vision transformers of the mm libraries."""
import torch
import torch.nn as nn
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.registry import STEPS

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
PRETRAIN = dict(
    arch=ARCH, img_size=32, patch_size=8, drop_path_rate=0., out_type='raw')
MMSEG = dict(
    type='mmseg.VisionTransformer',
    img_size=(32, 32),
    patch_size=8,
    embed_dims=16,
    num_layers=4,
    num_heads=2,
    mlp_ratio=2,
    out_indices=(1, 3))
BACKBONES = dict(
    vit=dict(type='mmpretrain.VisionTransformer', **PRETRAIN),
    deit=dict(type='mmpretrain.DistilledVisionTransformer', **PRETRAIN),
    deit3=dict(type='mmcompress.DeiT3', **PRETRAIN),
    g2sd=dict(type='mmcompress.DistTokenVisionTransformer', **PRETRAIN),
    vitpose=dict(
        type='mmpretrain.VisionTransformer', with_cls_token=False, **PRETRAIN),
    clip=dict(type='mmpretrain.VisionTransformer', pre_norm=True, **PRETRAIN),
    mmseg=MMSEG,
    mmseg_no_cls=dict(with_cls_token=False, **MMSEG))
#: What a backbone gives, of those that can give it.
OUT_TYPES = {
    name: ('featmap', 'avg_featmap') if name == 'vitpose' else
    # whose average has no norm in mmpretrain
    ('cls_token', 'featmap') if name == 'deit3' else
    ('cls_token', 'featmap', 'avg_featmap')
    for name, cfg in BACKBONES.items()
    if 'mmpretrain' in cfg['type'] or 'mmcompress' in cfg['type']
}


def build(name: str, steps: list[dict] | None = None, **changes) -> nn.Module:
    """A model that has the backbone of a name, and nothing else."""
    cfg = dict(BACKBONES[name], **changes)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg['type'].split('.')[0]):
        model = nn.Module()
        model.backbone = MODELS.build(ConfigDict(cfg))
        for parameter in model.parameters():
            # layers that do something, unlike fresh ones
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.2)
        for step in steps or []:
            STEPS.build(ConfigDict(step))(model)
    model.eval()
    return model


def merging(r=3, **options) -> list[dict]:
    """The step, as a config has it."""
    return [dict(type='MergeTokens', r=r, **options)]


def images(num: int = 2, size: int = 32) -> torch.Tensor:
    """Noise with a gradient, so that tokens differ."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((num, 3, size, size), generator=generator)
