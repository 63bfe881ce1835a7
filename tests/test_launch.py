import argparse
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from mmcompress.data_paths import check_data_paths
from mmcompress.launch import STANDARD_HOOKS, add_device, find_tool, run_tool

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize('scope, package', [('mmdet', 'mmdet'),
                                            ('mmpose', 'mmpose'),
                                            ('mmpretrain', 'mmpretrain'),
                                            ('mmseg', 'mmseg')])
def test_each_library_runs_its_own_tool(scope, package):
    for tool in ('train.py', 'test.py'):
        path = find_tool(scope, tool)
        assert path.is_file() and package in path.parts


def test_a_library_from_another_distribution_runs_its_own_tool(monkeypatch):
    # as compat finds it where onedl-mmsegmentation brings the module
    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmseg')
    path = find_tool('mmseg', 'train.py')
    assert path.is_file() and 'mmseg' in path.parts


def test_a_config_without_scope():
    with pytest.raises(ValueError, match='no `default_scope`'):
        find_tool(None, 'train.py')


def test_a_library_that_is_not_installed():
    with pytest.raises(FileNotFoundError, match='mmrotate is not installed'):
        find_tool('mmrotate', 'train.py')


def launch(monkeypatch, *arguments, tool='train.py'):
    """Arguments that reach the library's tool."""
    seen = {}
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    monkeypatch.setattr(
        'runpy.run_path',
        lambda path, run_name: seen.update(path=path, argv=sys.argv[1:]))
    run_tool(tool, 'how to use it')
    return seen


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'plain.py'
    path.write_text("default_scope = 'mmpretrain'\n")
    return path


def test_all_arguments_are_passed_on(monkeypatch, config):
    arguments = [str(config), '--local-rank', '0', '--resume', '--amp',
                 '--cfg-options', 'a.b=1', 'c=x']  # yapf: disable
    seen = launch(monkeypatch, *arguments)
    assert seen['argv'] == arguments
    assert 'mmpretrain' in seen['path']


def test_a_hook_that_cannot_be_left_out_is_named(monkeypatch, config):
    launch(monkeypatch, config, '--cfg-options', 'default_hooks.timer=None')
    with pytest.raises(ValueError, match='default_hooks.keep=None.*name=None'):
        launch(monkeypatch, config, '--cfg-options', 'default_hooks.keep=None')


@pytest.mark.parametrize('before', [
    ['--cfg-options', 'model.teacher.cfg=t.py', '--work-dir', 'w'],
    ['--work-dir', 'exp.py'],
    ['--amp', '--local_rank', '0'],
])
def test_finds_the_config_behind_options(monkeypatch, config, before):
    seen = launch(monkeypatch, *before, config)
    assert seen['argv'] == [*before, str(config)]


def test_datasets_that_fetch_themselves_are_left_alone():
    datasets = [
        dict(type='CIFAR10', data_root='data/nowhere', download=True),
        dict(
            type='CocoDataset',
            data_root='data/nowhere',
            backend_args=dict(backend='petrel')),
    ]
    for dataset in datasets:
        cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
        check_data_paths(cfg, ['train_dataloader'])


@pytest.mark.parametrize('arguments, code', [(['--help'], 0), ([], 2)])
def test_usage_without_a_config(monkeypatch, capsys, arguments, code):
    with pytest.raises(SystemExit) as stop:
        launch(monkeypatch, *arguments)
    assert stop.value.code == code
    assert 'how to use it' in capsys.readouterr().out


VOC = dict(
    type='RepeatDataset',
    times=3,
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='VOCDataset',
                data_root='data/nowhere/',
                ann_file='VOC2007/ImageSets/Main/trainval.txt')
        ]))


def test_a_dataset_that_does_not_exist_says_what_to_put_where():
    cfg = Config(dict(train_dataloader=dict(dataset=VOC)))
    with pytest.raises(FileNotFoundError) as error:
        check_data_paths(cfg, ['train_dataloader', 'val_dataloader'])
    message = str(error.value)
    assert message.startswith('train_dataloader.dataset.dataset.datasets.0: ')
    assert 'data/nowhere/VOC2007/ImageSets/Main/trainval.txt' in message
    assert 'ln -s /path/to/it data/nowhere' in message
    assert '--cfg-options train_dataloader.dataset.dataset.datasets.0.' \
        'data_root=PATH' in message
    assert 'Annotations/*.xml' in message


def test_the_tool_checks_the_datasets_after_options(monkeypatch, tmp_path):
    config = tmp_path / 'voc.py'
    config.write_text(f"default_scope = 'mmdet'\n"
                      f'train_dataloader = dict(dataset={VOC})\n')
    with pytest.raises(FileNotFoundError, match='data/nowhere'):
        launch(monkeypatch, config)
    # another tool does not read it
    launch(monkeypatch, config, 'x.pth', tool='test.py')
    folder = tmp_path / 'VOC2007' / 'ImageSets' / 'Main'
    folder.mkdir(parents=True)
    (folder / 'trainval.txt').touch()
    key = 'train_dataloader.dataset.dataset.datasets.0.data_root'
    launch(monkeypatch, config, '--cfg-options', f'{key}={tmp_path}')


def test_rendered_and_remote_data_are_not_looked_for():
    rendered = dict(
        type='mmcompress.Rendered',
        dataset=dict(type='CocoDataset', ann_file='annotations/train.json'))
    remote = dict(type='CocoDataset', data_root='s3://bucket/coco/')
    for dataset in (rendered, remote):
        check_data_paths(
            Config(dict(train_dataloader=dict(dataset=dataset))),
            ['train_dataloader'])


@pytest.mark.parametrize('text, added', [
    ("model = dict(type='mmcompress.Distill')", True),
    ("model = dict(backbone=dict(type='mmcompress.BiResNet'))", True),
    ("model = dict(type='RetinaNet')", False),
    ("model = dict(type='mmcompress.Distill')\n"
     "default_hooks = dict(mmcompress=dict(type='mmcompress.StandardHooks'))",
     False),
    ("_base_ = 'ours.py'\nmodel = dict(type='mmcompress.Distill')", False),
])
def test_our_hooks_are_added_where_a_config_forgot_them(
        monkeypatch, config, text, added):
    config.write_text(f"{text}\ndefault_scope = 'mmpretrain'\n")
    (config.parent / 'ours.py').write_text((ROOT / 'configs' / '_base_' /
                                            'hooks.py').read_text() +
                                           'custom_hooks = mmcompress_hooks\n')
    line = ['--cfg-options', STANDARD_HOOKS]
    seen = launch(monkeypatch, config)['argv']
    assert seen == [str(config), *line * added]
    seen = launch(monkeypatch, config, 'x.pth', tool='test.py')['argv']
    assert seen == [str(config), 'x.pth']
    cfg = Config(dict(default_hooks=dict(logger=dict(type='LoggerHook'))))
    key, _, value = STANDARD_HOOKS.partition('=')
    cfg.merge_from_dict({key: value})
    assert cfg.default_hooks.mmcompress == dict(
        type='mmcompress.StandardHooks')


def test_a_device_that_is_not_there_is_refused_at_once(capsys):
    parser = argparse.ArgumentParser()
    add_device(parser)
    assert parser.parse_args([]).device == 'cpu'
    for text in ('gpu', 'cuda:99'):
        with pytest.raises(SystemExit):
            parser.parse_args(['--device', text])
        message = capsys.readouterr().err
        assert f'can not use {text!r}' in message
        assert 'what it finds: cpu' in message
