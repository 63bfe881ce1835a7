"""Train by ``tools/train.py``, in a process of its own, and show how far."""
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (BarColumn, Progress, TextColumn, TimeElapsedColumn,
                           TimeRemainingColumn)

# of mmengine's log: `Epoch(train) [2][10/40]`, or `Iter(train) [10/400]`
_EPOCH = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]')
_ITER = re.compile(r'Iter\(train\)\s+\[\s*(\d+)/\d+\]')
_LOSS = re.compile(r' loss: (\S+)')
# how much of a failed run is shown
_LAST_LINES = 25
# between lines of progress
_SECONDS = 30
_RUN = ('import sys; from mmcompress.launch import run_tool; '
        "run_tool('train.py', 'usage')")


class TrainingFailed(RuntimeError):
    """A training stopped with an error; the message has its last lines."""


class _Lines:
    """Progress in lines, where there is no terminal for a bar."""

    def __init__(self, what: str, total: int) -> None:
        self.what = what
        self.total = total
        self.start = self.last = time.time()
        self.first = None

    def update(self, done: int, loss: str) -> None:
        """Say how far it is, every now and then."""
        now = time.time()
        if self.first is None:
            # a resumed run begins further on
            self.first = done
        if now - self.last < _SECONDS or done == self.first:
            return
        self.last = now
        left = (self.total - done) / (done - self.first) * (now - self.start)
        print(
            f'{self.what}: {100 * done / self.total:.0f} % {loss}, '
            f'{left / 60:.1f} minutes to go',
            file=sys.stderr,
            flush=True)


@contextmanager
def _shown(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """What shows how far a training is."""
    # a notebook gets lines, too
    console = Console(file=sys.stderr, force_jupyter=False)
    if not console.is_terminal:
        yield _Lines(what, total).update
        return
    columns = (TextColumn('{task.description}'), BarColumn(),
               TextColumn('{task.percentage:>3.0f} % {task.fields[loss]}'),
               TimeElapsedColumn(), TextColumn('to go:'),
               TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total, loss='')
        yield lambda done, loss: bar.update(task, completed=done, loss=loss)


@contextmanager
def _timed(file: Path) -> Iterator[None]:
    """Add the seconds that something takes to those of earlier calls."""
    before = float(file.read_text()) if file.exists() else 0
    start = time.time()
    try:
        yield
    finally:
        file.write_text(f'{before + time.time() - start:.3f}')


@contextmanager
def _child(command: list[str]) -> Iterator[subprocess.Popen]:
    """A process that ends with this one, also when that is terminated."""

    def interrupt(*args) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, interrupt) if main else None
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace')
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        if main:
            signal.signal(signal.SIGTERM, before)


def _iteration(line: str) -> int | None:
    """How many iterations are done, if a line says it."""
    match = _EPOCH.search(line)
    if match:
        epoch, step, steps = map(int, match.groups())
        return (epoch - 1) * steps + step
    match = _ITER.search(line)
    return int(match[1]) if match else None


def train(config: Path,
          work_dir: Path,
          iterations: int,
          what: str,
          options: list[str] | None = None,
          say: Callable[[str], None] = print) -> tuple[Path, float]:
    """Train a config; go on where an earlier call was stopped.

    Args:
        config (Path): Of the training.
        work_dir (Path): Gets checkpoints and logs; ``output.log`` has all
            that the tool prints.
        iterations (int): How many there are, for the progress.
        what (str): Stands in front of the bar.
        options (list[str] | None): Further arguments of the tool.
        say (Callable): Gets sentences.

    Returns:
        tuple[Path, float]: The last checkpoint, and the seconds it took,
        those of stopped calls as well.

    Raises:
        TrainingFailed: If the tool stops with an error.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    last = work_dir / 'last_checkpoint'
    seconds = work_dir / 'seconds.txt'
    arguments = [str(config), '--work-dir', str(work_dir), *(options or [])]
    if last.exists():
        say(f'{what} goes on from {last.read_text().strip()}')
        arguments.append('--resume')
    else:
        # an earlier call left nothing to go on from
        seconds.unlink(missing_ok=True)
    log = work_dir / 'output.log'
    tail: deque[str] = deque(maxlen=_LAST_LINES)
    command = [sys.executable, '-c', _RUN, *arguments]
    with open(log, 'a') as out, _shown(what, iterations) as shown, \
            _timed(seconds), _child(command) as process:
        for line in process.stdout:
            out.write(line)
            tail.append(line)
            done, loss = _iteration(line), _LOSS.search(line)
            if done is not None:
                shown(done, f'loss {float(loss[1]):.3g}' if loss else '')
        code = process.wait()
    if code:
        raise TrainingFailed(
            f'{what} stopped with an error; all of its output is in {log}. '
            'The same command goes on from the last checkpoint. Its last '
            f'lines:\n{"".join(tail)}')
    if not last.exists():
        raise TrainingFailed(f'{what} wrote no checkpoint; see {log}')
    return Path(last.read_text().strip()), float(seconds.read_text())
