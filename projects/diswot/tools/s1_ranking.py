"""How well scores rank the 64 nets of the space S1.

Distances of all nets to a ResNet-56, both with random weights, for some seeds,
against the accuracies on CIFAR-100 that the authors published. Beside them,
what needs no score: depth, parameters, operations. Distances are stored in
results/s1_distances.json; what is there is not computed again.

  PYTHONPATH=projects/diswot python projects/diswot/tools/s1_ranking.py
  ... s1_ranking.py --name CIFAR-10 --images cifar10/train
"""
import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from diswot.evaluate import Evaluator
from diswot.records import conditions
from diswot.scoring import Distances, Scoring, kendall_tau
from diswot.settings import settings_of
from mmengine.logging import MMLogger
from mmengine.registry import TASK_UTILS

import mmcompress.compat  # noqa: F401
from mmcompress.model.config import read_config
from mmcompress.tables import format_table

PROJECT = Path(__file__).resolve().parents[1]
CONFIG = PROJECT / 'configs' / 'diswot_s1_cifar100.py'
RESULTS = PROJECT / 'results'
STORE = RESULTS / 's1_distances.json'
SCORINGS = {
    'semantic': Scoring(1, 0),
    'relation': Scoring(0, 1),
    'sum (paper)': Scoring(1, 1),
    'rank sum': Scoring(1, 1, 'rank_sum')
}


def images_of(folder: Path) -> dict:
    """Options that take images from a folder of classes, as CIFAR-10's.

    Args:
        folder (Path): With a folder of images for each class.
    """
    num_classes = sum(entry.is_dir() for entry in folder.iterdir())
    loader = dict(
        dataset=dict(
            _delete_=True,
            type='CustomDataset',
            data_prefix=str(folder),
            pipeline=[dict(type='LoadImageFromFile'),
                      dict(type='PackInputs')]))
    head = dict(num_classes=num_classes)
    return dict(
        train_dataloader=loader,
        data_preprocessor=dict(to_rgb=True),
        model=dict(student=dict(head=head)))


def measure(name: str, seed: int, batch_size: int,
            images: Path | None) -> dict:
    """Distances of all 64 nets, with one initialisation.

    Returns:
        dict: Conditions, seconds, and distances and cost by net.
    """
    cfg = read_config(str(CONFIG))
    teacher = read_config(cfg.model.teacher.cfg)
    if images:
        changed = images_of(images)
        cfg.merge_from_dict(changed)
        teacher.merge_from_dict(
            dict(
                data_preprocessor=changed['data_preprocessor'],
                model=changed['model']['student']))
    settings = settings_of(cfg)
    evaluator = Evaluator(
        cfg,
        TASK_UTILS.build(dict(settings.space)),
        teacher.to_dict(),
        batch_size=batch_size,
        data='train' if images else 'noise',
        seed=seed,
        num_inits=1)
    start = time.process_time()
    distances = {
        candidate: evaluator.distances(candidate)[0]
        for candidate in evaluator.space
    }
    seconds = time.process_time() - start
    nets = {}
    for candidate, found in distances.items():
        cost = evaluator.cost(candidate)
        nets['.'.join(map(str, candidate.stage_blocks))] = [
            found.semantic, found.relation, cost.params, cost.flops
        ]
    return dict(
        data=name,
        seed=seed,
        cpu_seconds=round(seconds, 1),
        conditions=conditions(evaluator),
        nets=nets)


def taus(run: dict, accuracies: dict) -> dict[str, float]:
    """Kendall's tau of each score with the accuracies."""
    names = list(run['nets'])
    truth = [accuracies[name] for name in names]
    distances = [
        Distances(relation=run['nets'][n][1], semantic=run['nets'][n][0])
        for n in names
    ]
    return {
        key: kendall_tau(scoring.scores(distances), truth)
        for key, scoring in SCORINGS.items()
    }


def baselines(run: dict, accuracies: dict) -> dict[str, float]:
    """The same of what needs no network to run."""
    names = list(run['nets'])
    truth = [accuracies[name] for name in names]
    values = {
        'total depth': [sum(map(int, n.split('.'))) for n in names],
        'parameters': [run['nets'][n][2] for n in names],
        'multiply-accumulates': [run['nets'][n][3] for n in names]
    }
    return {key: kendall_tau(v, truth) for key, v in values.items()}


def chosen_accuracy(run: dict, accuracies: dict) -> dict[str, float]:
    """Accuracy of the net that each score chooses, in percent."""
    names = list(run['nets'])
    distances = [
        Distances(relation=run['nets'][n][1], semantic=run['nets'][n][0])
        for n in names
    ]
    found = {}
    for key, scoring in SCORINGS.items():
        scores = scoring.scores(distances)
        found[key] = accuracies[names[scores.index(max(scores))]]
    return found


def _table(title: str, runs: list[dict], measure: Callable, digits: int,
           accuracies: dict) -> str:
    """Means and spreads over seeds, by images and batch size."""
    groups: dict[tuple, list[dict]] = {}
    for run in runs:
        key = run['data'], run['conditions']['batch_size']
        groups.setdefault(key, []).append(run)
    rows = []
    for (data, size), members in groups.items():
        found = [measure(run, accuracies) for run in members]
        row = [data, size, len(members)]
        for key in SCORINGS:
            values = [f[key] for f in found]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            row.append(f'{statistics.mean(values):.{digits}f} ± '
                       f'{spread:.{digits}f}')
        seconds = statistics.mean(r['cpu_seconds'] for r in members)
        rows.append([*row, f'{seconds:.0f}'])
    header = ['images', 'batch', 'seeds', *SCORINGS, 'CPU s per seed']
    return format_table(title, header, rows).lstrip('\n')


def report(runs: list[dict]) -> str:
    """How well nets are ranked, and how good the chosen ones are."""
    published = json.loads((RESULTS / 's1_published.json').read_text())
    accuracies = {k: v[0] for k, v in published['accuracies'].items()}
    trivial = ', '.join(f'{k} {v:.3f}'
                        for k, v in baselines(runs[0], accuracies).items())
    best = max(accuracies, key=accuracies.get)
    return '\n'.join([
        _table("Kendall's tau with the accuracy after distillation", runs,
               taus, 3, accuracies), f'Without any network: {trivial}',
        _table('Accuracy of the chosen net (%)', runs, chosen_accuracy, 2,
               accuracies),
        f'The largest net (7.7.7) has {accuracies["7.7.7"]}, the best one '
        f'({best}) {accuracies[best]}, all have '
        f'{statistics.mean(accuracies.values()):.2f} on average'
    ])


def main() -> None:
    """Measure what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[16, 64])
    parser.add_argument(
        '--images', type=Path, help='folder of classes; default: noise')
    parser.add_argument('--name', default='noise', help='of the images')
    args = parser.parse_args()
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    runs = json.loads(STORE.read_text()) if STORE.is_file() else []
    for size in args.batch_sizes:
        for seed in args.seeds:
            key = (args.name, seed, size)
            if key in [(r['data'], r['seed'], r['conditions']['batch_size'])
                       for r in runs]:
                continue
            runs.append(measure(args.name, seed, size, args.images))
            text = ',\n'.join(json.dumps(run) for run in runs)
            STORE.write_text(f'[\n{text}\n]\n')
            print(f'{key}: {runs[-1]["cpu_seconds"]} s', flush=True)
    print(report(runs))


if __name__ == '__main__':
    main()
