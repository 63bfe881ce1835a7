"""One training of a comparison: a config, a seed, what it starts from."""
import argparse
import datetime
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import mmengine
import torch
from filelock import FileLock
from mmengine.config import Config, DictAction

from mmcompress.analysis.timing import machine
from mmcompress.version import __version__


class TrainingFailed(RuntimeError):
    """A training ended without a score."""


def parse_options(options: list[str]) -> dict:
    """``KEY=VALUE`` as the tools of mm libraries read them."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    arguments = ['--cfg-options', *options] if options else []
    return parser.parse_args(arguments).cfg_options or {}


@dataclass(frozen=True)
class Training:
    """A training as its own process.

    Args:
        root (Path): The checkout; configs are relative to it.
        task (str): Name of the task that it belongs to.
        method (str): Name of the method; ``'student'`` and ``'teacher'`` for
            those without one.
        config (str): Path of the config.
        metric (str): The score's name in the log of the validation.
        scale (float): From the logged score to the recorded one.
        seed (int): Of the training.
        options (tuple[str]): ``KEY=VALUE`` of ``--cfg-options``.
        after (dict[str, Training]): Trainings that come first, by the
            option that takes their checkpoint.
    """
    root: Path
    task: str
    method: str
    config: str
    metric: str
    scale: float
    seed: int
    options: tuple[str, ...] = ()
    after: dict = field(default_factory=dict)

    @property
    def title(self) -> str:
        """In words, for whoever waits."""
        return f'{self.task}: {self.method}, seed {self.seed}'

    @cached_property
    def hash(self) -> str:
        """Of all settings except the seed, those before it included."""
        cfg = Config.fromfile(self.root / self.config)
        cfg.merge_from_dict(parse_options(list(self.options)))
        settings = cfg.to_dict()
        settings.pop('randomness', None)
        settings['after'] = {k: t.hash for k, t in self.after.items()}
        text = json.dumps(settings, sort_keys=True, default=str)
        # the same settings in another checkout
        text = text.replace(str(self.root), '')
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def folder(self, work_dir: Path) -> Path:
        """Where its log and checkpoint are."""
        name = f'{Path(self.config).stem}_{self.hash}_seed{self.seed}'
        return work_dir / name


def _last_score(folder: Path, metric: str) -> float:
    """The score of the last validation."""
    scores = [
        line[metric]
        for file in sorted(folder.glob('*/vis_data/scalars.json'))
        for line in map(json.loads,
                        file.read_text().splitlines()) if metric in line
    ]
    if not scores:
        raise TrainingFailed(f'no validation logged {metric!r}')
    return scores[-1]


def _checkpoint(folder: Path) -> Path | None:
    """The last checkpoint of a training that ended."""
    pointer = folder / 'last_checkpoint'
    if not (folder / 'record.json').is_file() or not pointer.is_file():
        return None
    path = Path(pointer.read_text().strip())
    return path if path.is_file() else None


def _still_runs(process: subprocess.Popen) -> bool:
    """Wait for a second, or less if it ends."""
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return True
    return False


def _run(command: list[str], log: Path, cwd: Path,
         report: Callable[[str], None]) -> None:
    """Run a process; what it says last is reported every second."""
    with log.open('w') as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=cwd)
        try:
            while _still_runs(process):
                steps = [x for x in log.read_text().splitlines() if ') [' in x]
                report(steps[-1].partition('INFO - ')[2][:60] if steps else '')
        finally:
            # also when interrupted
            process.kill()
            process.wait()
    if process.returncode:
        lines = log.read_text().splitlines()
        raise TrainingFailed(
            f'exit status {process.returncode}; {log} ends\n' +
            '\n'.join(lines[-5:]))


def _train(training: Training, work_dir: Path, report: Callable[[str],
                                                                None]) -> None:
    """Train, and write the record into the training's folder."""
    folder = training.folder(work_dir)
    # of a training that was interrupted
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = [f'randomness.seed={training.seed}', *training.options]
    options += [
        f'{key}={_checkpoint(first.folder(work_dir))}'
        for key, first in training.after.items()
    ]
    start = time.time()
    _run([
        sys.executable, 'tools/train.py', training.config, '--work-dir',
        str(folder), '--cfg-options', *options
    ], folder / 'train.log', training.root, report)
    score = training.scale * _last_score(folder, training.metric)
    record = dict(
        task=training.task,
        method=training.method,
        config=training.config,
        seed=training.seed,
        metric=training.metric,
        score=round(score, 3),
        options=list(training.options),
        hash=training.hash,
        after=[first.hash for first in training.after.values()],
        seconds=round(time.time() - start),
        date=datetime.date.today().isoformat(),
        machine=machine('cpu'),
        versions=dict(
            mmcompress=__version__,
            torch=torch.__version__,
            mmengine=mmengine.__version__))
    (folder / 'record.json').write_text(json.dumps(record))


def ensure_trained(
        training: Training,
        work_dir: Path,
        report: Callable[[str], None] = lambda text: None) -> list[dict]:
    """Train unless that was done, what comes before it first.

    A training that was interrupted starts again. Of several processes that
    want the same training one does it, and the others wait.

    Args:
        training (Training): What to train.
        work_dir (Path): Where the folders of all trainings are.
        report (Callable): Called with a line about what runs now.

    Returns:
        list[dict]: Records of all trainings it took, its own the last.

    Raises:
        TrainingFailed: If it, or one before it, ended without a score.
    """
    records = []
    for first in training.after.values():
        records += ensure_trained(first, work_dir, report)
    folder = training.folder(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{folder}.lock'):
        if _checkpoint(folder) is None:
            _train(training, work_dir,
                   lambda text: report(f'{training.title}  {text}'))
    record = json.loads((folder / 'record.json').read_text())
    # it may have been trained for another task
    return [*records, dict(record, task=training.task, method=training.method)]
