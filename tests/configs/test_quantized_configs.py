"""Recipes of quantized models: what they start from, and for how long."""
import re
from functools import lru_cache
from pathlib import Path

import pytest
from configs.test_distill_configs import checkpoints_of
from mmengine.config import Config

from mmcompress.distill.teacher_source import read_config

CONFIGS = Path(__file__).parents[2] / 'configs'
FILES = [
    file for folder in ('lsq', 'dorefa', 'pact')
    for file in sorted((CONFIGS / folder).glob('*.py'))
]
TAUGHT = [file for file in FILES if 'losses=' in file.read_text()]
load = lru_cache(maxsize=None)(Config.fromfile)


@pytest.mark.parametrize('file', TAUGHT, ids=lambda file: file.stem)
def test_the_teacher_is_the_float_model_that_it_starts_from(file):
    cfg = load(file)
    teacher = cfg.model.teacher
    assert cfg.load_from == teacher.checkpoint
    assert cfg.load_from in checkpoints_of(teacher.cfg)
    student = cfg.model.student
    assert student.type == 'mmcompress.Compress'
    library = read_config(teacher.cfg, str(file.parent))
    assert student.model.type == library.model.type
    assert student.model.backbone == library.model.backbone


def test_there_is_such_a_recipe_for_each_of_int8():
    alone = [
        f for f in FILES
        if '_w8_a8_' in f.stem and 'mini' not in f.stem and f not in TAUGHT
    ]
    bases = {re.search(r"'\./(.*)\.py'", f.read_text())[1] for f in TAUGHT}
    assert len(TAUGHT) == 11
    assert {f.stem for f in alone} == bases


@pytest.mark.slow
def test_the_rate_reaches_zero_when_the_training_ends():
    for file in FILES:
        if file in TAUGHT:
            continue
        cfg = load(file)
        schedule, = ([cfg.param_scheduler]
                     if 'type' in cfg.param_scheduler else cfg.param_scheduler)
        loop = cfg.train_cfg
        assert schedule.end == loop.get('max_epochs', loop.get('max_iters'))


def test_each_page_names_its_configs():
    for file in FILES:
        page = (file.parent / 'README.md').read_text('utf-8')
        assert f'({file.name})' in page
