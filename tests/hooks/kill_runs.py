"""Kill a run at every moment at which it touches its files, and resume it.

A program: `python kill_runs.py FOLDER epoch|iter EVERY`, where 1 means every
moment and 2 each second one. Each run is a fork, so that what takes long is
imported once.
"""
import errno
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from hooks.toy_runner import LossLog, toy_runner
from mmengine.fileio import LocalBackend
from mmengine.runner import Runner

import mmcompress.compat  # noqa: F401
from mmcompress.hooks import ExactResumeHook, PlainCheckpointHook

put = LocalBackend.put
# it asks compilers for their versions
Runner._log_env = lambda *_: None


def run(folder: Path, loop: str, fail=None, **kwargs) -> None:
    """Train; ``fail`` is called at each moment, with its number and name."""
    moments = []

    def moment(name):
        moments.append(name)
        if fail is not None:
            fail(len(moments), name)

    def put_in_two_parts(backend, content, path):
        moment('open')
        with open(path, 'wb') as file:
            file.write(content[:len(content) // 2])
        moment('write')
        put(backend, content, path)

    def announced(name):
        function = getattr(os, name)

        def call(*args, **kwargs):
            moment(name)
            return function(*args, **kwargs)

        setattr(os, name, call)

    LocalBackend.put = put_in_two_parts
    for name in ('fsync', 'replace', 'remove', 'unlink'):
        announced(name)
    log = LossLog()
    checkpoint = dict(
        type='CheckpointHook',
        interval=1 if loop == 'epoch' else 4,
        by_epoch=loop == 'epoch',
        max_keep_ckpts=1,
        save_best='toy/toy',
        rule='greater')
    if loop == 'epoch':
        kwargs['train_cfg'] = dict(by_epoch=True, max_epochs=2)
    else:
        kwargs['train_cfg'] = dict(by_epoch=False, max_iters=8, val_interval=4)
    runner = toy_runner(
        folder,
        loop, [log, PlainCheckpointHook(),
               ExactResumeHook()],
        default_hooks=dict(checkpoint=checkpoint),
        **kwargs)
    runner.train()
    (folder / 'losses.json').write_text(json.dumps(log.losses))
    (folder / 'moments.json').write_text(json.dumps(moments))


def forked(*args, **kwargs) -> int:
    """Exit status of a run in a process of its own, negative if killed."""
    pid = os.fork()
    if pid == 0:
        try:
            run(*args, **kwargs)
            os._exit(0)
        except OSError as error:
            os._exit(1 if 'free space' in str(error) else 2)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(3)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)


def read(folder: Path, name: str) -> list:
    return json.loads((folder / name).read_text())


def checkpoints(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob('*.pth*'))


def kill_at(number):

    def fail(i, name):
        if i == number:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    return fail


def fill_disk_at(number):

    def fail(i, name):
        if i >= number and name in ('write', 'fsync'):
            raise OSError(errno.ENOSPC, 'No space left on device')

    return fail


def main(folder: Path, loop: str, every: int) -> None:
    assert forked(folder / 'whole', loop) == 0
    expected = read(folder / 'whole', 'losses.json')
    moments = read(folder / 'whole', 'moments.json')
    # libraries touch files of their own before
    in_place = moments.index('replace') + 1
    last = [n for n in checkpoints(folder / 'whole') if 'best' not in n]
    assert len(last) == 1
    failures = [(kill_at, i, -signal.SIGKILL)
                for i in range(1, 1 + len(moments))]
    failures += [(fill_disk_at, i, 1) for i, name in enumerate(moments, 1)
                 if name in ('write', 'fsync')]  # yapf: disable
    failures = failures[::every]
    for fail, i, status in failures:
        here = folder / f'{fail.__name__}_{i}'
        assert forked(here, loop, fail(i)) == status, (fail, i, moments[i - 1])
        assert forked(here, loop, resume=True) == 0, (fail, i, moments[i - 1])
        losses = read(here, 'losses.json')
        case = (fail.__name__, i, moments[i - 1], len(losses))
        assert losses == expected[len(expected) - len(losses):], case
        # before a checkpoint is in its place, there is nothing to resume
        assert len(losses) < len(expected) or i <= in_place, case
        # a best one that was written just before is whole, but forgotten
        kept = checkpoints(here)
        assert [n for n in kept if 'best' not in n] == last, (case, kept)
        assert len(kept) > 1, case
        for name in kept:
            torch.load(here / name, weights_only=True)
        shutil.rmtree(here)
    print(len(failures), 'failures survived')


if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
