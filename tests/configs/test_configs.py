"""Every config loads, and what it names exists.

Models are built on torch's meta device: full-size networks then cost no
memory and next to no time.
"""
import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from meta_device import build_on_meta, on_meta
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tokenizers_offline import offline

import mmcompress.compat  # noqa: F401
from mmcompress.distill.taps import Taps
from mmcompress.distill.teacher_source import read_config
from mmcompress.model.config import build_model

ROOT = Path(__file__).parents[2]
FILES = [
    file for file in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in file.parts
]
# in names of configs that quantize, and sizes of one network
BITS = re.compile(r'[-_]w\d([-_]a\d)?|\d-\d-\d|_stage\d|(?<=biformer)-[a-z]+')
every_config = pytest.mark.parametrize('file', FILES, ids=lambda f: f.stem)


def building():
    """All configs; slow if one has the same model of other bits or size.

    Of large ones the first of a folder; the others are for the gate.
    """
    seen = set()
    for file in FILES:
        model = file.parent, BITS.sub('', file.stem)
        marks = []
        if model in seen:
            marks = [pytest.mark.slow]
        elif file.parent in seen and '_mini' not in file.stem:
            marks = [pytest.mark.slow, pytest.mark.gate]
        yield pytest.param(file, id=file.stem, marks=marks)
        seen.add(model)
        if '_mini' not in file.stem:
            seen.add(file.parent)


@lru_cache(maxsize=None)
def _load(file):
    return Config.fromfile(file)


def load(file):
    return deepcopy(_load(file))


@lru_cache(maxsize=None)
def models_of(metafile):
    return yaml.safe_load(metafile.read_text('utf-8'))['Models']


@pytest.mark.parametrize('file', building())
def test_loads_builds_and_has_what_it_taps(file):
    cfg = load(file)
    offline(cfg.model)
    # this builds the student, and looks for what is tapped of it
    model = build_on_meta(cfg)
    assert hasattr(model, 'distill') == ('losses' in cfg.model)
    if not cfg.model.get('teacher'):
        return
    with on_meta(), DefaultScope.overwrite_default_scope(cfg.default_scope):
        teacher = build_model(
            read_config(cfg.model.teacher.cfg, str(file.parent)))
    losses = cfg.model.get('losses', {})
    taps = {k: v.teacher for k, v in losses.items() if v.teacher}
    Taps(taps, teacher, 'teacher')
    for part in cfg.model.get('init_student') or []:
        teacher.get_submodule(part)


@every_config
def test_trains_as_long_as_its_metafile_says(file):
    for model in models_of(file.parent / 'metafile.yml'):
        if Path(model['Config']).name == file.name:
            epochs = model['Metadata'].get('Epochs')
            assert epochs in (None, load(file).train_cfg.get('max_epochs'))


@every_config
def test_repairs_the_environment_and_keeps_checkpoints_plain(file):
    cfg = load(file)
    assert 'mmcompress.compat' in cfg.custom_imports.imports
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert 'mmcompress.PlainCheckpointHook' in hooks
    assert 'mmcompress.InformTeacherHook' in hooks
