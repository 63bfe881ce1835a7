"""Compare methods on the mini data.

For every method: its teacher or float model (once, seed 0), what it is
compared with, such as its student alone or LSQ at the same bits, and itself,
for each seed, all with the same budget. Each training is a
process of its own, and appends a record to the results file. What has a record
of the same settings and seed is not trained again, so a run that was stopped
goes on where it was; several may run side by side. Then see report.py.
What there is to compare stands in the metafiles (comparison/table.py).

  python tools/benchmarks/mini.py kd nkd
  python tools/benchmarks/mini.py all --seeds 1 2 3
  python tools/benchmarks/mini.py lsq_w4a4 --tasks 'quantized DeiT'
  python tools/benchmarks/mini.py kd --tuning --set \\
      model.losses.loss_kd.loss_weight=2.0
"""
import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import (BarColumn, MofNCompleteColumn, Progress, TextColumn,
                           TimeElapsedColumn)

import mmcompress.compat  # noqa: F401
from comparison import (Records, Table, Training, TrainingFailed,
                        ensure_trained, is_origin)
from comparison.networks import network_of
from comparison.trainings import parse_options

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / 'docs' / 'results'
# weights are tuned on other seeds than the reported ones
SEEDS = (1, 2, 3)
TUNING_SEEDS = (11, 12)
# what is trained without a method
CONTROLS = ('student', 'inherit')
TABLE = Table(ROOT)
METHODS = TABLE.methods()
NAMES = list(dict.fromkeys(method.name for method in METHODS))


def training_of(task: str, name: str, seed: int,
                options: tuple = ()) -> Training:
    """A training of a task.

    Args:
        task (str): Name of the task.
        name (str): Of the method, or of something else of the task. The seed
            of teachers and float models is 0.
        seed (int): Of the student.
        options (tuple[str]): ``KEY=VALUE`` that override the config.
    """
    entry = TABLE.entries[task, name]
    return Training(
        root=ROOT,
        task=task,
        method=name,
        config=entry.config,
        metric=TABLE.tasks[task].metric,
        scale=TABLE.tasks[task].scale,
        seed=0 if is_origin(name) else seed,
        options=(*entry.options, *options),
        after={
            option: training_of(task, first.name, seed)
            for option, first in TABLE.origins_of(entry).items()
        })


def plan(names: list[str],
         tasks: list[str],
         seeds: list[int],
         options: tuple = ()) -> list[Training]:
    """All trainings of a comparison, methods after what they need.

    Args:
        names (list[str]): Of methods.
        tasks (list[str]): Names of tasks.
        seeds (list[int]): Of methods and of what they are compared with.
        options (tuple[str]): ``KEY=VALUE`` for the methods.
    """
    trainings = []
    for task in tasks:
        chosen = [m for m in METHODS if m.task == task and m.name in names]
        before = {
            entry.name: entry
            for method in chosen
            for entry in TABLE.before(method)
        }
        for name, entry in before.items():
            if entry not in chosen:
                first = [0] if is_origin(name) else seeds
                trainings += [training_of(task, name, seed) for seed in first]
        trainings += [
            training_of(task, method.name, seed, options) for method in chosen
            for seed in seeds
        ]
    return trainings


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'methods',
        nargs='+',
        choices=['all', *NAMES],
        metavar='METHOD',
        help=f'all, or some of: {", ".join(NAMES)}')
    parser.add_argument(
        '--tasks',
        nargs='+',
        choices=TABLE.tasks,
        default=list(TABLE.tasks),
        help='all tasks of the methods by default')
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        help=f'{SEEDS} by default, {TUNING_SEEDS[:1]} for tuning')
    parser.add_argument(
        '--tuning',
        action='store_true',
        help='records are kept apart and counted as effort')
    parser.add_argument(
        '--set',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help="override keys of the method's config, when tuning")
    parser.add_argument(
        '--out', type=Path, help='results file, in docs/results by default')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'benchmarks',
        help='logs and checkpoints')
    args = parser.parse_args()
    allowed = TUNING_SEEDS if args.tuning else SEEDS
    args.seeds = args.seeds or list(allowed[:1] if args.tuning else SEEDS)
    reserved = set(args.seeds) & set(SEEDS if args.tuning else TUNING_SEEDS)
    if reserved:
        parser.error(f'seeds {sorted(reserved)} are those of '
                     f'{"reported results" if args.tuning else "tuning"}')
    if args.set and not args.tuning:
        parser.error('reported results are those of the configs: --set needs '
                     '--tuning; then write what is best into the config')
    args.methods = NAMES if 'all' in args.methods else args.methods
    args.out = args.out or STORE / ('tuning.json'
                                    if args.tuning else 'mini.json')
    return args


def keep(record: dict, records: Records, scale: float, tuning: bool) -> None:
    """Write the record of a training into the store."""
    options = parse_options(record['options'])
    network = network_of(ROOT / record['config'], ROOT, options)
    if record['method'] in CONTROLS or is_origin(record['method']):
        network = replace(network, methods=[])
    records.append(dict(record, scale=scale), network=network, tuning=tuning)


def run(trainings: list[Training],
        records: Records,
        work_dir: Path,
        console: Console,
        tuning: bool = False) -> list[Training]:
    """Train what has no record yet.

    Returns:
        list[Training]: Those that failed.
    """
    failed = []
    columns = (TextColumn('{task.description}'), BarColumn(bar_width=20),
               MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task('', total=len(trainings))

        def report(text: str) -> None:
            progress.update(bar, description=text)

        for training in trainings:
            record = records.find(training.hash, training.seed, training.task)
            if record is None:
                try:
                    for record in ensure_trained(training, work_dir, report):
                        keep(record, records, training.scale, tuning)
                except TrainingFailed as error:
                    failed.append(training)
                    console.log(f'{training.title} FAILED: {error}')
                else:
                    console.log(f'{training.title}: {training.metric} '
                                f'{record["score"]:.2f}, '
                                f'{record["seconds"]} s')
            progress.advance(bar)
    return failed


def main() -> None:
    """Run the tool."""
    args = parse_args()
    console = Console(markup=False, highlight=False)
    trainings = plan(args.methods, args.tasks, args.seeds, tuple(args.set))
    failed = run(trainings, Records(args.out), args.work_dir.resolve(),
                 console, args.tuning)
    if failed:
        console.print(f'{len(failed)} of {len(trainings)} trainings failed: ' +
                      '; '.join(t.title for t in failed))
        sys.exit(1)
    console.print(f'All {len(trainings)} trainings are in {args.out}')


if __name__ == '__main__':
    main()
