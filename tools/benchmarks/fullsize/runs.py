"""Train, test and record a run; its folder tells how far that is."""
import datetime
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mmengine
import torch
from filelock import FileLock
from mmengine.config import Config

from comparison.metrics import main_metric
from comparison.networks import network_of
from mmcompress.analysis.timing import machine
from mmcompress.atomic import replacing
from mmcompress.model.checkpoint import plain_weights, read_checkpoint
from mmcompress.results.record import Form, Record, add_record
from mmcompress.version import __version__
from .launch import Launcher, ProcessFailed, execute
from .plan import Run, Settings
from .samples import REMARK


class RunFailed(RuntimeError):
    """A run could not be trained or tested."""


def _commit(root: Path) -> str:
    """Of the checkout; empty if it is none."""
    try:
        return subprocess.run(['git', 'rev-parse', '--short', 'HEAD'],
                              cwd=root,
                              capture_output=True,
                              text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


@dataclass
class State:
    """What a folder says of its run, in ``state.json``.

    Args:
        folder (Path): Of the run.
        hash (str): Of its settings.
        checkpoint (str): The last, when training is done.
        metrics (dict): Of the test, when that is done.
        seconds (float): That training and testing took.
        recorded (str): The store's file that has the record.
    """
    folder: Path
    hash: str = ''
    checkpoint: str = ''
    metrics: dict = None
    seconds: float = 0.0
    recorded: str = ''

    @classmethod
    def read(cls, folder: Path) -> 'State':
        """Of a folder that may not exist."""
        path = folder / 'state.json'
        said = json.loads(path.read_text()) if path.is_file() else {}
        return cls(folder, **said)

    def write(self) -> None:
        """Into the folder; never half."""
        said = {k: v for k, v in vars(self).items() if k != 'folder'}
        with replacing(self.folder / 'state.json') as part:
            part.write_text(json.dumps(said, indent=1) + '\n')

    @property
    def is_trained(self) -> bool:
        """Whether the last checkpoint is there."""
        return bool(self.checkpoint) and Path(self.checkpoint).is_file()


@dataclass(frozen=True)
class Runner:
    """Takes runs from nothing to a record.

    Args:
        work_dir (Path): Holds a folder for each run.
        launcher (Launcher): Starts the tools.
        settings (Settings): Of all runs.
        out (Path): Folder of the records.
    """
    work_dir: Path
    launcher: Launcher
    settings: Settings
    out: Path

    def folder(self, run: Run) -> Path:
        """Of a run."""
        return self.work_dir / run.name

    def state(self, run: Run) -> State:
        """How far a run is.

        Raises:
            RunFailed: If its folder is that of other settings.
        """
        state = State.read(self.folder(run))
        if state.hash and state.hash != run.hash:
            raise RunFailed(
                f'{state.folder} was begun with other settings (hash '
                f'{state.hash}, these are {run.hash}): move it away, or give '
                'another --work-dir')
        state.hash = run.hash
        return state

    def _config(self, run: Run) -> Path:
        """Write what is run, with the checkpoints of the runs before."""
        cfg = Config(run.cfg.to_dict())
        for key, before in run.after.items():
            state = self.state(before)
            if not state.is_trained:
                raise RunFailed(f'it starts from {before.name}, which is not '
                                'trained yet')
            cfg.merge_from_dict({key: state.checkpoint})
        path = self.folder(run) / 'config' / f'{run.name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(str(path))
        return path

    def _execute(self, run: Run, state: State, tool: str, report: Callable,
                 **arguments) -> None:
        command = self.launcher.command(tool, run.name, self._config(run),
                                        **arguments)
        if tool == 'train' and (state.folder / 'last_checkpoint').is_file():
            # not at the first start: mm tools forget load_from for it
            command.append('--resume')
        start = time.time()
        try:
            execute(command, state.folder / f'{tool}.log',
                    self.launcher.environment(), report)
        except ProcessFailed as error:
            raise RunFailed(str(error)) from error
        finally:
            state.seconds += time.time() - start
            state.write()

    def train(self, run: Run, report: Callable[[str], None]) -> None:
        """Train, or go on, or do nothing if that is done.

        Args:
            run (Run): Those before it are trained.
            report (Callable): Called with a line about what happens.

        Raises:
            RunFailed: If it ended without a checkpoint.
        """
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        # of two drivers one trains, and the other waits
        with FileLock(f'{folder}.lock'):
            state = self.state(run)
            if state.is_trained:
                return
            state.write()
            self._execute(run, state, 'train', report, folder=folder)
            pointer = folder / 'last_checkpoint'
            if not pointer.is_file():
                raise RunFailed(f'it left no checkpoint in {folder}')
            state.checkpoint = str(
                folder / os.path.basename(pointer.read_text().strip()))
            state.metrics = None
            state.write()

    def test(self, run: Run, report: Callable[[str], None]) -> None:
        """Test the last checkpoint, or do nothing if that is done.

        Raises:
            RunFailed: If it is not trained, or no metric came out.
        """
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{folder}.lock'):
            state = self.state(run)
            if state.metrics:
                return
            if not state.is_trained:
                raise RunFailed('it is not trained yet')
            into = folder / 'test'
            self._execute(
                run,
                state,
                'test',
                report,
                folder=into,
                checkpoint=state.checkpoint)
            files = sorted(into.glob('*/*.json'))
            metrics = json.loads(files[-1].read_text()) if files else {}
            state.metrics = {
                k: v
                for k, v in metrics.items()
                if isinstance(v, (int, float)) and not k.endswith('time')
            }
            if not state.metrics:
                raise RunFailed(
                    f'the test gave no metric; see {folder}/test.log')
            state.recorded = ''
            state.write()

    def record(self, run: Run) -> None:
        """Write what the run gave into the store, once."""
        sample = self.settings.sample is not None
        path = self.out.resolve() / ('samples.json' if sample else 'full.json')
        state = self.state(run)
        if state.recorded == str(path):
            return
        add_record(
            self._record(run, state, sample),
            path,
            key=lambda r: (r.config, r.config_hash, r.seed))
        state.recorded = str(path)
        state.write()

    def _record(self, run: Run, state: State, sample: bool) -> Record:
        network = network_of(
            self.folder(run) / 'config' / f'{run.name}.py', self.settings.root)
        weights = plain_weights(read_checkpoint(state.checkpoint)).values()
        form = Form(
            'trained',
            run.entry.config,
            bits=network.bits,
            metrics=state.metrics,
            parameters=network.parameters,
            bytes=sum(w.numel() * w.element_size() for w in weights))
        return Record(
            kind='real' if sample else 'full',
            task=network.task,
            model=network.model,
            methods=network.methods,
            config=run.entry.config,
            config_hash=run.hash,
            forms=[form],
            seed=self.settings.seed,
            metric=main_metric(state.metrics),
            data=run.data,
            machine=machine('cuda' if torch.cuda.is_available() else 'cpu'),
            versions=dict(
                mmcompress=__version__,
                commit=_commit(self.settings.root),
                torch=torch.__version__,
                mmengine=mmengine.__version__),
            date=datetime.date.today().isoformat(),
            seconds=round(state.seconds),
            settings=dict(
                task='path of full-size configs' if sample else 'full size',
                method=run.name,
                launcher=self.launcher.kind,
                gpus=self.launcher.gpus,
                after=[before.hash for before in run.after.values()]),
            remarks=[
                REMARK.format(images=self.settings.images, data=run.data)
            ] if sample else [])
