"""mmdet's detectors with queries, shrunk."""
from copy import deepcopy

import torch
from distill.models import batch, detection_scope
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.registry import MODELS

# config, and the module whose output DRD compares, in the last of two layers
DETECTORS = dict(
    detr=('detr/detr_r50_8xb2-150e_coco', 'attn[0]'),
    conditional_detr=('conditional_detr/conditional-detr_r50_8xb2-50e_coco',
                      'out_proj'),
    dab_detr=('dab_detr/dab-detr_r50_8xb2-50e_coco', 'out_proj'),
    deformable_detr=('deformable_detr/deformable-detr_r50_16xb2-50e_coco',
                     'output_proj'),
    deformable_detr_two_stage=(
        'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco',
        'output_proj'),
    dino=('dino/dino-4scale_r50_8xb2-12e_coco', 'output_proj'))


def detector(name: str, num_queries: int = 5, num_classes: int = 3) -> dict:
    """Config with a small backbone, one encoder and two decoder layers."""
    cfg = get_config(f'mmdet::{DETECTORS[name][0]}.py').model
    levels = cfg.backbone.out_indices
    cfg.backbone.update(
        depth=18, base_channels=4, frozen_stages=-1, init_cfg=None)
    cfg.neck.in_channels = [4 * 2**i for i in levels]
    cfg.encoder.num_layers, cfg.decoder.num_layers = 1, 2
    for part in (cfg.encoder, cfg.decoder):
        part.layer_cfg.ffn_cfg.feedforward_channels = 16
    cfg.num_queries = num_queries
    cfg.bbox_head.num_classes = num_classes
    cfg._scope_ = 'mmdet'
    return cfg


def taps(name: str, given: str = '') -> dict:
    """Taps of DRD."""
    module = DETECTORS[name][1]
    if given:
        module = module.removesuffix('[0]') + given
    return dict(
        features=f'decoder.layers.1.cross_attn.{module}', boxes='bbox_head[1]')


def distill(student: dict, teacher: dict, student_taps: dict,
            teacher_taps: dict, **loss) -> dict:
    """Config of a student that learns from a teacher with random weights."""
    # detectors write into the configs of their heads
    return dict(
        type='mmcompress.Distill',
        student=deepcopy(student),
        teacher=dict(cfg=dict(model=deepcopy(teacher)), allow_random=True),
        losses=dict(
            loss_drd=dict(
                type='mmcompress.DRDLoss',
                student=student_taps,
                teacher=teacher_taps,
                **loss)))


def build(cfg: dict, seed: int = 0):
    """Build it in training mode, without weights that are zero."""
    torch.manual_seed(seed)
    with detection_scope():
        model = MODELS.build(ConfigDict(cfg))
        model.init_weights()
    return model.train()


def step(model, num_items=(2, 1)) -> dict:
    """Losses of a training step."""
    data = batch(model, num_items)
    with detection_scope():
        return model(**data, mode='loss')
