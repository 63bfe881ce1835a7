import functools
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hooks.toy_runner import LossLog, ToyModel, toy_runner
from mmengine.dataset import worker_init_fn

import mmcompress.compat  # noqa: F401
from mmcompress.hooks import ExactResumeHook, PlainCheckpointHook
from mmcompress.hooks.exact_resume import (random_state, seed_worker,
                                           set_random_state)

TESTS = Path(__file__).parent.parent


def train(folder, loop='epoch', stop_at=None, exact=True, **kwargs):
    """Losses of a run, up to where it was stopped."""
    log = LossLog(stop_at)
    hooks = [log, PlainCheckpointHook()] + [ExactResumeHook()] * exact
    runner = toy_runner(folder, loop, hooks, **kwargs)
    return log.train(runner)


def interrupted(folder, loop='epoch', stop_at=10, **kwargs):
    """Losses of a run that is killed and resumed from iteration 8."""
    head = train(folder, loop, stop_at, **kwargs)[:8]
    # whatever the first process drew, the second one knows nothing of it
    random.seed(), np.random.seed(), torch.seed()
    tail = train(folder, loop, resume=True, **kwargs)
    assert len(tail) == 8
    return head + tail


def draw():
    return random.random(), random.gauss(0, 1), np.random.randn(), float(
        torch.rand(1))


def test_random_states_are_restored():
    draw()
    state = random_state()
    expected = draw()
    draw()
    set_random_state(state)
    assert draw() == expected


def test_random_states_are_plain_data(tmp_path):
    state = random_state()
    expected = draw()
    torch.save(state, tmp_path / 'a.pth')
    set_random_state(torch.load(tmp_path / 'a.pth', weights_only=True))
    assert draw() == expected


@pytest.mark.parametrize('val', [True, False])
@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, loop, val):
    expected = train(tmp_path / 'a', loop, val=val)
    assert len(expected) == 16
    actual = interrupted(tmp_path / 'b', loop, val=val)
    assert actual == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_without_the_hook_it_does_not(tmp_path, loop):
    expected = train(tmp_path / 'a', loop, exact=False)
    actual = interrupted(tmp_path / 'b', loop, exact=False)
    assert actual[:8] == pytest.approx(expected[:8], abs=1e-6)
    assert actual[8:] != pytest.approx(expected[8:], abs=1e-3)


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_validation_changes_nothing(tmp_path, loop):
    assert train(tmp_path / 'a', loop) == train(
        tmp_path / 'b', loop, val=False)


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_a_run_without_a_seed_resumes(tmp_path, loop):
    kwargs = dict(randomness=dict(seed=None))
    folder = tmp_path / 'a'
    expected = train(folder, loop, **kwargs)
    # every checkpoint but that of iteration 8 away
    name = 'epoch_2.pth' if loop == 'epoch' else 'iter_8.pth'
    (folder / 'last_checkpoint').write_text(str(folder / name))
    actual = train(folder, loop, resume=True, **kwargs)
    assert actual == pytest.approx(expected[8:], abs=1e-6)


@pytest.mark.parametrize('loop, name, iters', [
    ('epoch', 'epoch_2.pth', 8),
    ('epoch', 'epoch_3.pth', 12),
    ('iter', 'iter_8.pth', 8),
    ('iter', 'iter_12.pth', 12),
])
def test_checkpoints_saved_during_validation_resume(tmp_path, loop, name,
                                                    iters):
    # the best one is written a second time, after validation's draws; those
    # of iteration 12 only then
    kwargs = dict(
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook',
                interval=2 if loop == 'epoch' else 8,
                by_epoch=loop == 'epoch',
                save_best='toy/toy',
                rule='greater')))
    expected = train(tmp_path, loop, **kwargs)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / name))
    actual = train(tmp_path, loop, resume=True, **kwargs)
    assert actual == pytest.approx(expected[iters:], abs=1e-6)


def test_accumulated_gradients_resume_at_their_steps(tmp_path):
    kwargs = dict(
        optim_wrapper=dict(
            optimizer=dict(type='Adam', lr=0.01), accumulative_counts=2))
    expected = train(tmp_path / 'a', 'iter', **kwargs)
    actual = interrupted(tmp_path / 'b', 'iter', **kwargs)
    assert actual == pytest.approx(expected, abs=1e-6)


def test_runs_with_workers_resume(tmp_path):
    loader = dict(toy_runner(tmp_path)._train_dataloader, num_workers=1)
    expected = train(tmp_path / 'a', train_dataloader=loader)
    actual = interrupted(tmp_path / 'b', train_dataloader=loader)
    assert actual == pytest.approx(expected, abs=1e-6)


def test_workers_draw_differently_in_every_epoch():
    init = functools.partial(worker_init_fn, num_workers=2, rank=0, seed=3)
    drawn = set()
    for epoch in range(2):
        for rank in range(2):
            for worker in range(2):
                seed_worker(worker, init, 3, epoch, rank)
                drawn.add(draw())
    assert len(drawn) == 8
    seed_worker(0, init, 3, 0, 0)
    assert draw() in drawn


