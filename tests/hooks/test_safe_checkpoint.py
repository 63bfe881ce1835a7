import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hooks.toy_runner import LossLog, toy_runner
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook

import mmcompress.compat  # noqa: F401
from mmcompress.hooks import (ExactResumeHook, PlainCheckpointHook,
                              SafeCheckpointHook)

TESTS = Path(__file__).parent.parent
KEEP_ONE = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)


def runner_of(folder, hooks=(), **checkpoint):
    return toy_runner(
        folder,
        hooks=[*hooks, PlainCheckpointHook(),
               ExactResumeHook()],
        default_hooks=dict(checkpoint={
            **KEEP_ONE,
            **checkpoint
        }))


def train(folder, stop_at=None, resume=False, load_from=None, **checkpoint):
    """Losses of a run; a best checkpoint is written in each epoch."""
    log = LossLog(stop_at)
    runner = runner_of(folder, [log], **checkpoint)
    runner._resume, runner._load_from = resume, load_from
    return log.train(runner)


def names(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


@pytest.mark.parametrize('loop, every', [
    pytest.param('epoch', 17, marks=[pytest.mark.slow, pytest.mark.gate]),
    pytest.param('epoch', 1, marks=pytest.mark.slow),
    pytest.param('iter', 1, marks=pytest.mark.slow),
])
def test_a_run_survives_kills_and_full_disks_at_any_moment(
        loop, every, tmp_path):
    done = subprocess.run(
        [sys.executable, TESTS / 'hooks' / 'kill_runs.py', tmp_path, loop,
         str(every)],
        env=dict(
            os.environ,
            OMP_NUM_THREADS='1',
            PYTHONPATH=os.pathsep.join([str(TESTS.parent),
                                        str(TESTS)])),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)  # yapf: disable
    assert done.returncode == 0, done.stdout[-3000:]
    assert 'failures survived' in done.stdout


def test_it_writes_then_moves_the_pointer_then_removes(tmp_path, monkeypatch):
    events = []

    def watch(owner, name):
        function = getattr(owner, name)

        def call(*args):
            events.append((name, Path(args[-1]).name))
            return function(*args)

        monkeypatch.setattr(owner, name, call)

    watch(LocalBackend, 'put')
    watch(LocalBackend, 'remove')
    watch(os, 'replace')
    train(tmp_path, stop_at=9)
    written = [name for name in events if name[0] != 'put']
    assert written == [('replace', 'epoch_1.pth'),
                       ('replace', 'last_checkpoint'),
                       ('replace', 'epoch_2.pth'),
                       ('replace', 'last_checkpoint'),
                       ('remove', 'epoch_1.pth')]
    # nothing is written under its own name
    assert not {name for kind, name in events if kind == 'put'
                } & {'epoch_1.pth', 'epoch_2.pth'}  # yapf: disable
    assert names(tmp_path) == ['epoch_2.pth']
    pointer = (tmp_path / 'last_checkpoint').read_text()
    assert pointer == str(tmp_path / 'epoch_2.pth')


def test_a_full_disk_is_told_in_words(tmp_path, monkeypatch):
    train(tmp_path, stop_at=5)

    def put(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(LocalBackend, 'put', put)
    with pytest.raises(OSError, match='epoch_2.pth .*free space') as error:
        train(tmp_path, resume=True)
    assert error.value.errno == errno.ENOSPC
    assert names(tmp_path) == ['epoch_1.pth']


def test_what_a_killed_process_wrote_in_part_is_removed(tmp_path):
    dead = subprocess.Popen(['true'])
    dead.wait()
    for name in ('epoch_3.pth', 'best_toy_toy_epoch_3.pth'):
        (tmp_path / f'.{name}.{dead.pid}.tmp.pth').write_bytes(b'half')
    other = tmp_path / f'.other.pth.{dead.pid}.tmp.pth'
    other.write_bytes(b'half')
    train(tmp_path, stop_at=1)
    assert list(tmp_path.glob('.*.pth')) == [other]


def test_a_best_checkpoint_of_the_same_name_stays(tmp_path):
    runner = runner_of(tmp_path, save_best='toy/toy', rule='greater')
    runner.train()
    best = tmp_path / 'best_toy_toy_epoch_4.pth'
    assert best.is_file()
    hook, = (h for h in runner.hooks if isinstance(h, SafeCheckpointHook))
    hook._save_best_checkpoint(runner, {'toy/toy': 100.0})
    assert best.is_file() and hook.best_ckpt_path == str(best)


OPTIONS = dict(
    interval=3,
    save_last=False,
    save_begin=1,
    max_keep_ckpts=2,
    filename_tmpl='state-{}.pth',
    save_best=['toy/toy'],
    rule='greater',
    published_keys=['meta', 'state_dict'])


@pytest.mark.parametrize('options', [
    {},
    dict(max_keep_ckpts=2),
    dict(max_keep_ckpts=-1, save_best='auto', rule='greater'),
    OPTIONS,
])
def test_its_options_and_files_are_mmengines(options, tmp_path):
    """Of all names that stay in the end, and of what stands in them."""
    for folder, kind in (('a', 'CheckpointHook'), ('b', 'SafeCheckpointHook')):
        prefix = '' if folder == 'a' else 'mmcompress.'
        options = {**KEEP_ONE, **options, 'type': prefix + kind}
        runner = toy_runner(
            tmp_path / folder, default_hooks=dict(checkpoint=options))
        runner.train()
    files = [sorted(f.stem[:12] for f in (tmp_path / x).glob('*.pth'))
             for x in 'ab']  # yapf: disable
    assert files[0] == files[1] and files[0]
    for path in sorted((tmp_path / 'a').glob('*.pth')):
        twin = tmp_path / 'b' / path.name
        if not twin.is_file():
            # a published one, whose name is a hash
            continue
        theirs, ours = (
            torch.load(p, weights_only=False) for p in (path, twin))
        assert theirs.keys() == ours.keys()
        info = [c['message_hub']['runtime_info'] for c in (theirs, ours)]
        assert info[0].keys() == info[1].keys()


def test_it_takes_the_place_of_mmengines_hook_and_no_other(tmp_path):

    class Own(CheckpointHook):
        pass

    runner = runner_of(tmp_path, [Own(interval=2)], **OPTIONS)
    before = runner.hooks[:]
    runner.call_hook('before_run')
    for old, new in zip(before, runner.hooks):
        if type(old) is CheckpointHook:
            assert type(new) is SafeCheckpointHook
            assert vars(new) == vars(old)
        else:
            assert new is old
    kinds = [type(hook) for hook in runner.hooks]
    assert SafeCheckpointHook in kinds and Own in kinds


def test_it_comes_with_the_standard_hooks(tmp_path):
    runner = toy_runner(
        tmp_path,
        default_hooks=dict(
            mmcompress=dict(type='mmcompress.StandardHooks'),
            checkpoint=KEEP_ONE))
    runner.train()
    hook, = [h for h in runner.hooks if isinstance(h, CheckpointHook)]
    assert type(hook) is SafeCheckpointHook and hook.max_keep_ckpts == 1
    assert names(tmp_path) == ['epoch_4.pth']


BEST = dict(save_best='toy/toy', rule='greater')
TWO = dict(save_best=['toy/toy', 'toy/toy2'], rule='greater')


def test_the_previous_best_one_goes_after_the_next_is_there(
        tmp_path, monkeypatch):
    remove = LocalBackend.remove

    def checked(backend, path):
        if Path(path).name.startswith('best'):
            assert len(list(tmp_path.glob('best_*'))) == 2
        remove(backend, path)

    monkeypatch.setattr(LocalBackend, 'remove', checked)
    train(tmp_path, **BEST)
    assert names(tmp_path) == ['best_toy_toy_epoch_4.pth', 'epoch_4.pth']


def copied(tmp_path, move=False):
    """A run of which a copy goes on."""
    train(tmp_path / 'original', stop_at=9, **BEST)
    assert names(tmp_path /
                 'original') == ['best_toy_toy_epoch_2.pth', 'epoch_2.pth']
    copy = tmp_path / 'copy'
    subprocess.run(['mv' if move else 'cp', *['-r'] * (not move),
                    tmp_path / 'original', copy], check=True)  # yapf: disable
    return copy


def better(folder, monkeypatch, **kwargs):
    """Resume a run whose metric grows on."""
    monkeypatch.setattr('hooks.toy_runner.ToyMetric.calls', 10)
    return train(folder, resume=True, **BEST, **kwargs)


def test_a_copy_leaves_the_originals_best_one_alone(tmp_path, monkeypatch):
    copy = copied(tmp_path)
    assert len(better(copy, monkeypatch)) == 8
    assert names(tmp_path /
                 'original') == ['best_toy_toy_epoch_2.pth', 'epoch_2.pth']
    # and replaces its own
    assert names(copy) == ['best_toy_toy_epoch_4.pth', 'epoch_4.pth']


def test_a_copy_without_the_best_one_forgets_it(tmp_path, monkeypatch):
    copy = copied(tmp_path)
    (copy / 'best_toy_toy_epoch_2.pth').unlink()
    monkeypatch.setattr('hooks.toy_runner.ToyMetric.calls', 10)
    runner, said = runner_of(copy, **BEST), []
    runner._resume, runner.logger.warning = True, said.append
    runner.train()
    assert any('best checkpoint so far' in text for text in said)
    assert 'best_toy_toy_epoch_2.pth' in names(tmp_path / 'original')
    assert names(copy) == ['best_toy_toy_epoch_4.pth', 'epoch_4.pth']


def test_a_moved_folder_goes_on(tmp_path, monkeypatch):
    moved = copied(tmp_path, move=True)
    assert len(better(moved, monkeypatch)) == 8
    assert not (tmp_path / 'original').exists()
    assert names(moved) == ['best_toy_toy_epoch_4.pth', 'epoch_4.pth']


def test_resuming_another_runs_checkpoint_removes_nothing(
        tmp_path, monkeypatch):
    """Neither in its folder, nor files of this one that have its names."""
    copied(tmp_path)
    here = tmp_path / 'here'
    here.mkdir()
    own = ['best_toy_toy_epoch_2.pth', 'epoch_1.pth', 'epoch_2.pth']
    for name in own:
        (here / name).write_text('of an earlier run')
    load_from = str(tmp_path / 'original' / 'epoch_2.pth')
    assert len(better(here, monkeypatch, load_from=load_from)) == 8
    assert set(own) < set(names(here))
    assert names(tmp_path /
                 'original') == ['best_toy_toy_epoch_2.pth', 'epoch_2.pth']


def test_the_best_ones_of_several_metrics(tmp_path, monkeypatch):
    from hooks.toy_runner import ToyMetric
    compute = ToyMetric.compute_metrics

    def two(self, results):
        first = compute(self, results)
        return dict(first, toy2=-first['toy'])

    monkeypatch.setattr(ToyMetric, 'compute_metrics', two)
    train(tmp_path, **TWO)
    assert names(tmp_path) == [
        'best_toy_toy2_epoch_1.pth', 'best_toy_toy_epoch_4.pth', 'epoch_4.pth'
    ]


def test_the_log_of_a_checkpoint_is_a_resumable_state(tmp_path):
    """As mmengine's own hook reads it, which removes what is too much."""
    train(tmp_path, stop_at=13, max_keep_ckpts=2)
    last = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    assert last['message_hub']['runtime_info']['keep_ckpt_ids'] == [1, 2, 3]
    (tmp_path / 'epoch_1.pth').write_text('was not removed')
    log = LossLog()
    toy_runner(
        tmp_path,
        hooks=[log],
        resume=True,
        default_hooks=dict(
            checkpoint=dict(KEEP_ONE, max_keep_ckpts=2))).train()
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']
    assert len(log.losses) == 4
