"""Small masked autoencoders and vision transformers of mmpretrain."""
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401

PREPROCESSOR = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)


def arch(dims: int, depth: int) -> dict:
    """Size of a vision transformer."""
    return dict(
        embed_dims=dims,
        num_layers=depth,
        num_heads=2,
        feedforward_channels=2 * dims)


def autoencoder(dims: int = 8, decoder: int = 4, features: bool = True):
    """Config of an MAE for 16 patches, with 2 layers and 2 + 1 blocks.

    Args:
        dims (int): Width of the encoder.
        decoder (int): Width of the decoder.
        features (bool): Without pixels, as a student.
    """
    return dict(
        type='mmcompress.MAEWithoutPixels' if features else 'mmpretrain.MAE',
        _scope_='mmpretrain',
        data_preprocessor=dict(type='SelfSupDataPreprocessor', **PREPROCESSOR),
        backbone=dict(
            type='MAEViT', arch=arch(dims, 2), img_size=16, patch_size=4),
        neck=dict(
            type='mmcompress.MAEFeatureDecoder'
            if features else 'MAEPretrainDecoder',
            num_patches=16,
            patch_size=4,
            embed_dim=dims,
            decoder_embed_dim=decoder,
            decoder_depth=2 if features else 3,
            decoder_num_heads=2),
        head=None if features else dict(
            type='MAEPretrainHead',
            patch_size=4,
            loss=dict(type='PixelReconstructionLoss', criterion='L2')))


def generic(supervise_all: bool = True, **teacher):
    """Config of the generic stage: learn what the 2nd block gives."""
    taps = dict(mask='backbone[1]', hidden='neck.decoder_blocks.1')
    return dict(
        type='mmcompress.Distill',
        student=autoencoder(),
        teacher=dict(
            cfg=autoencoder(12, 8, features=False),
            mode='loss',
            allow_random=True,
            **teacher),
        shared_draws='backbone.random_masking',
        losses=dict(
            loss_g2sd=dict(
                type='mmcompress.G2SDGenericLoss',
                student=dict(taps),
                teacher=dict(taps),
                student_dims=4,
                teacher_dims=8,
                supervise_all=supervise_all)))


def classifier(dist_token: bool = True):
    """Config of a vision transformer, as after the generic stage."""
    ours = 'mmcompress.DistToken'
    return dict(
        type='mmpretrain.ImageClassifier',
        _scope_='mmpretrain',
        data_preprocessor=dict(num_classes=5, **PREPROCESSOR),
        backbone=dict(
            type=(ours if dist_token else '') + 'VisionTransformer',
            arch=arch(8, 2),
            img_size=16,
            patch_size=4),
        head=dict(
            type=ours +
            'ClsHead' if dist_token else 'VisionTransformerClsHead',
            num_classes=5,
            in_channels=8,
            init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-2),
            loss=dict(
                type='LabelSmoothLoss',
                label_smooth_val=0.1,
                mode='original',
                loss_weight=0.5)))


def specific(student=None):
    """Config of the specific stage of classification."""
    return dict(
        type='mmcompress.Distill',
        student=student or classifier(),
        teacher=dict(cfg=classifier(dist_token=False), allow_random=True),
        losses=dict(
            loss_hard=dict(
                type='mmcompress.HardKDLoss',
                student='head.layers.head_dist',
                teacher='head',
                loss_weight=0.5)))


def build(cfg: dict, seed: int = 0, init: bool = True):
    """Build a model from its config, with random weights."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(ConfigDict(cfg))
        if init:
            model.init_weights()
    return model


def images(n: int = 3) -> torch.Tensor:
    """Preprocessed noise."""
    return torch.randn(
        n, 3, 16, 16, generator=torch.Generator().manual_seed(0))
