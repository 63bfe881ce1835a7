"""Every config builds, trains a step and predicts; most in slow tests."""
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from tokenizers_offline import offline

import mmcompress.compat  # noqa: F401
from mmcompress.model.config import without_downloads
from mmcompress.model.inputs import made_up_batch

ROOT = Path(__file__).parents[2] / 'configs'
FILES = [f for f in sorted(ROOT.rglob('*.py')) if '_base_' not in f.parts]
# each method's example takes a step in test_method_pages.py; these are of
# other kinds of models
QUICK = {
    'cwd_pspnet_r18_r101_80k_cityscapes',
    'dwpose_s1_rtmpose-t_rtmpose-l_270e_coco-ubody-256x192',
    'dwpose_s2_rtmpose-t_60e_coco-ubody-256x192',
    'fitnets_resnet18_resnet50_in1k',
    'kd_resnet18_resnet34_in1k',
    'mgd_resnet_mini',
    'nkd_mobilenet-v3-small_resnet50_in1k',
    'rbonn_faster-rcnn_r18_mini',
    'tf_nkd_resnet18_in1k',
    'uskd_deit-tiny_in1k',
    'vitkd_nkd_deit-tiny_deit3-small_in1k',
}


def size_of(cfg):
    """Enough pixels for the model: pyramids want more, some a fixed number."""
    text = str(cfg.model.get('student', cfg.model))
    if cfg.default_scope == 'mmdet':
        # DINO chooses 900 queries among its positions
        large = 'SSD' in text or 'DINO' in text
        return (300, 300) if large else (96, 96)
    if cfg.default_scope == 'mmseg' and 'MAE' not in text:
        return 64, 64
    # None: the size that a transformer or a codec is made for
    fixed = ('VisionTransformer', 'DeiT', 'T2T', 'Swin', 'BiFormer',
             'PointNet', 'codec', 'decoder', 'MAE', 'CIFAR')
    return None if any(word in text for word in fixed) else (64, 64)


@pytest.mark.parametrize('file', [
    pytest.param(
        file,
        id=file.stem,
        marks=() if file.stem in QUICK else pytest.mark.slow) for file in FILES
])
def test_takes_a_step_and_predicts(file):
    torch.manual_seed(0)
    cfg = Config.fromfile(file)
    offline(cfg.model)
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    teacher = cfg.model.get('teacher')
    if teacher:
        teacher.update(checkpoint=None, allow_random=True)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build(cfg, file.parent)
        cfg.optim_wrapper.type = 'OptimWrapper'
        cfg.optim_wrapper.pop('loss_scale', None)
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        batch = made_up_batch(model, cfg.default_scope, size_of(cfg))
        model.train()
        # as a Runner does, for TOOD's head
        MessageHub.get_current_instance().update_info('epoch', 0)
        # BLIP adds samples without a text
        loss, logged = model.parse_losses(
            model(**deepcopy(batch), mode='loss'))
        assert loss.isfinite()
        optim_wrapper.backward(loss)
        if 'losses' in cfg.model:
            assert all(p.grad is not None for p in model.distill.parameters())
            named = {name.split('.')[0] for name in logged}
            assert set(cfg.model.losses) <= named
        optim_wrapper.step()
        assert all(p.isfinite().all() for p in model.parameters())
        if cfg.get('test_cfg') is None:
            # pretraining without labels, which predicts nothing
            return
        model.eval()
        if hasattr(model, 'topk'):
            # more candidates than the images and texts of a batch
            model.topk = 2
        with torch.no_grad():
            assert len(model(**batch, mode='predict')) == 2


def build(cfg, folder):
    """The model, as a Runner builds it, but with no pretrained weights."""
    model = MODELS.build(cfg.model)
    without_downloads(model)
    if getattr(model, 'distill', None) and model.distill.teacher:
        model.distill.teacher.config_dir = str(folder)
    model.init_weights()
    # SyncBN needs a GPU
    model = revert_sync_batchnorm(model)
    if getattr(model, 'distill', None) and model.distill.teacher:
        model.distill.teacher.model = revert_sync_batchnorm(
            model.distill.teacher.model)
    return model


def test_quick_ones_exist():
    assert QUICK <= {file.stem for file in FILES}
