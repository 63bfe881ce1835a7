"""What a user does with a distilled checkpoint."""
import json
import os
import subprocess
import sys
from pathlib import Path

import mmdet
import mmengine
import pytest
import torch
from distill.models import build
from integration.small_runs import (ROOT, fgd, ida_det, losses, weights,
                                    write_config)
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmcompress.datasets import ensure_mini_data


def run(config, work_dir, **changes):
    """Train in this process."""
    cfg = Config.fromfile(str(config))
    cfg.merge_from_dict(changes)
    cfg.work_dir = str(work_dir)
    # mmengine keeps visualizers by name: two runs would share one log
    cfg.visualizer.pop('name')
    cfg.experiment_name = f'{work_dir.parent.name}-{work_dir.name}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Two epochs of FGD with random augmentation, and its config."""
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder / 'fgd.py', fgd(), epochs=2)
    run(config, folder / 'run')
    return folder


@pytest.fixture(scope='module')
def plain(trained):
    """The student's config, without anything of distillation."""
    student = fgd()['student']
    return write_config(trained / 'plain.py', student, epochs=2)


def test_loads_strictly_in_a_plain_model(trained):
    state = weights(trained / 'run', 'epoch_2.pth')
    own = {k: v for k, v in state.items() if not k.startswith('distill.')}
    assert len(own) < len(state)
    assert not any('teacher' in k for k in state)
    build(fgd()['student']).load_state_dict(own, strict=True)


@pytest.mark.slow
@pytest.mark.gate
def test_mmdets_own_test_tool_gives_the_same_ap(trained, plain):
    checkpoint = str(trained / 'run' / 'epoch_2.pth')
    theirs = Path(mmdet.__path__[0]) / '.mim' / 'tools' / 'test.py'
    results = []
    for name, tool, config in (('theirs', theirs, plain),
                               ('ours', ROOT / 'tools' / 'test.py',
                                trained / 'fgd.py')):
        done = subprocess.run([
            sys.executable, str(tool), str(config), checkpoint,
            '--work-dir', str(trained / name),
            '--out', str(trained / f'{name}.pkl')
        ], env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True)  # yapf: disable
        assert done.returncode == 0, done.stdout[-4000:]
        newest = max((trained / name).glob('*/*.json'))
        metrics = json.loads(newest.read_text())
        predictions = mmengine.load(trained / f'{name}.pkl')
        results.append((metrics['coco/bbox_mAP_50'], [
            torch.cat((p['pred_instances']['bboxes'],
                       p['pred_instances']['scores'][:, None]), 1)
            for p in predictions
        ]))
    assert results[0][0] == results[1][0]
    assert len(results[0][1]) == 4
    for boxes, others in zip(results[0][1], results[1][1]):
        assert len(boxes) == 10
        assert torch.equal(boxes, others)


def test_init_detector_and_inferencer(trained, plain):
    from mmdet.apis import DetInferencer, inference_detector, init_detector
    checkpoint = str(trained / 'run' / 'epoch_2.pth')
    image = str(
        next((ensure_mini_data(num_train=8, num_val=4) /
              'JPEGImages').glob('*.jpg')))
    boxes = []
    for config in (trained / 'fgd.py', plain):
        # without options mmdet looks for config.model.backbone
        model = init_detector(
            str(config), checkpoint, device='cpu', cfg_options={})
        assert type(model).__name__ == 'RetinaNet'
        boxes.append(inference_detector(model, image).pred_instances.bboxes)
    torch.testing.assert_close(*boxes)
    with DefaultScope.overwrite_default_scope('mmdet'):
        inferencer = DetInferencer(
            str(trained / 'fgd.py'), checkpoint, device='cpu')
        found = inferencer(image, no_save_vis=True)['predictions'][0]
    assert len(found['bboxes']) == len(boxes[0])