def test_a_missing_key_stops_the_resume(tmp_path):
    train(tmp_path, stop_at=5)
    path = tmp_path / 'epoch_1.pth'
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint['state_dict']['linear.bias']
    del checkpoint['state_dict']['norm.num_batches_tracked']
    torch.save(checkpoint, path)
    with pytest.raises(RuntimeError, match=r'lacks 1 keys.*: linear\.bias\.'):
        train(tmp_path, resume=True)


def test_a_missing_key_is_no_error_without_resume(tmp_path):
    torch.save(dict(state_dict={}, meta={}), tmp_path / 'empty.pth')
    losses = train(tmp_path, load_from=str(tmp_path / 'empty.pth'))
    assert len(losses) == 16


def warnings_of(folder, monkeypatch, **kwargs):
    runner = toy_runner(folder, hooks=[ExactResumeHook()], **kwargs)
    messages = []
    monkeypatch.setattr(runner.logger, 'warning', messages.append)
    runner.train()
    return ' '.join(messages)


def test_a_checkpoint_without_states_is_resumed_with_a_warning(
        tmp_path, monkeypatch):
    train(tmp_path, stop_at=5, exact=False)
    assert 'no random states' in warnings_of(
        tmp_path, monkeypatch, resume=True)


def test_another_number_of_processes_is_a_warning(tmp_path, monkeypatch):
    train(tmp_path, stop_at=5)
    path = tmp_path / 'epoch_1.pth'
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['random_states']['states'] *= 3
    torch.save(checkpoint, path)
    assert 'written by 3 processes, and 1 resume' in warnings_of(
        tmp_path, monkeypatch, resume=True)


@pytest.mark.parametrize('options, num', [
    (dict(interval=4, save_begin=3), 5),
    (dict(interval=5, save_last=False), 3),
])
def test_all_processes_give_their_states_where_a_checkpoint_follows(
        options, num, tmp_path, monkeypatch):
    monkeypatch.setattr('mmcompress.hooks.exact_resume.get_world_size',
                        lambda: 2)
    said = []
    runner = toy_runner(
        tmp_path,
        'iter',
        [PlainCheckpointHook(), ExactResumeHook()],
        val=False,
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, **options)))
    runner.logger.warning = said.append
    runner.train()
    assert len(list(tmp_path.glob('iter_*.pth'))) == num
    # not from the first process alone
    assert not said


RANK = """
import json, sys
from hooks.test_exact_resume import *
from mmcompress.compat import init_cpu_distributed
from mmengine.config import Config
cfg = Config(dict(launcher='pytorch'))
init_cpu_distributed(cfg)
folder = Path(sys.argv[1])
kwargs = dict(launcher='pytorch', cfg=cfg,
              randomness=dict(seed=0, diff_rank_seed=True))
for loop in ('epoch', 'iter'):
    # half as many iterations, because two processes share the data
    expected = train(folder / f'{loop}a', loop, **kwargs)
    train(folder / f'{loop}b', loop, stop_at=6, **kwargs)
    random.seed(), np.random.seed(), torch.seed()
    actual = train(folder / f'{loop}b', loop, resume=True, **kwargs)
    assert 0 < len(actual) < len(expected)
    torch.distributed.barrier()
    print(json.dumps([expected[-len(actual):], actual]))
"""


@pytest.mark.slow
@pytest.mark.gate
@pytest.mark.skipif(
    torch.cuda.is_available(), reason='runs on gloo, without CUDA')
def test_two_processes_resume(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen([sys.executable, '-c', RANK,
                          str(tmp_path)],
                         env=dict(
                             os.environ,
                             PYTHONPATH=os.pathsep.join(
                                 [str(TESTS.parent),
                                  str(TESTS)]),
                             OMP_NUM_THREADS='1',
                             MASTER_ADDR='127.0.0.1',
                             MASTER_PORT=str(port),
                             WORLD_SIZE='2',
                             RANK=str(rank),
                             LOCAL_RANK=str(rank)),
                         stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE,
                         text=True) for rank in range(2)
    ]
    losses = []
    for process in ranks:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        pairs = [json.loads(x) for x in out.splitlines() if x[:2] == '[[']
        assert len(pairs) == 2
        for expected, actual in pairs:
            assert actual == pytest.approx(expected, abs=1e-6)
        losses.append(pairs)
    # each process draws for itself
    assert losses[0] != losses[1]


def test_a_validation_needs_no_training_data(tmp_path):
    loader = dict(dataset=dict(type='NoSuchDataset'), batch_size=2)
    runner = toy_runner(
        tmp_path, hooks=[ExactResumeHook()], train_dataloader=loader)
    assert runner.val()


def test_the_model_is_not_touched(tmp_path):
    runner = toy_runner(tmp_path, hooks=[ExactResumeHook()])
    runner.train()
    assert set(runner.model.state_dict()) == set(ToyModel().state_dict())
