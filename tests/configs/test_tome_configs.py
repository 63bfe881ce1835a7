"""Configs that merge tokens: how many, in what, and by whose recipe."""
import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from mmcompress.model.config import read_config

FOLDER = Path(__file__).parents[2] / 'configs' / 'tome'
MODELS = {
    model['Name']: model['Metadata']
    for model in yaml.safe_load((FOLDER /
                                 'metafile.yml').read_text())['Models']
}
NUMBERED = [name for name in MODELS if re.search(r'_r\d', name)]
# trained as the plain model is, by the library's config
RECIPES = {
    'tome_deit-small_r13_in1k':
    'deit/deit-small_4xb256_in1k',
    'tome_vit-base_r16_mae_100e_in1k':
    'mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k'
}


def without_scope(value):
    """What inheriting from another library adds is left out."""
    if isinstance(value, dict):
        return {k: without_scope(v) for k, v in value.items()
                if k != '_scope_'}  # yapf: disable
    return [*map(without_scope, value)] if isinstance(value, list) else value


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


@pytest.mark.parametrize('name', NUMBERED)
def test_as_many_tokens_leave_as_the_name_says(name):
    model = load(name).model
    step, = model.get('student', model).steps
    number = int(re.search(r'_r(\d+)', name)[1])
    assert step == dict(
        type='mmcompress.MergeTokens',
        r=(number, -1) if 'falling' in name else number)


@pytest.mark.parametrize('name', [n for n in MODELS if '_late_' in n])
def test_dense_models_keep_half_of_their_tokens(name):
    step, = load(name).model.steps
    tokens = 192 if 'vitpose' in name else 1024
    assert step.r[:4] == [0] * 4 and sum(step.r) == tokens / 2


@pytest.mark.parametrize('name', RECIPES)
def test_training_with_merging_is_the_plain_recipe(name):
    ours = load(name)
    plain = read_config(f'mmpretrain::{RECIPES[name]}.py')
    for key in ('train_dataloader', 'optim_wrapper', 'param_scheduler',
                'train_cfg'):
        assert without_scope(ours[key]) == without_scope(plain[key])
    assert ours.get('load_from') is None


@pytest.mark.parametrize('name', [
    n for n, about in MODELS.items()
    if about.get('Training Data') == 'mini' and 'Dense' in about
])
def test_mini_ones_start_from_the_dense_model_and_do_not_replace_it(name):
    dense = MODELS[name]['Dense']
    cfg = load(name)
    assert cfg.load_from == f'cache://{dense}'
    assert cfg.default_hooks.keep.name is None
    assert load(dense).default_hooks.keep.name == dense
