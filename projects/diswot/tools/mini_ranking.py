"""How well scores rank small students that are really trained.

Some students of diswot_depth_mini.py are distilled from its teacher on the
mini data, for six epochs and some seeds; their accuracies are compared with
scores and with what needs no score. Stored in results/mini_ranking.json after
each training; what is there is not trained again. The teacher must be in the
cache: tools/train.py with kd_resnet_mini_teacher.py trains it.

  PYTHONPATH=projects/diswot OMP_NUM_THREADS=1 \\
      python projects/diswot/tools/mini_ranking.py
"""
import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch
from diswot.evaluate import Evaluator, mean
from diswot.scoring import Distances, Scoring, kendall_tau
from diswot.settings import settings_of
from diswot.space import Candidate
from mmengine.logging import MMLogger
from mmengine.registry import TASK_UTILS
from mmengine.runner import Runner

import mmcompress.compat  # noqa: F401
from mmcompress.atomic import replacing
from mmcompress.model.config import read_config
from mmcompress.tables import format_table

PROJECT = Path(__file__).resolve().parents[1]
CONFIG = PROJECT / 'configs' / 'diswot_depth_mini.py'
STORE = PROJECT / 'results' / 'mini_ranking.json'
# the corners of the space, and two within
STAGES = [(a, b, c) for a in (1, 4) for b in (1, 4) for c in (1, 4)]
STAGES += [(2, 2, 2), (3, 3, 3)]
# as long as mini students are trained elsewhere
EPOCHS = 6
SCORINGS = {
    'semantic': Scoring(1, 0),
    'relation': Scoring(0, 1),
    'sum (paper)': Scoring(1, 1),
    'rank sum': Scoring(1, 1, 'rank_sum')
}


def train(evaluator: Evaluator, candidate: Candidate, seed: int) -> float:
    """Distil a student; top-1 accuracy in percent."""
    cfg = evaluator.config_of(candidate)
    # validated below, once
    cfg.train_cfg.update(max_epochs=EPOCHS, val_interval=EPOCHS + 1)
    cfg.param_scheduler.end = EPOCHS
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.checkpoint = None
    cfg.log_level = 'ERROR'
    cfg.experiment_name = f'{candidate.name}_{seed}'
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        runner = Runner.from_cfg(cfg)
        runner.train()
        metrics = runner.val_loop.run()
    return metrics['accuracy/top1']


def measure(evaluator: Evaluator, candidate: Candidate) -> dict:
    """Distances and cost of a student."""
    found = mean(evaluator.distances(candidate))
    cost = evaluator.cost(candidate)
    return dict(
        semantic=found.semantic,
        relation=found.relation,
        params=cost.params,
        macs=cost.flops,
        accuracies={})


def taus(nets: dict, truth: dict[str, float]) -> dict[str, float]:
    """Kendall's tau with accuracies, of scores and of trivial measures."""
    names = list(nets)
    distances = [
        Distances(nets[n]['relation'], nets[n]['semantic']) for n in names
    ]
    values = {
        key: scoring.scores(distances)
        for key, scoring in SCORINGS.items()
    }
    values['total depth'] = [sum(map(int, n.split('.'))) for n in names]
    values['parameters'] = [nets[n]['params'] for n in names]
    values['multiply-accumulates'] = [nets[n]['macs'] for n in names]
    return {
        key: kendall_tau(value, [truth[n] for n in names])
        for key, value in values.items()
    }


def report(stored: dict) -> str:
    """Taus with the mean accuracy, and their spread over single seeds."""
    nets = stored['nets']
    trained = [set(net['accuracies']) for net in nets.values()]
    seeds = sorted(set.intersection(*trained)) if trained else []
    if not seeds:
        return 'No seed was trained for all students yet'
    together = taus(
        nets, {
            key: statistics.mean(net['accuracies'][s] for s in seeds)
            for key, net in nets.items()
        })
    single = [
        taus(nets, {
            key: net['accuracies'][s]
            for key, net in nets.items()
        }) for s in seeds
    ]
    rows = []
    for key, value in together.items():
        values = [found[key] for found in single]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        rows.append([
            key, f'{value:.3f}', f'{statistics.mean(values):.3f} ± '
            f'{spread:.3f}'
        ])
    title = (f"Kendall's tau of {len(nets)} students with their accuracy, "
             f'{EPOCHS} epochs')
    return format_table(
        title, ['measure', f'mean of {len(seeds)} seeds', 'single seeds'],
        rows).lstrip('\n')


def main() -> None:
    """Train what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[1, 2, 3])
    parser.add_argument(
        '--report', action='store_true', help='only print what there is')
    args = parser.parse_args()
    stored = json.loads(STORE.read_text()) if STORE.is_file() else dict(
        epochs=EPOCHS, cpu_seconds=0.0, nets={})
    if args.report:
        print(report(stored))
        return
    torch.set_num_threads(1)
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    cfg = read_config(str(CONFIG))
    settings = settings_of(cfg)
    evaluator = Evaluator(
        cfg,
        TASK_UTILS.build(dict(settings.space)),
        batch_size=settings.batch_size,
        data=settings.data,
        num_inits=settings.num_inits)
    # seeds outside, so that what is stopped has whole seeds
    for seed in map(str, args.seeds):
        for stages in STAGES:
            candidate = Candidate('Bottleneck', 8, stages)
            key = '.'.join(map(str, stages))
            start = time.process_time()
            if key not in stored['nets']:
                stored['nets'][key] = measure(evaluator, candidate)
            net = stored['nets'][key]
            if seed in net['accuracies']:
                continue
            net['accuracies'][seed] = train(evaluator, candidate, int(seed))
            stored['cpu_seconds'] += round(time.process_time() - start, 1)
            with replacing(STORE) as path:
                path.write_text(json.dumps(stored, indent=1) + '\n')
            print(
                f'{key}, seed {seed}: {net["accuracies"][seed]:.2f} % '
                f'({time.process_time() - start:.1f} s)',
                flush=True)
    print(report(stored))


if __name__ == '__main__':
    main()
