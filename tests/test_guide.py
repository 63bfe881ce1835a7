"""The configs that the user guide shows are written out and built."""
import math
import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

import mmcompress.compat  # noqa: F401
from mmcompress.distill.taps import Taps
from mmcompress.distill.teacher import build_model, read_config

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / 'docs' / 'user_guide' / 'distill.md').read_text('utf-8')
SHOWN = dict(
    re.findall(r'```python\n# my_configs/(\w+)\.py\n(.*?)```', GUIDE, re.S))
# their list of hooks, and how many of them are not ours
HOOKS = dict(bccd_fgd_r18_r50=0, bccd_fgd_weigh=0, yolox_tiny_s=3)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The guide's ``my_configs``, beside our configs."""
    folder = tmp_path_factory.mktemp('guide')
    (folder / 'configs').symlink_to(ROOT / 'configs')
    (folder / 'my_configs').mkdir()
    for name, text in SHOWN.items():
        (folder / 'my_configs' / f'{name}.py').write_text(text)
    return folder / 'my_configs'


@pytest.mark.parametrize('name', SHOWN)
def test_shown_config_builds_and_taps_what_exists(folder, name):
    cfg = Config.fromfile(folder / f'{name}.py')
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        assert hasattr(model, 'distill') == ('losses' in cfg.model)
        if 'teacher' not in cfg.model:
            return
        teacher = build_model(read_config(cfg.model.teacher.cfg, str(folder)))
    taps = {name: loss.teacher for name, loss in cfg.model.losses.items()}
    Taps(taps, teacher, 'teacher')


@pytest.mark.parametrize('name', HOOKS)
def test_shown_config_keeps_the_hooks_of_its_base(folder, name):
    cfg = Config.fromfile(folder / f'{name}.py')
    runtime = Config.fromfile(ROOT / 'configs' / '_base_' / 'runtime.py')
    types = [hook.type for hook in cfg.custom_hooks]
    ours = [hook.type for hook in runtime.custom_hooks]
    assert types[HOOKS[name]:][:len(ours)] == ours
    assert cfg.custom_imports == runtime.custom_imports


def test_two_bases_with_hooks_are_refused_as_the_guide_says(folder):
    (folder / 'twice.py').write_text(
        "_base_ = ['mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', "
        "'../configs/_base_/runtime.py']\n")
    with pytest.raises(KeyError) as error:
        Config.fromfile(folder / 'twice.py')
    assert error.value.args[0] in GUIDE


def test_shows_the_distillation_config_in_few_lines():
    lines = SHOWN['bccd_fgd_r18_r50'].split('\n\n', 1)[1].strip().split('\n')
    assert len(lines) <= 16


@pytest.mark.skipif(
    'MMCOMPRESS_DATA' not in os.environ,
    reason='MMCOMPRESS_DATA names no folder with real images, see '
    'CONTRIBUTING.md')
@pytest.mark.parametrize('name, metric', [
    ('bccd_fgd_r18_r50', 'pascal_voc/mAP'),
    ('street_distill', 'coco/bbox_mAP'),
])
def test_shown_config_trains_on_real_images(folder, name, metric, monkeypatch,
                                            tmp_path):
    monkeypatch.chdir(tmp_path)
    Path('data').symlink_to(Path(os.environ['MMCOMPRESS_DATA']).resolve())
    cfg = Config.fromfile(folder / f'{name}.py')
    loaders = dict(num_workers=0, persistent_workers=False)
    small = {'scale': (160, 120)}
    cfg.merge_from_dict(
        dict(
            work_dir=str(tmp_path),
            experiment_name=name,
            log_level='ERROR',
            model=dict(
                student=dict(
                    backbone=dict(init_cfg=None),
                    # an untrained head is sure of nothing
                    test_cfg=dict(score_thr=0.0)),
                teacher=dict(checkpoint=None, allow_random=True)),
            train_cfg=dict(max_epochs=1),
            default_hooks=dict(logger=dict(interval=1), checkpoint=None),
            train_dataloader=dict(
                dataset=dict(indices=4, pipeline={'3': small}), **loaders),
            val_dataloader=dict(
                dataset=dict(indices=2, pipeline={'1': small}), **loaders)))
    runner = Runner.from_cfg(cfg)
    runner.train()
    scalars = runner.message_hub.log_scalars
    for key in ('loss_cls', 'loss_bbox', 'loss_fgd'):
        history = scalars[f'train/{key}'].data[0]
        assert len(history) == 2 and all(map(math.isfinite, history))
    assert f'val/{metric}' in scalars
