"""Distillers on the models of each OpenMMLab library."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.distill.teacher_source import read_config


def without_downloads(cfg):
    """Drop everything that would fetch pretrained weights."""
    if isinstance(cfg, dict):
        return {
            key:
            None if key in ('init_cfg', 'pretrained') and value else
            without_downloads(value)
            for key, value in cfg.items()
        }
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(without_downloads(v) for v in cfg)
    return cfg


def distilled(name, losses, scope, **changes):
    """A model of a library's config, taught by its own architecture."""
    cfg = read_config(name)
    cfg.merge_from_dict(changes)
    model = without_downloads(cfg.model.to_dict())
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    __import__(f'{scope}.utils').utils.register_all_modules(
        init_default_scope=False)
    with DefaultScope.overwrite_default_scope(scope):
        student = MODELS.build(
            Config(
                dict(
                    model=dict(
                        type='mmcompress.Distill',
                        student=model,
                        teacher=dict(
                            cfg=model, checkpoint=None, allow_random=True),
                        losses=losses))).model)
        student.init_weights()
    return student


def step(model, data):
    loss, logged = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    return logged


def l2(tap):
    return dict(
        type='mmcompress.FeatureL2Loss',
        student=tap,
        teacher=tap,
        normalize=False)


def test_mmpretrain_classifier():
    from mmpretrain.structures import DataSample
    model = distilled(
        'mmpretrain::resnet/resnet18_8xb32_in1k.py',
        dict(loss_kd=dict(type='mmcompress.KDLoss', tau=4.0,
                          student='head.fc', teacher='head.fc'),
             loss_hint=l2('backbone.layer4')),
        'mmpretrain')  # yapf: disable
    samples = [DataSample().set_gt_label(i) for i in (3, 7)]
    data = model.data_preprocessor(
        dict(
            inputs=torch.randint(0, 256, (2, 3, 64, 64)).float(),
            data_samples=samples), True)
    logged = step(model, data)
    assert {'loss', 'loss_kd', 'loss_hint'} <= set(logged)


@pytest.mark.parametrize('tap', ['head', 'head.cls_x', 'head.final_layer'])
def test_mmpose_simcc_head_called_by_forward(tap):
    """Forward hooks never fire on it."""
    from mmpose.testing import get_packed_inputs
    model = distilled(
        'mmpose::body_2d_keypoint/rtmpose/coco/'
        'rtmpose-t_8xb256-420e_coco-256x192.py',
        dict(loss_hint=l2(tap)), 'mmpose')  # yapf: disable
    data = get_packed_inputs(
        2, num_keypoints=17, img_shape=(256, 192), input_size=(192, 256),
        simcc_split_ratio=2.0, with_simcc_label=True)  # yapf: disable
    data = model.data_preprocessor(data, True)
    hooked = []
    model.head.register_forward_hook(lambda *a: hooked.append(1))
    for _ in range(2):
        logged = step(model, data)
    assert logged['loss_hint'] > 0
    assert not hooked


@pytest.mark.parametrize('tap', ['decode_head', 'decode_head.conv_seg'])
def test_mmseg_decode_head(tap):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    model = distilled(
        'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
        dict(loss_cwd=dict(type='mmcompress.CWDLoss', tau=1.0,
                           student=tap, teacher=tap)),
        'mmseg', **{
            'model.backbone.norm_cfg.type': 'BN',
            'model.decode_head.norm_cfg.type': 'BN',
            'model.auxiliary_head.norm_cfg.type': 'BN',
            'model.data_preprocessor.size': (64, 64),
        })  # yapf: disable
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 19, (1, 64, 64)))
        samples.append(sample)
    data = model.data_preprocessor(
        dict(
            inputs=[torch.randint(0, 256, (3, 64, 64)) for _ in range(2)],
            data_samples=samples), True)
    for _ in range(2):
        logged = step(model, data)
    assert logged['loss_cwd'] > 0


def test_mmdet_two_stage_and_shared_rpn():
    from mmdet.testing import demo_mm_inputs
    model = distilled(
        'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        dict(loss_hint=l2('neck[0:4]'), loss_rpn=l2('rpn_head.rpn_cls')),
        'mmdet', **{
            'model.backbone.depth': 18,
            'model.neck.in_channels': [64, 128, 256, 512]
        })
    data = model.data_preprocessor(
        demo_mm_inputs(2, [(3, 64, 64)] * 2, num_items=[2, 0]), True)
    for _ in range(2):
        logged = step(model, data)
    assert {'loss_hint', 'loss_rpn', 'loss_rpn_cls'} <= set(logged)
    assert model.distill.teacher._num_calls == {
        'neck': 1,
        'rpn_head.rpn_cls': 5
    }


def test_mmdet_dense_head_in_tensor_mode():
    """Mmdet's `_forward` calls `bbox_head.forward`."""
    from mmdet.testing import demo_mm_inputs
    model = distilled(
        'mmdet::gfl/gfl_r50_fpn_1x_coco.py',
        dict(
            loss_cwd=dict(
                type='mmcompress.CWDLoss',
                tau=1.0,
                student='bbox_head.gfl_cls',
                teacher='bbox_head.gfl_cls')), 'mmdet', **{
                    'model.backbone.depth': 18,
                    'model.neck.in_channels': [64, 128, 256, 512]
                })
    data = model.data_preprocessor(
        demo_mm_inputs(2, [(3, 64, 64)] * 2, num_items=[2, 1]), True)
    losses = model(**data, mode='loss')
    assert len(losses['loss_cwd']) == 5
