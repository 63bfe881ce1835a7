import functools
import http.server
import importlib
import operator
import os
import pickle
import random
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
import torch
from hooks.toy_runner import LossLog, toy_runner
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from mmcompress.compat import checkpoints


def needs_repair(path):
    """Skip where plain torch loads what mmengine writes."""
    try:
        torch.load(path)
    except pickle.UnpicklingError:
        return
    pytest.skip('torch.load accepts what mmengine writes here')


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_a_checkpoint_of_mmengine_resumes(tmp_path, loop):
    first = toy_runner(tmp_path, loop, [LossLog(stop_at=9)])
    with pytest.raises(KeyboardInterrupt):
        first.train()
    name = 'epoch_2.pth' if loop == 'epoch' else 'iter_8.pth'
    needs_repair(tmp_path / name)
    log = LossLog()
    second = toy_runner(tmp_path, loop, [log], resume=True)
    second.train()
    assert len(log.losses) == 8
    history = second.message_hub.get_scalar('train/loss')
    assert type(history) is HistoryBuffer
    assert history.data[0].shape == (16, )
    np.testing.assert_array_equal(
        history.data[0][:8],
        first.message_hub.get_scalar('train/loss').data[0][:8])


def test_a_checkpoint_of_mmengine_loads(tmp_path):
    toy_runner(tmp_path).train()
    path = tmp_path / 'epoch_4.pth'
    needs_repair(path)
    model = nn.ModuleDict(dict(linear=nn.Linear(3, 2), norm=nn.BatchNorm1d(2)))
    checkpoint = load_checkpoint(model, str(path), strict=True)
    whole = torch.load(path, weights_only=False)
    torch.testing.assert_close(model.linear.weight,
                               whole['state_dict']['linear.weight'])
    sigmas = checkpoint['meta']['dataset_meta']['sigmas']
    np.testing.assert_array_equal(sigmas, [0.5, 0.25])
    for key, value in whole['message_hub']['log_scalars'].items():
        loaded = checkpoint['message_hub']['log_scalars'][key]
        for actual, expected in zip(loaded.data, value.data):
            np.testing.assert_array_equal(actual, expected)
            assert actual.dtype == expected.dtype
        assert loaded.statistics('mean') == value.statistics('mean')


def reload(content, path):
    torch.save(content, path)
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


@pytest.mark.parametrize(
    'array', [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.zeros((0, 3)),
        np.array(3, dtype=np.uint8),
        np.array([1, 2], dtype='>i2'),
        np.array([True, False]),
        np.array(['ab', 'c']),
        np.array([1 + 2j]),
        np.float32(0.5),
        np.int64(3),
        np.bool_(True),
    ],
    ids=repr)
def test_numpy_arrays_and_numbers_load(array, tmp_path):
    content = dict(a=array, nested=[OrderedDict(b=(array, ))])
    loaded = reload(content, tmp_path / 'a.pth')
    for value in (loaded['a'], loaded['nested'][0]['b'][0]):
        assert type(value) is type(array)
        assert value.dtype == array.dtype
        np.testing.assert_array_equal(value, array)
    if isinstance(array, np.ndarray):
        assert loaded['a'].flags.writeable


class Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Pickle wants functions to be callable."""


class Buffer:
    """Pickles as a HistoryBuffer with any state."""

    def __init__(self, **state):
        self.state = dict(vars(HistoryBuffer([1.0], [1])), **state)

    def __reduce__(self):
        return HistoryBuffer, (), self.state


def touch(path):
    return f'open({str(path)!r}, "w").close()'


def via_getattr(path):
    """From a statistic of HistoryBuffer to the builtins."""
    names = Call(getattr, Call(getattr, HistoryBuffer, 'mean'), '__globals__')
    inside = Call(Call(getattr, names, '__getitem__'), '__builtins__')
    return Call(Call(Call(getattr, inside, 'get'), 'exec'), touch(path))


def via_method(path):
    call = Call(operator.methodcaller, 'system', f'touch {path}')
    return Call(call, Call(importlib.import_module, 'os'))


def via_attribute(path):
    get = Call(operator.attrgetter, 'system')
    return Call(
        Call(get, Call(importlib.import_module, 'os')), f'touch {path}')


def object_array(path):
    array = np.empty(1, dtype=object)
    array[0] = Call(exec, touch(path))
    return array


# what the refusal names, and how to make the attack
ATTACKS = {
    'posix.system':
    lambda path: Call(os.system, f'touch {path}'),
    'builtins.eval':
    lambda path: Call(eval, touch(path)),
    'functools.partial':
    lambda path: Call(Call(functools.partial, exec, touch(path))),
    'operator.methodcaller':
    via_method,
    'operator.attrgetter':
    via_attribute,
    'builtins.getattr':
    via_getattr,
    'numpy.dtype':
    object_array,
    'builtins.exec':
    lambda path: Buffer(statistics_methods=dict(mean=Call(exec, touch(path)))),
    'builtins.exec ':
    lambda path: Buffer(_log_history=Call(exec, touch(path))),
}


@pytest.mark.parametrize('place', ['message_hub', 'state_dict', 'optimizer'])
@pytest.mark.parametrize('name', ATTACKS)
def test_a_file_that_would_run_code_is_refused_by_name(tmp_path, name, place,
                                                       monkeypatch):
    # unrestricted loading changes them for the whole process
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods',
                        dict(HistoryBuffer._statistics_methods))
    marker, path = tmp_path / 'marker', tmp_path / 'evil.pth'
    content = dict(meta={}, state_dict={}, message_hub={}, optimizer={})
    content[place]['key'] = ATTACKS[name](marker)
    torch.save(content, path)
    with suppress(Exception):
        torch.load(path, weights_only=False)
    assert marker.exists(), 'the attack does not work at all'
    marker.unlink()
    with pytest.raises(pickle.UnpicklingError) as error:
        CheckpointLoader.load_checkpoint(str(path))
    assert not marker.exists()
    assert f'{path} names {name.strip()}' in str(error.value)


def test_arrays_with_fields_are_refused(tmp_path):
    array = np.zeros(1, dtype=[('a', 'i4')])
    with pytest.raises(pickle.UnpicklingError, match=r'numpy\.dtype'):
        reload(dict(a=array), tmp_path / 'a.pth')


@pytest.mark.parametrize('owner, name', [(HistoryBuffer, 'update'),
                                         (torch.Tensor, 'mean')])
def test_getattr_answers_for_statistics_only(tmp_path, owner, name):
    with pytest.raises(pickle.UnpicklingError, match=r'builtins\.getattr'):
        reload(dict(a=Call(getattr, owner, name)), tmp_path / 'a.pth')


def test_a_loaded_history_knows_its_statistics(tmp_path, monkeypatch):
    # as in a process that has not made one itself
    content = dict(a=HistoryBuffer([1.0, 3.0], [1, 1]))
    torch.save(content, tmp_path / 'a.pth')
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods', {})
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    assert loaded['a'].statistics('mean') == 2


def test_a_file_cannot_replace_the_statistics(tmp_path):
    swapped = dict(mean=Call(getattr, HistoryBuffer, 'max'))
    before = dict(HistoryBuffer._statistics_methods)
    loaded = reload(
        dict(a=Buffer(statistics_methods=swapped, mean=1)), tmp_path / 'a.pth')
    assert HistoryBuffer._statistics_methods == before
    assert loaded['a'].mean() == 1.0


def test_globals_that_the_user_trusts_load(tmp_path):
    with torch.serialization.safe_globals([Fraction]):
        assert reload(dict(a=Fraction(1, 2)), tmp_path / 'a.pth')['a'] == 0.5


def test_torchs_switch_for_trusted_files_works(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    assert reload(dict(a=Fraction(1, 2)), tmp_path / 'a.pth')['a'] == 0.5


@pytest.mark.parametrize('value', ['0', 'no', ''])
def test_torchs_switch_can_be_off(tmp_path, value, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', value)
    reload(dict(a=np.zeros(1)), tmp_path / 'a.pth')
    with pytest.raises(pickle.UnpicklingError, match='Fraction'):
        reload(dict(a=Fraction(1, 2)), tmp_path / 'a.pth')


def test_loading_leaves_torch_as_it_was(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    reload(dict(a=np.zeros(1)), tmp_path / 'a.pth')
    assert set(torch.serialization.get_safe_globals()) == before
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'a.pth')
    assert type(torch.load(tmp_path / 'a.pth',
                           weights_only=False)['a']) is np.ndarray


def test_numpys_own_classes_are_never_called(tmp_path):
    # onedl-mmengine allows them, and their names would hide the stand-ins
    real = [np.dtype, np.ndarray, type(np.dtype(np.float64)), HistoryBuffer]
    content = dict(a=np.zeros(2), b=HistoryBuffer([1.0], [1]))
    with torch.serialization.safe_globals(real):
        for _ in range(3):
            loaded = reload(content, tmp_path / 'a.pth')
            np.testing.assert_array_equal(loaded['a'], content['a'])
        with pytest.raises(pickle.UnpicklingError, match='Float64DType'):
            reload(Call(type(np.dtype(np.float64))), tmp_path / 'a.pth')


def test_a_file_that_is_refused_is_not_loaded_a_second_time(
        tmp_path, monkeypatch):
    calls = []

    def load(*args, **kwargs):
        calls.append(kwargs['weights_only'])
        return torch_load(*args, **kwargs)

    torch_load = torch.load.__wrapped__
    monkeypatch.setattr(torch, 'load', checkpoints._restricting_load(load))
    with pytest.raises(pickle.UnpicklingError, match='Fraction'):
        reload(dict(a=Fraction(1, 2)), tmp_path / 'a.pth')
    assert calls == [True]


@pytest.mark.parametrize('crafted', [
    Call(np.dtype),
    Call(np.dtype, 'f8', False, True),
    Call(np.core.multiarray.scalar, 1, b''),
    Call(np.core.multiarray.scalar, np.dtype('f8'), b''),
    Buffer(_count_history=3),
    Call(torch._utils._rebuild_tensor_v2,
         torch.zeros(1)._typed_storage(), 0, (1, ),
         (1, ), False, OrderedDict(), ('no', 'metadata')),
])
def test_what_does_not_make_sense_names_the_file(tmp_path, crafted):
    path = tmp_path / 'crafted.pth'
    torch.save(dict(a=crafted), path)
    with suppress(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(str(path))
        return
    with pytest.raises(pickle.UnpicklingError, match='crafted.pth'):
        CheckpointLoader.load_checkpoint(str(path))


# ---- In threads -------------------------------------------------------------


def test_threads_load_side_by_side(tmp_path):
    # with numpy arrays, an attack, something that a thread trusts, weights
    marker = tmp_path / 'marker'
    good, evil, other, weights = (
        str(tmp_path / name) for name in ('good', 'evil', 'other', 'weights'))
    torch.save(dict(a=np.ones(2), b=HistoryBuffer([1.0], [1])), good)
    torch.save(dict(a=Call(exec, touch(marker))), evil)
    torch.save(dict(a=Fraction(1, 2)), other)
    torch.save(dict(a=torch.ones(2)), weights)
    load = CheckpointLoader.load_checkpoint
    jobs = {
        'good': lambda: load(good)['a'].sum() == load(good)['b'].mean() * 2,
        'evil': lambda: is_refused(load, evil),
        'other': lambda: is_refused(load, other),
        # not ours to decide
        'whole': lambda: torch.load(other, weights_only=False)['a'] == 0.5,
        'weights': lambda: torch.load(weights)['a'].sum() == 2,
        'arrays': lambda: is_refused(torch.load, good),
    }
    before = dict(os.environ), torch.serialization.get_safe_globals()
    wrong = []

    def work(names):
        for name in names:
            try:
                if not jobs[name]():
                    wrong.append(name)
            except Exception as error:
                wrong.append(f'{name}: {error}')

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [
            threading.Thread(
                target=work,
                args=(random.Random(i).choices(list(jobs), k=40), ))
            for i in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert not marker.exists()
    assert before == (dict(os.environ), torch.serialization.get_safe_globals())


def is_refused(load, path):
    try:
        load(path)
    except pickle.UnpicklingError:
        return True
    return False


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'nothing.pth'))


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('<html>404</html>')
    with pytest.raises(pickle.UnpicklingError, match='page.pth'):
        CheckpointLoader.load_checkpoint(str(path))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine that offers the files of ``tmp_path``."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')

    class Quiet(http.server.SimpleHTTPRequestHandler):

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloads_are_restricted_too(tmp_path, server):
    marker = tmp_path / 'marker'
    torch.save(dict(a=Call(exec, touch(marker))), tmp_path / 'evil.pth')
    with pytest.raises(pickle.UnpicklingError, match=r'builtins\.exec'):
        CheckpointLoader.load_checkpoint(f'{server}/evil.pth')
    assert not marker.exists()


def test_downloads_may_hold_arrays(tmp_path, server):
    history = HistoryBuffer([1.0], [1])
    torch.save(dict(a=history, b=np.ones(2)), tmp_path / 'good.pth')
    loaded = CheckpointLoader.load_checkpoint(f'{server}/good.pth')
    assert loaded['a'].mean() == loaded['b'].mean() == 1


@pytest.mark.parametrize('prefix', [
    '', 'http://', 'https://', 's3://', 'petrel://', 'pavi://',
    'torchvision://', 'modelzoo://', 'open-mmlab://', 'openmmlab://',
    'mmcls://'
])
def test_every_loader_is_restricted(prefix):
    loader = CheckpointLoader._get_checkpoint_loader(f'{prefix}name')
    assert loader.is_restricted
    assert loader.__name__.startswith('load_from_')
