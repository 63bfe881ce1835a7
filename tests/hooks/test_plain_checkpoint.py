import copy
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn as nn
from hooks.toy_runner import LossLog, ToyModel, toy_runner
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData

import mmcompress.compat  # noqa: F401
from mmcompress.hooks import PlainCheckpointHook
from mmcompress.hooks.plain_checkpoint import from_plain, to_plain
from mmcompress.pruning.structure import PrunedTensor, carry_structure

TESTS = Path(__file__).parent.parent


def same(a, b):
    """Equal in value and in type, however nested."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    elif isinstance(a, (np.ndarray, np.generic)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, HistoryBuffer):
        same(a.data, b.data)
        assert a.max_length == b.max_length
    elif isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    else:
        assert a == b


@pytest.mark.parametrize(
    'value', [
        np.arange(6.0).reshape(2, 3),
        np.arange(6).reshape(2, 3).T,
        np.array(2.5),
        np.zeros((0, 2), dtype=np.float16),
        np.array([1, 2], dtype='>u4'),
        np.array(['left', 'right']),
        np.array([b'x']),
        np.array([1, None], dtype=object),
        np.float32(0.1),
        np.bool_(True),
        np.str_('text'),
        HistoryBuffer([1.0, 2.0], [1, 2], max_length=7),
        HistoryBuffer(),
        dict(a=[(np.int64(1), OrderedDict(b=np.ones(1)))], c=None),
        'text',
        torch.ones(2),
    ],
    ids=lambda value: repr(value).split(' object at')[0])
def test_values_survive_restricted_loading(value, tmp_path):
    record = []
    torch.save((to_plain(value, (), record), record), tmp_path / 'a.pth')
    plain, record = torch.load(tmp_path / 'a.pth', weights_only=True)
    kinds = {path: (kind, dtype) for path, kind, dtype in record}
    same(from_plain(plain, (), kinds), value)


def test_the_metadata_of_mmpose_survives_and_draws(tmp_path):
    pytest.importorskip('mmpose')
    from mmpose.datasets.datasets import CocoWholeBodyDataset
    from mmpose.visualization import PoseLocalVisualizer
    meta = CocoWholeBodyDataset.METAINFO
    meta = CocoWholeBodyDataset._load_metainfo(meta)
    record = []
    torch.save(to_plain(meta, (), record), tmp_path / 'a.pth')
    plain = torch.load(tmp_path / 'a.pth', weights_only=True)
    kinds = {path: (kind, dtype) for path, kind, dtype in record}
    assert ('sigmas', ) in kinds and ('keypoint_colors', ) in kinds
    same(from_plain(plain, (), kinds), dict(meta))
    # tools without our hook use what they find in the file
    pictures = []
    for dataset_meta in (meta, plain):
        visualizer = PoseLocalVisualizer(name=f'plain{len(pictures)}')
        visualizer.set_dataset_meta(dataset_meta)
        instances = InstanceData(
            keypoints=np.random.RandomState(0).rand(1, 133, 2) * 60,
            keypoint_scores=np.ones((1, 133)))
        pictures.append(
            visualizer._draw_instances_kpts(
                np.zeros((64, 64, 3), np.uint8), instances))
    assert pictures[0].any()
    np.testing.assert_array_equal(*pictures)


def test_what_is_not_data_is_left_out_and_named(caplog, monkeypatch):
    messages = []
    monkeypatch.setattr('mmcompress.hooks.plain_checkpoint.print_log',
                        lambda text, *args: messages.append(text))
    plain = to_plain(dict(a=print, b=[1, object(), 2]), ('meta', ), [])
    assert plain == dict(b=[1, None, 2])
    assert 'meta/a ' in messages[0] and 'builtin_function' in messages[0]
    assert 'meta/b/1 ' in messages[1] and 'builtins.object' in messages[1]


def test_other_containers_become_plain_ones():

    class Mine(dict):
        pass

    assert type(to_plain(Mine(a=1), (), [])) is dict
    assert to_plain({3}, (), []) == [3]
    assert to_plain(Path('a'), (), []) == 'a'


def test_the_arguments_are_not_changed():
    value = dict(a=[np.ones(1)], b=HistoryBuffer([1.0], [1]))
    before = copy.deepcopy(value)
    plain = to_plain(value, (), [])
    plain['a'][0] += 1
    same(value, before)


def train(folder, loop='epoch', stop_at=None, resume=False, **kwargs):
    log = LossLog(stop_at)
    hooks = [log, dict(type='mmcompress.PlainCheckpointHook')]
    runner = toy_runner(folder, loop, hooks, resume=resume, **kwargs)
    if stop_at is None:
        runner.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    return runner


def test_checkpoints_load_restricted(tmp_path):
    runner = train(tmp_path)
    checkpoint = torch.load(tmp_path / 'epoch_4.pth', weights_only=True)
    assert {
        'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'
    } <= set(checkpoint)
    same(checkpoint['state_dict'], runner.model.state_dict())
    assert checkpoint['state_dict']._metadata['norm']['version'] == 2
    sigmas = checkpoint['meta']['dataset_meta']['sigmas']
    assert sigmas.tolist() == [0.5, 0.25]


class AddsAnArray(Hook):
    priority = 'VERY_LOW'

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['own'] = np.ones(1)


def test_what_other_hooks_add_is_plain_too(tmp_path):
    hooks = [PlainCheckpointHook(), AddsAnArray()]
    toy_runner(tmp_path, hooks=hooks).train()
    checkpoint = torch.load(tmp_path / 'epoch_4.pth', weights_only=True)
    assert checkpoint['own'].tolist() == [1]


def test_the_running_message_hub_keeps_its_types(tmp_path):
    hub = train(tmp_path).message_hub
    assert type(hub.get_scalar('train/loss')) is HistoryBuffer
    assert type(hub.get_info('dataset_meta')['sigmas']) is np.ndarray


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_a_resumed_run_has_everything(tmp_path, loop):
    first = train(tmp_path, loop, stop_at=8)
    saved = first.message_hub.state_dict()
    second = toy_runner(tmp_path, loop, [PlainCheckpointHook()], resume=True)
    # the checkpoint of iteration 4; the rest of the history is lost with it
    loaded = {}
    second.register_hook(Spy(loaded))
    second.train()
    for key, history in saved['log_scalars'].items():
        if key.startswith('train/'):
            actual = loaded['message_hub']['log_scalars'][key]
            same(actual.data[0], history.data[0][:4])
    assert second.message_hub.get_scalar('train/loss').data[0].shape == (16, )
    same(loaded['meta']['dataset_meta'],
         first.train_dataloader.dataset.metainfo)
    assert len(loaded['param_schedulers']) == 1
    assert second.iter == 16


class Spy(PlainCheckpointHook):
    """Sees the checkpoint last."""

    def __init__(self, seen):
        self.seen = seen

    def before_save_checkpoint(self, runner, checkpoint):
        pass

    def after_load_checkpoint(self, runner, checkpoint):
        self.seen.update(copy.deepcopy(checkpoint))


class AtStart(Hook):
    """Remembers what the run has when its training starts."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.optimizer = copy.deepcopy(runner.optim_wrapper.state_dict())
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                self.ema = copy.deepcopy(hook.ema_model.state_dict())


