"""What packing does to the metric and the bytes of trained models.

Each model is packed, which verifies it (tools/deploy/pack.py), and tested
three times: as it was trained, as the folded twin, and packed. Prints a row of
a table for each; the reports of packing lie in the work dir. With --seed, that
of the trainings, configs of the repository also get a record in the store, of
which report.py makes the page.

  python tools/benchmarks/packed.py configs/lsq/lsq_deit_w4_a4_mini.py \\
      work_dirs/lsq_deit_w4_a4_mini/epoch_2.pth --seed 1
"""
import argparse
import contextlib
import datetime
import io
import sys
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint

import mmcompress.compat  # noqa: F401
from comparison.metrics import main_metric
from comparison.networks import network_of
from mmcompress.analysis.subject import load_weights
from mmcompress.analysis.timing import machine
from mmcompress.deploy.file.convert import pack_file
from mmcompress.model.checkpoint import plain_weights, read_checkpoint
from mmcompress.model.config import build_model
from mmcompress.model.testing import measure
from mmcompress.results.record import Form, Record, add_record, config_hash
from mmcompress.version import __version__

ROOT = Path(__file__).resolve().parents[2]

COLUMNS = ('config', 'metric', 'trained', 'folded', 'packed', 'trained, bytes',
           'packed, bytes', 'ratio')
HEADER = (f'| {" | ".join(COLUMNS)} |\n'
          f'| :-- | :-- {"| --: " * (len(COLUMNS) - 2)}|')


def metrics(config: str | Path, checkpoint: str | Path,
            twin: str | None) -> dict[str, float]:
    """Of a model.

    Args:
        config (str | Path): Of the trained or of the packed model.
        checkpoint (str | Path): Its weights.
        twin (str | None): ``'packed'`` or ``'folded'``; None for the trained
            model.

    Returns:
        dict[str, float]: Its metrics.
    """
    cfg = Config.fromfile(config)
    if twin is None:
        model = build_model(cfg)
        load_weights(model, str(checkpoint))
    else:
        cfg.model.packed_twin = twin
        model = build_model(cfg)
        load_checkpoint(model, str(checkpoint), 'cpu', logger='silent')
    # what mmdet's evaluators print themselves
    with contextlib.redirect_stdout(io.StringIO()):
        return measure(cfg, model)


def forms(config: str, checkpoint: str, folder: Path) -> list[Form]:
    """Pack and test one model: as trained, folded, packed.

    Raises:
        RuntimeError: If folded twin and packed model differ in any metric.
    """
    name = Path(config).stem
    out = folder / f'{name}.pth'
    # what packing reports goes to the latest logger
    MMLogger.get_instance(str(out), log_file=str(out.with_suffix('.log')))
    pack_file(config, checkpoint, str(out))
    trained = metrics(config, checkpoint, None)
    packed_config = out.with_suffix('.py')
    folded = metrics(packed_config, out, 'folded')
    packed = metrics(packed_config, out, 'packed')
    if folded != packed:
        raise RuntimeError(f'{name}: the metrics of the folded twin, {folded},'
                           f' are not those of the packed model, {packed}')
    before = sum(
        value.numel() * value.element_size()
        for value in plain_weights(read_checkpoint(checkpoint)).values())
    return [
        Form('as trained', config, metrics=trained, bytes=before),
        Form('folded', config, metrics=folded),
        Form('packed', config, metrics=packed, bytes=out.stat().st_size)
    ]


def row(found: list[Form]) -> str:
    """Of the table."""
    trained, _, packed = found
    # the config's first
    key = next(iter(trained.metrics))
    values = (f'{form.metrics[key]:.4g}' for form in found)
    return (f'| {Path(trained.config).stem} | {key} | {" | ".join(values)} | '
            f'{trained.bytes:,} | {packed.bytes:,} | '
            f'{trained.bytes / packed.bytes:.1f} |')


def keep(found: list[Form], seed: int, store: Path) -> None:
    """Write a record into the store."""
    path = Path(found[0].config).resolve()
    network = network_of(path, ROOT)
    config = path.relative_to(ROOT).as_posix()
    record = Record(
        kind='mini',
        task=network.task,
        model=network.model,
        methods=network.methods,
        config=config,
        config_hash=config_hash(Config.fromfile(path)),
        forms=[replace(f, config=config, bits=network.bits) for f in found],
        seed=seed,
        metric=main_metric(found[0].metrics),
        data='mini data',
        machine=machine('cpu'),
        versions=dict(mmcompress=__version__, torch=torch.__version__),
        date=datetime.date.today().isoformat(),
        settings=dict(task='packed', method=path.stem.removesuffix('_mini')))
    add_record(
        record,
        store / 'packed.json',
        key=lambda r: (r.config, r.seed, r.settings['method']))


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'files',
        nargs='+',
        metavar='CONFIG CHECKPOINT',
        help='of trained models, in turn')
    parser.add_argument('--work-dir', type=Path, default='work_dirs/packed')
    parser.add_argument(
        '--seed', type=int, help='of the trainings; writes records')
    parser.add_argument(
        '--store', type=Path, default=ROOT / 'docs' / 'results')
    args = parser.parse_args()
    if len(args.files) % 2:
        parser.error(f'{args.files[-1]} has no checkpoint: give a config and '
                     'its checkpoint, in turn')
    return args


def main() -> int:
    """Print a row for each model; 1 if one of them went wrong."""
    args = parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    wrong, rows = 0, [HEADER]
    for config, checkpoint in zip(args.files[::2], args.files[1::2]):
        try:
            found = forms(config, checkpoint, args.work_dir)
            rows.append(row(found))
            print(rows[-1], flush=True)
            if args.seed is not None:
                keep(found, args.seed, args.store)
        except (RuntimeError, ValueError) as error:
            wrong = 1
            print(f'{config}: {error}', file=sys.stderr, flush=True)
    print('\n'.join(rows))
    return wrong


if __name__ == '__main__':
    sys.exit(main())
