"""Configs of ours mean the same when they are inherited as a package's.

mmengine writes ``_scope_='mmcompress'`` into everything that it reads from a
base ``mmcompress::...``, and looks types up in that scope.
"""
import subprocess
import sys
from pathlib import Path

import pytest
from meta_device import build_on_meta
from mmengine import registry
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.launch import find_tool

# every config is read twice
pytestmark = [pytest.mark.slow, pytest.mark.gate]

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
    pipeline='TRANSFORMS',
    switch_pipeline='TRANSFORMS',
    optimizer='OPTIMIZERS')


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
            mmengine_config, 'get_installed_path',
            lambda package: str(ROOT / 'mmcompress')
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
            for k, v in value.items() if (k, v) != ('_scope_', 'mmcompress')
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
        is_piece = kind is not None and isinstance(cfg.get('type'), str)
        if is_piece:
            yield kind, cfg.get('_scope_'), cfg['type']
        for key, value in cfg.items():
            # default_hooks has more of them
            inner = kind if kind == 'HOOKS' and not is_piece else None
            if kind != 'MODELS' and isinstance(value, (dict, list)):
                yield from outermost(value, inner or PIECES.get(key))


def classes(cfg):
    """What is built, as classes, the scope of each resolved."""
    found = set()
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for kind, scope, name in sorted(
                set(outermost(cfg.to_dict())), key=str):
            root = getattr(registry, kind)
            with root.switch_scope_and_registry(scope) as here:
                found.add((kind, name, here.get(name)))
    assert not [name for _, name, cls in found if cls is None]
    return found


@pytest.mark.parametrize('file', [
    pytest.param(
        file,
        id=file.stem,
        marks=[] if 'mini' in file.stem else pytest.mark.slow)
    for file in FILES
])
def test_a_base_means_what_the_config_means(file, as_base):
    own = Config.fromfile(file)
    cfg = as_base(file.relative_to(ROOT / 'configs'))
    assert without_scope(cfg.to_dict()) == without_scope(own.to_dict())
    assert classes(cfg) == classes(own)


def built(cfg):
    return {
        name: type(module)
        for name, module in build_on_meta(cfg).named_modules()
    }


@pytest.mark.parametrize(
    'file',
    [
        # mmdet has an SSDHead as well as we
        'bi_ssd/bi_ssd_vgg16_mini_float.py',
        # with a registry of mmpose's own, for codecs
        'dwpose/dwpose_s1_mini.py',
        'cwd/cwd_pspnet_mini.py',
        'nkd/nkd_resnet_mini.py'
    ])
def test_a_base_builds_what_the_config_builds(file, as_base, monkeypatch):
    said = []
    monkeypatch.setattr('mmengine.logging.print_log',
                        lambda message, *args, **kwargs: said.append(message))
    cfg = as_base(file)
    # as it is where nothing of the model comes from a library's config
    cfg.model._scope_ = 'mmcompress'
    assert built(cfg) == built(Config.fromfile(ROOT / 'configs' / file))
    assert said and 'Failed to search' not in str(said)


# as a line of a .pth file does it, before anything else
OWN_TOOL = """
import runpy, sys
import mmcompress.config_prefix as _p; _p.install()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
FEW = [
    f'{loader}_dataloader.dataset.settings.num_{split}=8'
    for loader in ('train', 'val') for split in ('train', 'val')
]
SHORT = [
    *FEW, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
    'model.teacher.checkpoint=None', 'model.teacher.allow_random=True'
]


@pytest.mark.slow
@pytest.mark.parametrize('tool, file', [
    ('ours', 'kd/kd_resnet_mini.py'),
    ('mmdet', 'fgd/fgd_retinanet_mini.py'),
    ('mmpretrain', 'nkd/nkd_resnet_mini.py'),
    ('mmseg', 'cwd/cwd_pspnet_mini.py'),
    ('mmpose', 'dwpose/dwpose_s1_mini.py'),
])
def test_any_tool_trains_what_inherits_ours(tool, file, tmp_path):
    (tmp_path / 'user.py').write_text(f"_base_ = 'mmcompress::{file}'\n")
    path = ROOT / 'tools' / 'train.py'
    if tool != 'ours':
        path = find_tool(tool, 'train.py')
    done = subprocess.run([
        sys.executable, '-W', 'ignore', '-c', OWN_TOOL,
        str(path),
        str(tmp_path / 'user.py'), '--work-dir',
        str(tmp_path), '--cfg-options', *SHORT
    ], capture_output=True, text=True)  # yapf: disable
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / 'epoch_1.pth').is_file()
    assert 'Failed to search registry' not in done.stdout