@pytest.mark.parametrize('wrapper', [
    'OptimWrapper',
    pytest.param(
        'AmpOptimWrapper',
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(),
            reason='mmengine has it for accelerators only'))
])
def test_ema_and_optimizer_wrappers_resume(tmp_path, wrapper):
    kwargs = dict(
        optim_wrapper=dict(
            type=wrapper,
            accumulative_counts=2,
            optimizer=dict(type='AdamW', lr=0.01)))
    first = toy_runner(
        tmp_path,
        hooks=[PlainCheckpointHook(),
               EMAHook(), LossLog(stop_at=5)],
        **kwargs)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    checkpoint = torch.load(
        tmp_path / 'epoch_1.pth', weights_only=True, map_location='cpu')
    start = AtStart()
    second = toy_runner(
        tmp_path,
        hooks=[PlainCheckpointHook(), EMAHook(), start],
        resume=True,
        **kwargs)
    second.train()
    assert start.optimizer['state'][0]['step'] == 2
    assert set(start.optimizer) == set(checkpoint['optimizer'])
    assert start.ema['steps'] == 4
    # EMAHook saves the averaged weights where testing looks for weights
    torch.testing.assert_close(start.ema['module.linear.weight'].cpu(),
                               checkpoint['state_dict']['linear.weight'])


UNPATCHED = """
import sys
from mmcompress.torchvision_repair import install_import_hook
install_import_hook()
sys.modules['mmcompress.compat'] = None  # cannot be imported
import hooks.toy_runner as toy
from mmengine.runner import load_checkpoint
from mmengine.structures import InstanceData
runner = toy.toy_runner(sys.argv[1], resume=True)
runner.train()
assert runner.epoch == 4 and runner.iter == 16
assert runner.message_hub.get_scalar('train/loss').data[0].shape == (8, )
model = toy.ToyModel()
load_checkpoint(model, sys.argv[1] + '/epoch_2.pth', strict=True)
assert 'mmcompress.hooks' not in sys.modules
print('resumed')
"""


def test_mmengine_alone_loads_and_resumes(tmp_path):
    train(tmp_path, stop_at=9)
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    done = subprocess.run([sys.executable, '-c', UNPATCHED,
                           str(tmp_path)],
                          env={
                              **os.environ, 'PYTHONPATH': path,
                              'OMP_NUM_THREADS': '1'
                          },
                          capture_output=True,
                          text=True)
    assert done.stdout.endswith('resumed\n'), done.stdout + done.stderr


def test_a_plain_checkpoint_loads_into_the_model(tmp_path):
    runner = train(tmp_path)
    model = ToyModel()
    load_checkpoint(model, str(tmp_path / 'epoch_4.pth'), strict=True)
    same(model.state_dict(), runner.model.state_dict())


@pytest.mark.parametrize('record', [
    [(('meta', 'a'), 'array', '<U500000000')],
    [(('meta', 'a'), 'array', 'V8')],
    [(('meta', 'a'), 'number', 'no type')],
    [(('none', 'a'), 'array', '<f4')],
    [(('meta', 'a'), 'array')],
    [((), 'array', '<f4')],
    [(('meta', ), 'history', '')],
    7,
])
def test_a_crafted_record_is_refused_by_name(record):
    runner = SimpleNamespace(_load_from='crafted.pth')
    checkpoint = dict(meta=dict(a='x'), plain_record=record)
    with pytest.raises(RuntimeError, match=r'crafted\.pth: its plain_record'):
        PlainCheckpointHook().after_load_checkpoint(runner, checkpoint)


def test_pruned_weights_are_marked():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    carry_structure(model[1], ['weight'])
    checkpoint = dict(meta={}, state_dict=model.state_dict())
    PlainCheckpointHook().before_save_checkpoint(
        SimpleNamespace(model=model), checkpoint)
    marked = [
        name for name, value in checkpoint['state_dict'].items()
        if isinstance(value, PrunedTensor)
    ]
    assert marked == ['1.weight']
    model.load_state_dict(checkpoint['state_dict'])
