"""DWPose's recipes: official settings and schedules."""
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import PARAM_SCHEDULERS

import mmcompress.compat  # noqa: F401

FOLDER = Path(__file__).parents[2] / 'configs' / 'dwpose'
FIRST = sorted(FOLDER.glob('dwpose_s1_*.py'))
SECOND = sorted(
    f for f in FOLDER.glob('dwpose_s2_*.py') if 'mini' not in f.stem)
OFFICIAL = [file for file in FIRST if 'rtmpose' in file.stem]
each_second = pytest.mark.parametrize('file', SECOND, ids=lambda f: f.stem)
CHANNELS = dict(t=384, s=512, m=768, l=1024, x=1280)


@lru_cache(maxsize=None)
def _load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def load(name):
    return deepcopy(_load(name))


def hooks(cfg, kind):
    return [h for h in cfg.custom_hooks if h.type.split('.')[-1] == kind]


@pytest.mark.parametrize('file', OFFICIAL, ids=lambda f: f.stem)
def test_first_stage_has_the_official_settings(file):
    cfg = load(file.stem)
    student, teacher = (
        part.split('-')[1] for part in file.stem.split('_')
        if part.startswith('rtmpose'))
    losses = cfg.model.losses
    fade = dict(
        type='mmcompress.PiecewiseLinear',
        points=[(0, 1.0), (1, 0.0)],
        by_epoch=True)
    assert losses.loss_fea == dict(
        type='mmcompress.DWPoseFeatureLoss',
        student='backbone[-1]',
        teacher='backbone[-1]',
        student_channels=CHANNELS[student],
        teacher_channels=CHANNELS[teacher],
        alpha_fea=7e-5,
        schedule=fade)
    assert losses.loss_logit == dict(
        type='mmcompress.DWPoseLogitLoss',
        student='head',
        teacher='head',
        weight=0.1,
        schedule=fade)
    assert cfg.model.student.head.in_channels == CHANNELS[student]
    assert cfg.optim_wrapper.clip_grad.max_norm == 1
    assert cfg.optim_wrapper.optimizer.lr == 4e-3
    size = (288, 384) if '384' in file.stem else (192, 256)
    assert tuple(cfg.codec.input_size) == size
    body = '_420e_' in file.stem
    assert cfg.train_cfg.max_epochs == (420 if body else 270)
    assert cfg.train_dataloader.batch_size == (
        256 if body else 32 if '384' in file.stem else 64)


@each_second
def test_second_stage_continues_the_first(file):
    cfg = load(file.stem)
    assert cfg.model.head_only
    assert cfg.model.teacher.cfg == cfg.model.student
    assert cfg.model.losses == dict(
        loss_logit=dict(
            type='mmcompress.DWPoseLogitLoss',
            student='head',
            teacher='head',
            weight=1.0,
            schedule=None))
    assert cfg.optim_wrapper.clip_grad.max_norm == 1
    checkpoint = cfg.model.teacher.checkpoint
    if '://' in checkpoint:
        return
    name, filename = checkpoint.split('/')[1:]
    first = load(name)
    assert filename == f'epoch_{first.train_cfg.max_epochs}.pth'
    # what the first stage trains is what the second one builds
    assert first.model.student == cfg.model.student
    assert cfg.train_dataloader == first.train_dataloader


def rates(cfg, per_epoch):
    """Learning rate of each iteration."""
    optimizer = torch.optim.SGD([torch.zeros(1)],
                                lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = []
    for scheduler in cfg.param_scheduler:
        scheduler = dict(scheduler)
        scheduler.pop('_scope_', None)
        by_iters = scheduler.pop('convert_to_iter_based', False)
        kind = PARAM_SCHEDULERS.get(scheduler.pop('type'))
        if by_iters:
            scheduler = kind.build_iter_from_epoch(
                optimizer, epoch_length=per_epoch, **scheduler)
        else:
            scheduler = kind(optimizer, **scheduler)
        schedulers.append(scheduler)
    values = []
    for _ in range(cfg.train_cfg.max_epochs * per_epoch):
        values.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    return values


@each_second
def test_second_stage_ends_at_a_twentieth_of_the_rate(file):
    cfg = load(file.stem)
    per_epoch = 50
    values = rates(cfg, per_epoch)
    half = len(values) // 2
    assert max(values) == pytest.approx(4e-3)
    assert values[1000:half] == pytest.approx([4e-3] * (half - 1000))
    assert values[-1] == pytest.approx(2e-4, rel=1e-3)
    switch, = hooks(cfg, 'PipelineSwitchHook')
    assert switch.switch_epoch == cfg.train_cfg.max_epochs - 30


@pytest.mark.parametrize(
    'name, epochs, place',
    [('dwpose_s2_rtmpose-m_60e_coco-ubody-256x192', 270, 1),
     ('dwpose_s2_rtmpose-s_80e_coco-256x192', 420, 1),
     ('dwpose_s2_rtmpose-t_80e_coco-256x192', 420, 0)])
def test_the_official_schedule_is_an_option(name, epochs, place):
    cfg = load(name)
    cfg.merge_from_dict({
        'param_scheduler.1.begin': epochs // 2,
        'param_scheduler.1.end': epochs,
        'param_scheduler.1.T_max': epochs // 2,
        f'custom_hooks.{place}.switch_epoch': epochs - 30
    })
    first = Config.fromfile(FOLDER /
                            f'{cfg.model.teacher.checkpoint.split("/")[1]}.py')
    assert cfg.param_scheduler == first.param_scheduler
    assert cfg.custom_hooks == first.custom_hooks
    # and so the rate stays at its peak
    assert rates(cfg, 50)[-1] == pytest.approx(4e-3)


@pytest.mark.parametrize(
    'file', [f for f in (*FIRST, *SECOND) if 'ubody' in f.stem],
    ids=lambda f: f.stem)
def test_ubody_is_validated_on_cocos_images(file):
    cfg = load(file.stem)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        dataset = BaseDataset(
            ann_file=loader.dataset.ann_file,
            data_root=loader.dataset.data_root,
            data_prefix=loader.dataset.data_prefix,
            lazy_init=True)
        assert dataset.ann_file == cfg.val_evaluator.ann_file
        assert dataset.data_prefix == dict(img='data/coco/val2017/')
