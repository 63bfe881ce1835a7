"""What packing does to the metric and the bytes of trained models.

Each model is packed, which verifies it (tools/deploy/pack.py), and tested
three times: as it was trained, as the folded twin, and packed. Prints a row of
a table for each; the reports of packing lie in the work dir.

  python tools/benchmarks/packed.py configs/lsq/lsq_deit_w4_a4_mini.py \\
      work_dirs/lsq_deit_w4_a4_mini/epoch_2.pth
"""
import argparse
import contextlib
import io
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import load_weights
from mmcompress.deploy.file.convert import pack_file
from mmcompress.model.checkpoint import plain_weights, read_checkpoint
from mmcompress.model.config import build_model
from mmcompress.model.testing import measure

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


def row(config: str, checkpoint: str, folder: Path) -> str:
    """Pack and test one model.

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
    after = out.stat().st_size
    # the config's first
    key = next(iter(trained))
    values = (f'{m[key]:.4g}' for m in (trained, folded, packed))
    return (f'| {name} | {key} | {" | ".join(values)} | '
            f'{before:,} | {after:,} | {before / after:.1f} |')


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
            rows.append(row(config, checkpoint, args.work_dir))
            print(rows[-1], flush=True)
        except (RuntimeError, ValueError) as error:
            wrong = 1
            print(f'{config}: {error}', file=sys.stderr, flush=True)
    print('\n'.join(rows))
    return wrong


if __name__ == '__main__':
    sys.exit(main())
