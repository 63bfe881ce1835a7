"""Both stages of DWPose from our configs, on real persons."""
import os
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

import mmcompress.compat  # noqa: F401

CONFIGS = Path(__file__).parents[2] / 'configs' / 'dwpose'
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        'MMCOMPRESS_DATA' not in os.environ,
        reason='MMCOMPRESS_DATA names no folder with real images')
]
SIZE = (64, 96)


def small(cfg, width):
    """Shrink an RTMPose."""
    cfg.backbone.update(
        widen_factor=width, init_cfg=None, norm_cfg=dict(type='BN'))
    cfg.head.update(
        in_channels=int(1024 * width),
        input_size=SIZE,
        in_featuremap_size=(2, 3))
    cfg.head.gau_cfg.update(hidden_dims=16, s=8)
    cfg.head.decoder.update(input_size=SIZE, sigma=(2.0, 2.5))


def load(name, folder):
    """A config on the dozen persons that mmpose tests itself with."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    root = os.path.join(os.environ['MMCOMPRESS_DATA'], 'mmpose/coco/')
    persons = dict(
        type='CocoWholeBodyDataset',
        data_root=root,
        ann_file='test_coco_wholebody.json',
        data_prefix=dict(img=''),
        bbox_file=None)
    for loader in (cfg.train_dataloader, cfg.val_dataloader,
                   cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False, batch_size=6)
    # albumentations is an extra of mmpose
    pipeline = [
        step for step in cfg.train_dataloader.dataset.pipeline
        if step.type != 'Albumentation'
    ]
    for step in [*pipeline, *cfg.val_dataloader.dataset.pipeline,
                 *cfg.test_dataloader.dataset.pipeline]:  # yapf: disable
        if step.type == 'TopdownAffine':
            step.input_size = SIZE
    pipeline[-2].encoder.update(input_size=SIZE, sigma=(2.0, 2.5))
    cfg.train_dataloader.dataset = dict(persons, pipeline=pipeline)
    cfg.val_dataloader.dataset.update(persons)
    cfg.test_dataloader.dataset.update(persons)
    cfg.val_evaluator.ann_file = root + 'test_coco_wholebody.json'
    cfg.test_evaluator.ann_file = root + 'test_coco_wholebody.json'
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.param_scheduler = []
    cfg.custom_hooks = [
        hook for hook in cfg.custom_hooks if 'switch_epoch' not in hook
    ]
    # mmengine keeps visualizers by name: two runs would share one log
    cfg.visualizer.pop('name')
    cfg.work_dir = str(folder / name)
    cfg.experiment_name = f'{folder.name}-{name}'
    small(cfg.model.student, 0.0625)
    return cfg


def own_weights(path):
    state = torch.load(path, weights_only=True)['state_dict']
    assert not any('teacher' in key for key in state)
    return {k: v for k, v in state.items() if not k.startswith('distill.')}


def test_two_stages_leave_a_plain_model(tmp_path):
    first = load('dwpose_s1_rtmpose-t_rtmpose-l_270e_coco-ubody-256x192',
                 tmp_path)
    teacher = deepcopy(first.model.student)
    small(teacher, 0.125)
    first.model.teacher = dict(cfg=teacher, allow_random=True)
    first.model.losses.loss_fea.update(
        student_channels=64, teacher_channels=128)
    runner = Runner.from_cfg(first)
    runner.train()
    logged = runner.message_hub.log_scalars
    assert logged['train/loss_fea'].current() > 0
    assert logged['train/loss_logit'].current() > 0

    second = load('dwpose_s2_rtmpose-t_60e_coco-ubody-256x192', tmp_path)
    second.model.teacher.update(
        cfg=second.model.student, checkpoint=f'{first.work_dir}/epoch_2.pth')
    runner = Runner.from_cfg(second)
    runner.train()
    before = own_weights(f'{first.work_dir}/epoch_2.pth')
    after = own_weights(f'{second.work_dir}/epoch_2.pth')
    assert before.keys() == after.keys()
    new = {key for key in after if not torch.equal(after[key], before[key])}
    assert 'head.cls_x.weight' in new
    assert all(key.startswith('head.') for key in new)

    with DefaultScope.overwrite_default_scope('mmpose'):
        plain = MODELS.build(second.model.student)
    plain.load_state_dict(after, strict=True)
    # and it is tested as it is
    second.load_from = f'{second.work_dir}/epoch_2.pth'
    second.model = second.model.student
    second.experiment_name += '-test'
    metrics = Runner.from_cfg(second).test()
    assert 0 <= metrics['coco-wholebody/AP'] <= 1
