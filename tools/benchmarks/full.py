"""Run full-size configs: train, test, and hold beside the papers' numbers.

Teachers and stages that a config starts from are trained first. What is done
is not done again, and what was interrupted goes on, so the same command after
a crash or a time limit continues; a config that fails doesn't stop the others.
Data are looked for before anything is trained.

  python tools/benchmarks/full.py --method fgd --dry-run
  python tools/benchmarks/full.py configs/ida_det/ida_det_r18.py \\
      --data-root /data --launcher local --gpus 4
  python tools/benchmarks/full.py --method fgd pkd --launcher slurm \\
      --partition gpu --gpus 8
  python tools/benchmarks/full.py ida_det_r18 --sample $MMCOMPRESS_DATA
"""
import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import (BarColumn, MofNCompleteColumn, Progress, TextColumn,
                           TimeElapsedColumn)

import mmcompress.compat  # noqa: F401
from comparison.metrics import main_metric, metric_name, to_percent
from fullsize import reported
from fullsize.launch import Launcher
from fullsize.plan import Run, Settings, find, plan
from fullsize.runs import RunFailed, Runner
from mmcompress.launch import add_cfg_options

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('configs', nargs='*', help='paths or base names')
    add('--method', nargs='+', default=[], help='all of folders of configs/')
    add('--data-root', help='what configs call data/: holds coco/, ...')
    add('--launcher', choices=['none', 'local', 'slurm'], default='none')
    add('--gpus', type=int, default=1, help='processes, one for each GPU')
    add('--gpus-per-node', type=int, default=8, help='of Slurm')
    add('--partition', default='', help='of Slurm')
    add('--seed', type=int, default=0)
    add('--only', choices=['train', 'test', 'table'], help='one of the steps')
    add('--dry-run', action='store_true', help='what would run and is missing')
    add('--sample', type=Path, help='small sets instead, to try the path')
    add('--sample-images', type=int, default=8, help='of each set')
    add('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'full')
    add('--out', type=Path, help='folder of records; docs/results by default, '
        'with --sample the work dir')  # yapf: disable
    add_cfg_options(parser)
    args = parser.parse_args()
    if not args.configs and not args.method:
        parser.error('name configs, or methods by --method')
    if args.launcher == 'slurm' and not args.partition:
        parser.error('--launcher slurm needs --partition')
    if args.launcher == 'none' and args.gpus > 1:
        parser.error(f'--gpus {args.gpus} needs --launcher local or slurm')
    if args.sample and not args.sample.is_dir():
        parser.error(f'{args.sample} is no folder')
    args.out = args.out or (args.work_dir if args.sample else ROOT / 'docs' /
                            'results')
    return args


def _rate(run: Run, gpus: int) -> str:
    """A sentence if the learning rate is meant for another batch."""
    base = (run.cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    batch = run.batch * gpus
    if not base or base == batch:
        return ''
    return (f'batch {batch}, and the learning rate is for {base}: '
            '--cfg-options auto_scale_lr.enable=True, or more GPUs')


def show_plan(runs: list[Run], runner: Runner, console: Console) -> None:
    """What would run, after what, and what is missing."""
    for run in runs:
        state = runner.state(run)
        done = 'tested' if state.metrics else (
            'trained' if state.is_trained else 'to train')
        console.print(f'{run.name}: {run.data}, {run.epochs}, {done}')
        for key, before in run.after.items():
            console.print(f'  after {before.name} ({key})')
        for url in run.downloads:
            console.print(f'  downloads {url}')
        rate = _rate(run, runner.launcher.gpus)
        for text in [*run.missing, *([rate] if rate else [])]:
            console.print(f'  ! {text}')


def _steps(only: str | None, runner: Runner) -> list:
    steps = dict(train=runner.train, test=runner.test)
    return [steps[only]] if only else list(steps.values())


def work(runs: list[Run], runner: Runner, only: str | None,
         console: Console) -> dict[str, str]:
    """Train and test what is not done yet.

    Returns:
        dict[str, str]: Why runs failed, by name.
    """
    failed: dict[str, str] = {}
    columns = (TextColumn('{task.description}'), BarColumn(bar_width=20),
               MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task('', total=len(runs))
        for run in runs:

            def report(text: str, name=run.name) -> None:
                progress.update(bar, description=f'{name}  {text}')

            lost = [b.name for b in run.after.values() if b.name in failed]
            try:
                if run.missing:
                    raise RunFailed('\n'.join(run.missing))
                if lost:
                    raise RunFailed(f'{", ".join(lost)} failed, from which '
                                    'it starts')
                report('')
                for step in _steps(only, runner):
                    step(run, report)
                if only != 'train':
                    runner.record(run)
                console.print(f'{run.name}: done')
            except RunFailed as error:
                failed[run.name] = str(error)
                console.print(f'{run.name} FAILED: {error}')
            progress.advance(bar)
    return failed


def show_table(runs: list[Run], runner: Runner, console: Console) -> None:
    """Beside what papers report."""
    console.print('| config | reported | measured |\n| :-- | :-- | :-- |')
    for run in runs:
        said = reported(ROOT, run.entry.folder, run.name)
        said = '; '.join(f'{name}: {value}' for name, value in said.items())
        measured = 'not run'
        metrics = runner.state(run).metrics
        if metrics:
            key = main_metric(metrics)
            value = metrics[key] * to_percent(key)
            measured = f'{metric_name(key)} {value:.2f}'
        console.print(f'| {run.name} | {said} | {measured} |')


def main() -> int:
    """Run the tool; 1 if a config failed."""
    args = parse_args()
    # of a scheduler: what was started ends, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # lines of a table are not broken
    console = Console(markup=False, highlight=False, soft_wrap=True)
    settings = Settings(ROOT, args.data_root, args.sample, args.sample_images,
                        args.seed, args.cfg_options or {})
    launcher = Launcher(ROOT, args.launcher, args.gpus, args.partition,
                        args.gpus_per_node)
    try:
        runs = plan(find(args.configs, args.method, ROOT), settings)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    runner = Runner(args.work_dir.resolve(), launcher, settings, args.out)
    if args.dry_run:
        show_plan(runs, runner, console)
        return int(any(run.missing for run in runs))
    failed = {}
    if args.only != 'table':
        try:
            failed = work(runs, runner, args.only, console)
        except KeyboardInterrupt:
            console.print('Interrupted. The same command goes on.')
            return 130
    show_table(runs, runner, console)
    if failed:
        console.print(f'{len(failed)} of {len(runs)} failed: '
                      f'{", ".join(failed)}. The same command goes on.')
    elif args.sample:
        console.print('These are samples: the scores say nothing.')
    else:
        console.print('python tools/benchmarks/report.py writes the pages.')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
