"""Configs of ours mean the same when they are inherited as a package's.

mmengine writes ``_scope_='mmcompress'`` into everything that it reads from a
base ``mmcompress::...``, and looks types up in that scope.
"""
from contextlib import suppress
from pathlib import Path

import pytest
from meta_device import on_meta
from mmengine import registry
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401

ROOT = Path(__file__).parents[2]
FILES = [
    file for file in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in file.parts
]
# what stands at these keys is built with these registries
PIECES = dict(
    model='MODELS',
    visualizer='VISUALIZERS',
    vis_backends='VISBACKENDS',
    log_processor='LOG_PROCESSORS',
    default_hooks='HOOKS',
    custom_hooks='HOOKS',
    optim_wrapper='OPTIM_WRAPPERS',
    param_scheduler='PARAM_SCHEDULERS',
    train_cfg='LOOPS',
    val_cfg='LOOPS',
    test_cfg='LOOPS',
    val_evaluator='METRICS',
    test_evaluator='METRICS',
    dataset='DATASETS',
    datasets='DATASETS',
    sampler='DATA_SAMPLERS',
    batch_sampler='DATA_SAMPLERS',
    pipeline='TRANSFORMS')


@pytest.fixture(scope='module')
def as_base(tmp_path_factory):
    """Reads a config of ours through a user's config elsewhere."""
    user = tmp_path_factory.mktemp('user') / 'user.py'

    def read(file):
        user.write_text(f"_base_ = 'mmcompress::{file}'\n")
        return Config.fromfile(user)

    installed_path = mmengine_config.get_installed_path
    with pytest.MonkeyPatch.context() as patch:
        # this checkout, wherever another one is installed
        patch.setattr(
            mmengine_config, 'get_installed_path', lambda package:
            str(ROOT / 'mmcompress')
            if package == 'mmcompress' else installed_path(package))
        # looks every name up in metafiles, where none is with its suffix
        patch.setattr(mmengine_config, '_get_external_cfg_path', not_there)
        yield read


def not_there(*args):
    raise ValueError


def without_scope(value):
    """A config as it is when it is read by its path."""
    if isinstance(value, dict):
        return {
            k: without_scope(v)
            for k, v in value.items()
            if (k, v) != ('_scope_', 'mmcompress')
        }
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_scope, value))
    if isinstance(value, str):
        return value.replace('/mmcompress/.mim/configs/', '/configs/')
    return value


def outermost(cfg, kind=None):
    """What a Runner builds of a config: (registry, scope, type), ..."""
    if isinstance(cfg, (list, tuple)):
        for item in cfg:
            yield from outermost(item, kind)
    elif isinstance(cfg, dict):
        if kind is not None and isinstance(cfg.get('type'), str):
            yield kind, cfg.get('_scope_'), cfg['type']
        for key, value in cfg.items():
            inner = PIECES.get(key)
            if key == 'optimizer':
                inner = 'OPTIMIZERS'
            if isinstance(value, (dict, list)) and kind != 'MODELS':
                yield from outermost(
                    value, kind if kind == 'HOOKS' else inner)


def classes(cfg):
    """What is built, as classes, the scope of each resolved."""
    found = set()
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for kind, scope, name in sorted(set(outermost(cfg.to_dict())),
                                        key=str):
            root = getattr(registry, kind)
            with root.switch_scope_and_registry(scope) as here:
                found.add((kind, name, here.get(name)))
    assert all(cls is not None for _, _, cls in found)
    return found


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_a_base_means_what_the_config_means(file, as_base):
    own = Config.fromfile(file)
    cfg = as_base(file.relative_to(ROOT / 'configs'))
    assert without_scope(cfg.to_dict()) == without_scope(own.to_dict())
    assert classes(cfg) == classes(own)
