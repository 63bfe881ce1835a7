"""Train mini detectors with several seeds and note their average precisions.

    PYTHONPATH=projects/cbbl python projects/cbbl/tools/compare_losses.py \
        projects/cbbl/configs/cbbl_retinanet_mini_*.py --seeds 0 1 2
    python projects/cbbl/tools/compare_losses.py --table

A run that is in the file of results already, with as many epochs, is left out.
"""
import argparse
import json
import statistics
from pathlib import Path

import torch
from mmengine.config import Config

import mmcompress.compat  # noqa: F401

RESULTS = Path(__file__).parents[1] / 'results' / 'mini.json'
METRICS = dict(
    AP='mAP', AP50='mAP_50', AP75='mAP_75', APs='mAP_s', APm='mAP_m')


def read(file: Path) -> list[dict]:
    """Records that were written before."""
    return json.loads(file.read_text()) if file.exists() else []


def write(file: Path, records: list[dict]) -> None:
    """One record a line, in a stable order."""
    records = sorted(
        records, key=lambda r: (r['config'], r['epochs'], r['seed']))
    lines = ',\n'.join(json.dumps(r) for r in records)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'[\n{lines}\n]\n')


def clamped(scalars: dict) -> dict[str, float]:
    """Mean share of clamped targets of all steps, by the name of the log."""
    return {
        name.removeprefix('train/'):
        round(float(buffer.data[0].sum() / buffer.data[1].sum()), 6)
        for name, buffer in scalars.items() if name.endswith('_clamped')
    }


def read_config(config: Path, epochs: int | None) -> Config:
    """A config, with as many epochs."""
    cfg = Config.fromfile(config)
    if epochs is not None:
        cfg.train_cfg.max_epochs = epochs
        cfg.param_scheduler[-1].update(end=epochs, T_max=epochs)
    return cfg


def train(config: Path, seed: int, epochs: int | None, work_dir: Path) -> dict:
    """Train and test once, and tell how it went."""
    from mmengine.runner import Runner
    cfg = read_config(config, epochs)
    cfg.work_dir = str(work_dir / f'{config.stem}_{seed}')
    cfg.randomness = dict(seed=seed)
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    runner = Runner.from_cfg(cfg)
    runner.train()
    scalars = runner.message_hub.log_scalars
    found = {
        name: round(100 * scalars[f'val/coco/bbox_{key}'].current(), 1)
        for name, key in METRICS.items()
    }
    return dict(
        config=config.stem,
        seed=seed,
        epochs=cfg.train_cfg.max_epochs,
        images=len(runner.train_dataloader.dataset),
        **found,
        **clamped(scalars),
        torch=torch.__version__)


def table(records: list[dict]) -> str:
    """Mean and standard deviation over seeds, by config and epochs."""
    columns = ['config', 'epochs', 'seeds', *METRICS, 'clamped']
    rows = [f'| {" | ".join(columns)} |', '| :-- |' + ' --: |' * 8]
    for key in dict.fromkeys((r['config'], r['epochs']) for r in records):
        runs = [r for r in records if (r['config'], r['epochs']) == key]
        cells = [key[0], str(key[1]), str(len(runs))]
        for metric in METRICS:
            values = [r[metric] for r in runs]
            cell = f'{statistics.mean(values):.1f}'
            if len(values) > 1:
                cell += f' ± {statistics.stdev(values):.1f}'
            cells.append(cell)
        shares = [
            f'{statistics.mean(r[key] for r in runs):.2%}' for key in runs[0]
            if key.endswith('_clamped')
        ]
        cells.append(', '.join(shares) or '-')
        rows.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(rows)


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='*', type=Path)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--epochs', type=int, help='instead of the config')
    parser.add_argument('--results', type=Path, default=RESULTS)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs'))
    parser.add_argument(
        '--table', action='store_true', help='only print what there is')
    args = parser.parse_args()
    if not args.table:
        epochs = {
            config: read_config(config, args.epochs).train_cfg.max_epochs
            for config in args.configs
        }
        for seed in args.seeds:
            for config in args.configs:
                # again each time: several of these may run
                done = {(r['config'], r['seed'], r['epochs'])
                        for r in read(args.results)}
                if (config.stem, seed, epochs[config]) in done:
                    continue
                record = train(config, seed, args.epochs, args.work_dir)
                write(args.results, read(args.results) + [record])
    print(table(read(args.results)))


if __name__ == '__main__':
    main()
