"""Train by ``tools/train.py``, in a process of its own, and show how far."""
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
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
_RUN = ('import sys; from mmcompress.launch import run_tool; '
        "run_tool('train.py', 'usage')")


class TrainingFailed(RuntimeError):
    """A training stopped with an error; the message has its last lines."""


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
        tuple[Path, float]: The last checkpoint, and the seconds it took.

    Raises:
        TrainingFailed: If the tool stops with an error.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    last = work_dir / 'last_checkpoint'
    arguments = [str(config), '--work-dir', str(work_dir), *(options or [])]
    if last.exists():
        say(f'{what} goes on from {last.read_text().strip()}')
        arguments.append('--resume')
    start = time.time()
    log = work_dir / 'output.log'
    tail: deque[str] = deque(maxlen=_LAST_LINES)
    columns = (TextColumn('{task.description}'), BarColumn(),
               TextColumn('{task.percentage:>3.0f} % {task.fields[loss]}'),
               TimeElapsedColumn(), TextColumn('to go:'),
               TimeRemainingColumn())
    with open(log, 'a') as out, Progress(
            *columns, console=Console(file=sys.stderr,
                                      force_jupyter=False)) as bar:
        task = bar.add_task(what, total=iterations, loss='')
        process = subprocess.Popen([sys.executable, '-c', _RUN, *arguments],
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT,
                                   text=True,
                                   errors='replace')
        try:
            for line in process.stdout:
                out.write(line)
                tail.append(line)
                done, loss = _iteration(line), _LOSS.search(line)
                if done is not None:
                    bar.update(
                        task,
                        completed=done,
                        loss=f'loss {float(loss[1]):.3g}' if loss else '')
            code = process.wait()
        finally:
            # when this process is interrupted
            if process.poll() is None:
                process.terminate()
                process.wait()
    if code:
        raise TrainingFailed(
            f'{what} stopped with an error; all of its output is in {log}. '
            'The same command goes on from the last checkpoint. Its last '
            f'lines:\n{"".join(tail)}')
    if not last.exists():
        raise TrainingFailed(f'{what} wrote no checkpoint; see {log}')
    return Path(last.read_text().strip()), time.time() - start