@pytest.mark.parametrize('model', [
    pytest.param(fgd, marks=[pytest.mark.slow, pytest.mark.gate]),
    pytest.param(ida_det, marks=pytest.mark.slow)
])
def test_a_resumed_run_equals_the_uninterrupted_one(model, tmp_path):
    config = write_config(tmp_path / 'run.py', model(), epochs=2)
    run(config, tmp_path / 'whole')
    run(config, tmp_path / 'parts', **{'train_cfg.max_epochs': 1})
    run(config, tmp_path / 'parts', resume=True)
    whole, resumed = losses(tmp_path / 'whole'), losses(tmp_path / 'parts')
    assert len(whole) == 8 and len(resumed) == 4
    for expected, actual in zip(whole[4:], resumed):
        for key in [k for k in expected if 'loss' in k]:
            assert actual[key] == pytest.approx(expected[key], rel=1e-6), key
    expected = weights(tmp_path / 'whole', 'epoch_2.pth')
    actual = weights(tmp_path / 'parts', 'epoch_2.pth')
    for key, value in expected.items():
        torch.testing.assert_close(
            actual[key], value, rtol=1e-6, atol=1e-7, msg=key)


def test_starts_from_a_plain_checkpoint(tmp_path, plain):
    path = tmp_path / 'plain.pth'
    student = build(fgd()['student'], seed=9)
    torch.save(dict(state_dict=student.state_dict()), path)
    config = write_config(tmp_path / 'run.py', fgd())
    runner = run(
        config,
        tmp_path / 'run',
        load_from=str(path),
        **{'optim_wrapper.optimizer.lr': 0.0})
    assert torch.equal(runner.model.backbone.conv1.weight,
                       student.backbone.conv1.weight)


def test_hooks_that_reach_into_the_model(tmp_path):
    config = write_config(tmp_path / 'run.py', fgd())
    cfg = Config.fromfile(str(config))
    hooks = cfg.custom_hooks + [
        dict(type='NumClassCheckHook'),
        dict(type='EMAHook', momentum=0.5, update_buffers=True),
    ]
    runner = run(
        config,
        tmp_path / 'run',
        custom_hooks=hooks,
        **{
            'default_hooks.visualization':
            dict(
                type='DetVisualizationHook',
                draw=True,
                test_out_dir='drawn',
                interval=1)
        })
    checkpoint = torch.load(
        tmp_path / 'run' / 'epoch_1.pth', weights_only=True)
    # mmengine keeps the averaged weights under `module.` beside the others
    averaged = [k for k in checkpoint['ema_state_dict'] if k != 'steps']
    assert averaged and not any('teacher' in key for key in averaged)
    assert runner.model.distill.teacher.model is not None
    runner.test()
    assert list((tmp_path / 'run').glob('*/drawn/*.jpg'))


def test_yolox_switches_its_mode(tmp_path):
    model = Config.fromfile(
        str(
            Path(mmdet.__path__[0]) / '.mim' / 'configs' / 'yolox' /
            'yolox_tiny_8xb8-300e_coco.py')).model.to_dict()
    model['_scope_'] = 'mmdet'
    model['backbone'].update(deepen_factor=0.33, widen_factor=0.125)
    model['neck'].update(
        in_channels=[32, 64, 128], out_channels=24, num_csp_blocks=1)
    model['bbox_head'].update(num_classes=10, in_channels=24, feat_channels=24)
    # a random size every 10 steps
    model['data_preprocessor'].pop('batch_augments')
    cfg = dict(
        type='mmcompress.Distill',
        student=model,
        teacher=dict(cfg=model, checkpoint=None, allow_random=True),
        losses=dict(
            loss_hint=dict(
                type='mmcompress.FeatureL2Loss',
                student='neck',
                teacher='neck')))
    config = write_config(tmp_path / 'run.py', cfg, epochs=3)
    hooks = Config.fromfile(str(config)).custom_hooks + [
        dict(type='YOLOXModeSwitchHook', num_last_epochs=1, skip_type_keys=())
    ]
    # the hook changes the pipeline of mmdet's dataset for mixed images
    dataset = Config.fromfile(str(config)).train_dataloader.dataset
    mixed = dict(
        type='MultiImageMixDataset',
        dataset=dataset,
        pipeline=[dict(type='PackDetInputs')])
    dataset.pipeline.pop()
    runner = run(
        config,
        tmp_path / 'run',
        custom_hooks=hooks,
        **{
            'train_dataloader.dataset': dict(_delete_=True, **mixed),
            'train_dataloader.collate_fn': dict(type='pseudo_collate')
        })
    assert runner.model.bbox_head.use_l1
    rows = losses(tmp_path / 'run')
    assert ['loss_l1' in row for row in rows] == [False] * 4 + [True] * 8
