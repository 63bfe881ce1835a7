"""Every config loads, and what it names exists; some take a step.

Models are built on torch's meta device: full-size networks then cost no
memory and next to no time.
"""
import re
from contextlib import nullcontext
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from meta_device import on_meta
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.distill.listing import without_downloads
from mmcompress.distill.made_up_inputs import made_up_batch
from mmcompress.distill.taps import Taps
from mmcompress.distill.teacher import build_model, read_config

ROOT = Path(__file__).parents[2]
FILES = [
    file for file in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in file.parts
]
every_config = pytest.mark.parametrize('file', FILES, ids=lambda f: f.stem)


@lru_cache(maxsize=None)
def _load(file):
    return Config.fromfile(file)


def load(file):
    return deepcopy(_load(file))


def build(cfg, device=nullcontext, **teacher):
    """The model of a config, as a Runner builds it."""
    model = cfg.model.copy()
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    if model.get('teacher') and teacher:
        model.teacher = {**model.teacher, **teacher}
    scope = DefaultScope.overwrite_default_scope(cfg.default_scope)
    with device(), scope:
        return MODELS.build(model)


@every_config
def test_loads_builds_and_has_what_it_taps(file):
    cfg = load(file)
    # this builds the student, and looks for what is tapped of it
    model = build(cfg, on_meta)
    assert hasattr(model, 'distill') == ('losses' in cfg.model)
    if not cfg.model.get('teacher'):
        return
    with on_meta(), DefaultScope.overwrite_default_scope(cfg.default_scope):
        teacher = build_model(
            read_config(cfg.model.teacher.cfg, str(file.parent)))
    taps = {k: v.teacher for k, v in cfg.model.losses.items() if v.teacher}
    Taps(taps, teacher, 'teacher')
    for part in cfg.model.get('init_student') or []:
        teacher.get_submodule(part)


@every_config
def test_repairs_the_environment_and_keeps_checkpoints_plain(file):
    cfg = load(file)
    assert 'mmcompress.compat' in cfg.custom_imports.imports
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert 'mmcompress.PlainCheckpointHook' in hooks
    assert 'mmcompress.DistillHook' in hooks


# of these methods every config takes a step, most of them in slow tests
METHODS = ('mgd', 'pkd', 'nkd', 'uskd', 'vitkd')
QUICK = ('mgd_pspnet_r18_r101_40k_cityscapes-512x512',
         'nkd_mobilenet-v3-small_resnet50_in1k', 'uskd_deit-tiny_in1k',
         'tf_nkd_resnet18_in1k', 'vitkd_nkd_deit-tiny_deit3-small_in1k')
# enough, except for transformers, which want images of their own size
SIZES = dict(mgd_pspnet=64, mgd_deeplabv3=64, mgd=96, pkd=96)


def step_of(file):
    """Of a config: its name, and the size of the images."""
    sizes = [v for k, v in SIZES.items() if file.stem.startswith(k)]
    return pytest.param(
        f'{file.parent.name}/{file.stem}',
        sizes[0] if sizes else None,
        marks=() if file.stem in QUICK else pytest.mark.slow)


STEPS = [
    step_of(file)
    for file in FILES if file.parent.name in METHODS and re.search(
        '(teacher|losses)=', file.read_text()) and 'mini' not in file.stem
] + [
    pytest.param('ida_det/ida_det_r18', 64, marks=pytest.mark.slow),
    pytest.param(
        'fgd/fgd_retinanet_r50_r101_fpn_2x_coco', 96, marks=pytest.mark.slow),
    ('cwd/cwd_pspnet_r18_r101_80k_cityscapes', 64),
    ('kd/kd_resnet18_resnet34_in1k', 64),
    ('fitnets/fitnets_resnet18_resnet50_in1k', 64),
]


@pytest.mark.parametrize('name, size', STEPS)
def test_takes_a_step_and_predicts(name, size):
    file = ROOT / 'configs' / f'{name}.py'
    cfg = load(file)
    if cfg.default_scope == 'mmseg':
        for part in ('backbone', 'decode_head', 'auxiliary_head'):
            # SyncBN needs a GPU
            cfg.model.student[part].norm_cfg.type = 'BN'
    torch.manual_seed(0)
    model = build(cfg, checkpoint=None, allow_random=True)
    if model.distill.teacher:
        model.distill.teacher.config_dir = str(file.parent)
    without_downloads(model)
    scope = DefaultScope.overwrite_default_scope(cfg.default_scope)
    with scope:
        model.init_weights()
        batch = made_up_batch(model, cfg.default_scope, size and (size, size))
        model.train()
        losses = model(**batch, mode='loss')
        total, logged = model.parse_losses(losses)
        total.backward()
        assert total.isfinite()
        assert set(cfg.model.losses) <= {name.split('.')[0] for name in logged}
        assert all(p.grad is not None for p in model.distill.parameters())
        model.eval()
        with torch.no_grad():
            assert len(model(**batch, mode='predict')) == 2


def test_a_reader_of_a_step_of_fgd_reads_at_most_450_lines():
    distill = ROOT / 'mmcompress' / 'distill'
    files = [
        distill / 'distiller.py', distill / 'taps.py',
        distill / 'losses' / 'fgd.py'
    ]
    assert sum(len(f.read_text().splitlines()) for f in files) <= 450
