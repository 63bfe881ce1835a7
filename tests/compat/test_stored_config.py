import sys
import time
from collections import OrderedDict
from contextlib import suppress

import pytest
import torch
from hooks.toy_runner import LossLog, toy_runner
from mmengine.config import Config, ConfigDict
from mmengine.infer import BaseInferencer
from mmengine.registry import MODELS, Registry
from mmengine.runner import CheckpointLoader
from torch import nn

import mmcompress.compat  # noqa: F401
from mmcompress.compat.stored_config import check_stored_config


@MODELS.register_module()
class StoredScale(nn.Module):
    """A model that is registered."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale


PLAIN = dict(
    model=dict(type='StoredScale', scale=-0.25),
    optim_wrapper=dict(
        paramwise_cfg=dict(custom_keys={'.norm': dict(decay_mult=0.0)})),
    sizes=[(1, -1), {
        2: None
    }],
    flags=dict(a=True, b='it\'s "quoted" \\'),
    custom_imports=dict(imports=['mmcompress.compat'], allow_failed_imports=0),
    default_scope='mmdet')


class Inferencer(BaseInferencer):
    """Only what builds a model from a checkpoint."""

    def __init__(self):
        pass

    def _init_pipeline(self, cfg):
        """Not needed here."""

    def postprocess(self, *args, **kwargs):
        """Not needed here."""

    def visualize(self, *args, **kwargs):
        """Not needed here."""

    def _load_weights_to_model(self, model, checkpoint, cfg):
        """Not needed here."""


def infer(path):
    """Build the model of a checkpoint, as inferencers do without a config."""
    cfg = ConfigDict()
    return Inferencer()._init_model(cfg, str(path)), cfg


def save(text, path):
    hub = dict(log_scalars={}, runtime_info=dict(cfg=text), resumed_keys={})
    torch.save(dict(meta=dict(cfg=text), message_hub=hub, state_dict={}), path)


def test_an_inferencer_gets_the_config_that_mmengine_stored(tmp_path):
    text = Config(PLAIN).pretty_text
    save(text, tmp_path / 'a.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    assert loaded['meta']['cfg'] == text
    model, cfg = infer(tmp_path / 'a.pth')
    assert isinstance(model, StoredScale) and model.scale == -0.25
    assert cfg.to_dict() == Config(PLAIN).to_dict()


def test_configs_that_nobody_can_run_stay_too():
    check_stored_config(Config(dict(limit=float('inf'))).pretty_text)
    check_stored_config('model = dict(type=<class toy.Model>)')


@pytest.mark.parametrize('name', [
    'ResNet', 'mmdet.ResNet', 'mmcompress.KDLoss', 'torchvision/Lambda',
    'torch.nn.modules.activation.ReLU', 'mmengine.runner.Runner',
    'mmengine.dataset.utils.pseudo_collate', 'torch.optim.adamw.AdamW', ''
])
def test_types_that_are_registered_stay(name):
    check_stored_config(f'model = dict(type={name!r})')


@pytest.mark.parametrize('name', [
    'os.system', 'json', 'mmengine.load', 'mmengine.config.Config.fromstring',
    'torch.nn.init.normal_', 'torch.nn.modules.module.functools.partial',
    'torch.hub.load', 'nobody.Knows', 'mmengine.nothing.at.all'
])
def test_other_types_are_refused(name):
    with pytest.raises(ValueError, match=name.split('.')[0]):
        check_stored_config(f'model = [dict(a=dict(type={name!r}))]')


def test_a_registry_of_the_users_own_is_known():
    Registry('model', parent=MODELS, scope='users_own')
    check_stored_config("default_scope = 'users_own'")
    check_stored_config("model = dict(type='users_own.Net')")


def dump(**cfg):
    return Config(cfg).pretty_text


# how a config, of plain data in all but the first three, touches a file
ATTACKS = {
    'statement':
    lambda f: f'open({f!r}, "w")',
    'value':
    lambda f: f'a = dict(b=[open({f!r}, "w")])',
    'builtin':
    lambda f: f'model = dict(type=open, file={f!r}, mode="w")',
    'base':
    lambda f: f'_base_ = {f.replace("marker", "evil_module.py")!r}',
    'template':
    # mmengine puts quotes for the braces, three in a row with the next two
    lambda f: f'a = ["""{{{{_base_.x}}}}"" , open({f!r}, "w")] #"""]',
    'import':
    lambda f: dump(custom_imports=dict(imports=['evil_module'])),
    'import by name':
    lambda f: dump(custom_imports=dict(imports='evil_module')),
    'scope':
    lambda f: dump(model=dict(type='ReLU', _scope_='evil_module')),
    'scope of a type':
    lambda f: dump(model=dict(type='evil_module.ReLU')),
    'module':
    lambda f: dump(model=dict(type='evil_module')),
    'nested':
    lambda f: dump(a=[(dict(type='os.system', command=f'touch {f}'), )]),
    'function':
    lambda f: dump(model=dict(type='os.system', command=f'touch {f}')),
    'function of mmengine':
    lambda f: dump(
        model=dict(
            type='mmengine.config.Config.fromstring',
            cfg_str=f'open({f!r}, "w")',
            file_format='.py')),
}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that an attack makes; a module that makes it on import."""
    path = tmp_path / 'marker'
    (tmp_path / 'evil_module.py').write_text(f'open({str(path)!r}, "w")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield path
    sys.modules.pop('evil_module', None)


@pytest.mark.parametrize('name', ATTACKS)
def test_no_stored_config_runs_code_in_an_inferencer(tmp_path, name, marker,
                                                     monkeypatch):
    path = tmp_path / 'evil.pth'
    save(ATTACKS[name](str(marker)), path)
    with pytest.raises(ValueError, match='Cannot find the config'):
        infer(path)
    time.sleep(0.05)
    assert not marker.exists()
    if name == 'nested':
        return
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with suppress(Exception):
        infer(path)
    for _ in range(100):
        if marker.exists():
            return
        time.sleep(0.02)
    pytest.fail('the attack does not work at all')


def test_no_stored_config_runs_code_on_resume(tmp_path, marker):
    toy_runner(tmp_path).train()
    path = tmp_path / 'epoch_2.pth'
    checkpoint = torch.load(path, weights_only=False)
    for place in (checkpoint['meta'],
                  checkpoint['message_hub']['runtime_info']):
        place['cfg'] = place['config'] = ATTACKS['statement'](str(marker))
    torch.save(checkpoint, path)
    log = LossLog()
    toy_runner(tmp_path, hooks=[log], resume=True, load_from=str(path)).train()
    assert len(log.losses) == 8
    assert not marker.exists()
    Config.fromstring(checkpoint['meta']['config'], '.py')
    assert marker.exists()


def test_the_config_of_a_run_is_compared_on_resume(tmp_path):
    toy_runner(tmp_path).train()
    path = tmp_path / 'epoch_2.pth'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['meta']['config'] = 'gpu_ids = [0, 1]'
    torch.save(checkpoint, path)
    with pytest.raises(RuntimeError, match='Number of GPUs'):
        toy_runner(tmp_path, resume=True, load_from=str(path)).train()


@pytest.mark.parametrize('value', [1, b'import os', ['a'], {'a': 1}, None])
def test_a_config_that_is_not_text_is_left_out(tmp_path, value):
    save(value, tmp_path / 'a.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    assert loaded['meta'] == loaded['message_hub']['runtime_info'] == {}


@pytest.mark.parametrize('content', [
    dict(meta=None),
    dict(message_hub=dict(runtime_info=[])),
    [1],
    OrderedDict(weight=torch.zeros(1)),
])
def test_files_without_configs_are_not_changed(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    assert loaded == content
