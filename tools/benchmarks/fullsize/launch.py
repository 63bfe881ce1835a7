"""Processes of a training or a test: one, some of a machine, or Slurm's."""
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# a process that was asked to end gets so long to do it
_GRACE = 20


class ProcessFailed(RuntimeError):
    """A process ended with an error."""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


@dataclass(frozen=True)
class Launcher:
    """How tools are started.

    Args:
        root (Path): The checkout.
        kind (str): ``'none'``, one process; ``'local'``, torchrun on this
            machine; ``'slurm'``, srun.
        gpus (int): Processes.
        partition (str): Of Slurm.
        gpus_per_node (int): Of Slurm.
    """
    root: Path
    kind: str = 'none'
    gpus: int = 1
    partition: str = ''
    gpus_per_node: int = 8

    def command(self,
                tool: str,
                name: str,
                config: Path,
                folder: Path,
                checkpoint: str = '') -> list[str]:
        """Of a training or a test.

        Args:
            tool (str): ``'train'`` or ``'test'``.
            name (str): Of the job.
            config (Path): What to run.
            folder (Path): For logs and checkpoints.
            checkpoint (str): What to test.
        """
        tools = self.root / 'tools'
        given = [str(config), *([checkpoint] if checkpoint else [])]
        work_dir = ['--work-dir', str(folder)]
        if self.kind == 'local':
            return [
                'bash',
                str(tools / f'dist_{tool}.sh'), *given,
                str(self.gpus), *work_dir
            ]
        if self.kind == 'slurm':
            # the script for training takes the folder in its place
            last = work_dir if tool == 'test' else [str(folder)]
            return [
                'bash',
                str(tools / f'slurm_{tool}.sh'), self.partition, name, *given,
                *last
            ]
        return [sys.executable, str(tools / f'{tool}.py'), *given, *work_dir]

    def environment(self) -> dict[str, str]:
        """What the scripts and their processes find."""
        env = dict(os.environ)
        # the scripts say `python`
        env['PATH'] = f'{Path(sys.executable).parent}:{env.get("PATH", "")}'
        env['PYTHONPATH'] = f'{self.root}:{env.get("PYTHONPATH", "")}'
        if self.kind == 'local':
            env.setdefault('PORT', str(_free_port()))
        if self.kind == 'slurm':
            env['GPUS'] = str(self.gpus)
            env['GPUS_PER_NODE'] = str(min(self.gpus, self.gpus_per_node))
        return env


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_GRACE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def _tail(log: Path, size: int = 20000) -> list[str]:
    with log.open('rb') as file:
        file.seek(max(0, log.stat().st_size - size))
        return file.read().decode('utf-8', 'replace').splitlines()


def execute(command: list[str], log: Path, env: dict[str, str],
            report: Callable[[str], None]) -> None:
    """Run a process to its end.

    Args:
        command (list[str]): Program and arguments.
        log (Path): What it says is added to this file.
        env (dict[str, str]): Its environment.
        report (Callable): Called each second with its latest line about a
            step.

    Raises:
        ProcessFailed: If it ends with another status than 0.
    """
    with log.open('a') as out:
        out.write(f'$ {" ".join(command)}\n')
        out.flush()
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True)
        try:
            while True:
                try:
                    process.wait(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    steps = [line for line in _tail(log) if ') [' in line]
                    if steps:
                        report(steps[-1].partition('INFO - ')[2][:60])
        finally:
            # also when interrupted
            if process.poll() is None:
                _end(process)
    if process.returncode:
        raise ProcessFailed(f'exit status {process.returncode}; {log} ends\n' +
                            '\n'.join(_tail(log)[-8:]))
