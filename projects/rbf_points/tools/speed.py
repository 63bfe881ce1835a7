"""Time the networks side by side, on one thread, with random weights."""
import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from robustness import NETWORKS, ROOT, costs

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.latency import clock_of
from mmcompress.analysis.timing import (interleaved, keep_freed_memory,
                                        machine, median_interval)
from mmcompress.atomic import replacing
from mmcompress.model.inputs import noise_batch
from mmcompress.results.versions import versions

# what the others are divided by
REFERENCE = 'rbf_gaussian_m200'


def build(name: str) -> tuple[Config, torch.nn.Module]:
    """A config and its model, with random weights."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}_mini.py')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(
            dict(cfg.model, data_preprocessor=cfg.model.data_preprocessor))
    return cfg, model


@torch.no_grad()
def infer(model: torch.nn.Module, batch: dict) -> None:
    """Class scores of a batch."""
    model(**batch, mode='tensor')


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer,
          batch: dict) -> None:
    """A training step."""
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def parts(kind: str, num: int) -> dict[str, Callable[[], None]]:
    """What to time, by network.

    Args:
        kind (str): ``'train'`` or ``'infer'``.
        num (int): Clouds in a batch.
    """
    found = {}
    for name in NETWORKS:
        torch.manual_seed(0)
        cfg, model = build(name)
        batch = noise_batch(cfg, model, num=num)
        # noise of the size of normalised clouds
        batch['inputs'] /= batch['inputs'].norm(dim=1).amax(-1)[:, None, None]
        if kind == 'train':
            optimizer = torch.optim.Adam(model.train().parameters())
            found[name] = partial(train, model, optimizer, batch)
        else:
            found[name] = partial(infer, model.eval(), batch)
    return found


def measure(kind: str, num: int, rounds: int) -> dict:
    """Medians, and ratios to the reference with their 95 % intervals."""
    seconds = interleaved(parts(kind, num), rounds, clock=clock_of('cpu'))
    table = {}
    for name, values in seconds.items():
        ratios = [v / r for v, r in zip(values, seconds[REFERENCE])]
        table[name] = dict(
            milliseconds=round(1e3 * statistics.median(values), 4),
            ratio=round(statistics.median(ratios), 3),
            interval=[round(x, 3) for x in median_interval(ratios)])
    return table


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', type=Path, default=ROOT / 'results' / 'speed.json')
    parser.add_argument('--rounds', type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    content = dict(
        machine=machine('cpu'),
        clock='CPU time of the thread',
        rounds=args.rounds,
        reference=REFERENCE,
        costs={name: costs(*build(name))
               for name in NETWORKS},
        tables={
            'training step, 32 clouds': measure('train', 32, args.rounds),
            'inference, 1 cloud': measure('infer', 1, args.rounds),
            'inference, 64 clouds': measure('infer', 64, args.rounds),
        },
        versions=versions())
    with replacing(args.out) as path:
        path.write_text(json.dumps(content, indent=1) + '\n')
    for title, table in content['tables'].items():
        print(title)
        for name, row in table.items():
            print(f'  {name:30}{row["milliseconds"]:9.3f} ms  {row["ratio"]}'
                  f' {row["interval"]}')


if __name__ == '__main__':
    main()
