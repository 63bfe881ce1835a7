"""Time BiFormer's routed attention against eager PyTorch.

    python ops/benchmarks/bench_routed_attention.py      # or: make bench

The first three stages of BiFormer-T and S at 224x224 and 512x512, and at
800x1344 padded to 16 x 16 regions as a detector has them, batch 1. Queries,
keys and values are slices of one projection. Two figures for each:

- attention: the operator against its definition: gather keys and values,
  multiply, softmax, multiply;
- layer: `BiLevelRoutingAttention` with projections, means of regions and the
  depthwise convolution; the opponent is the same layer with the definition.

All take turns in one process; the ratio is the median over the rounds of the
ratio in one round. The thread's CPU time counts. Freed memory is kept, or
eager PyTorch would mostly wait for fresh pages.
"""
import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from unittest import mock

import torch

sys.path[:0] = [
    str(Path(__file__).resolve().parents[2]),
    str(Path(__file__).parent)
]

from bench_binary import RESULTS, describe, repeated, save  # noqa: E402

from mmcompress import ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402
from mmcompress.backbones import routing_attention as layers  # noqa: E402


@dataclass(frozen=True)
class Case:
    """An attention of BiFormer on a map."""
    image: str
    stage: int
    height: int
    width: int
    n_win: int

    @property
    def topk(self) -> int:
        return 4**(self.stage - 1)

    @property
    def channels(self) -> int:
        return 32 * 2**self.stage

    @property
    def name(self) -> str:
        return (f'{self.image}, stage {self.stage}: {self.height}x'
                f'{self.width}, {self.n_win}x{self.n_win} regions, topk '
                f'{self.topk}, {self.channels} channels')


# multiples of n_win
CASES = [
    Case(image, stage, *size, n_win)
    for image, n_win, sizes in (('224x224', 7, ((56, 56), (28, 28), (14, 14))),
                                ('512x512', 8, ((128, 128), (64, 64), (32,
                                                                       32))),
                                ('800x1344', 16, ((208, 336), (112, 176),
                                                  (64, 96))))
    for stage, size in enumerate(sizes, start=1)
]


def definition(q, k, v, routes, grid, num_heads, scale):
    """What the layer runs where there is no operator."""
    k, v = (
        layers.gather_regions(layers.split_regions(x, grid), routes)
        for x in (k, v))
    y, _ = layers.attend_regions(
        layers.split_regions(q, grid), k, v, num_heads, scale)
    return layers.join_regions(y, grid, q.shape[1:3])


def make_parts(case: Case) -> dict[str, Callable]:
    """What takes turns, by name."""
    heads, grid = case.channels // 32, (case.n_win, case.n_win)
    regions = case.n_win**2
    qkv = torch.randn(1, case.height, case.width, 3 * case.channels)
    routes = torch.rand(1, regions, regions).topk(case.topk).indices
    args = (*qkv.chunk(3, -1), routes, grid, heads, case.channels**-0.5)
    layer = layers.BiLevelRoutingAttention(case.channels, heads, case.n_win,
                                           case.topk)
    x = torch.randn(1, case.height, case.width, case.channels)

    def eager_layer() -> torch.Tensor:
        with mock.patch.object(layers, 'attend', definition):
            return layer(x)

    parts = {
        'attention': lambda: ops.routed_attention(*args),
        'eager attention': lambda: definition(*args),
        'layer': lambda: layer(x),
        'eager layer': eager_layer,
    }
    return {name: torch.no_grad()(part) for name, part in parts.items()}


def measure(case: Case, rounds: int, clock: Callable) -> dict:
    """The case, medians in microseconds and ratios with their range."""
    parts, calls = {}, {}
    for name, function in make_parts(case).items():
        parts[name], calls[name] = repeated(function, clock)
    seconds = {
        name: [s / calls[name] for s in times]
        for name, times in timing.interleaved(parts, rounds,
                                              clock=clock).items()
    }
    result = dict(asdict(case), name=case.name)
    result['median_us'] = {n: 1e6 * median(s) for n, s in seconds.items()}
    for name in ('attention', 'layer'):
        ratios = [
            a / b for a, b in zip(seconds[f'eager {name}'], seconds[name])
        ]
        result[f'{name}_ratio'] = median(ratios)
        result[f'{name}_ratio_range'] = [min(ratios), max(ratios)]
    return result


def _row(result: dict) -> str:
    times = result['median_us']

    def ratio(name: str) -> str:
        low, high = result[f'{name}_ratio_range']
        return f'**{result[f"{name}_ratio"]:.1f}** ({low:.1f}-{high:.1f})'

    cells = [result['name']]
    for name in ('attention', 'layer'):
        cells += [
            f'{times[name] / 1e3:.2f}', f'{times[f"eager {name}"] / 1e3:.2f}',
            ratio(name)
        ]
    return f'| {" | ".join(cells)} |'


def format_markdown(about: dict, results: list[dict]) -> str:
    """The results as a table."""
    return '\n'.join([
        f'# Routed attention, {about["kernels"]} kernels', '',
        f'{about["machine"]}; {about["rounds"]} interleaved rounds, '
        f'{about["clock"]}. Written by '
        '`ops/benchmarks/bench_routed_attention.py`, which says what is '
        'measured.', '', 'Times in milliseconds are medians. Ratios are to '
        'eager PyTorch, with the smallest and the largest of the rounds.', '',
        '| map | attention | eager | ratio | layer | eager | ratio |',
        '| :-- | --: | --: | --: | --: | --: | --: |', *map(_row, results)
    ]) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument(
        '--out', type=Path, default=RESULTS, help='folder of the results')
    args = parser.parse_args()
    timing.keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = [measure(case, args.rounds, time.thread_time) for case in CASES]
    about = describe(1, args.rounds)
    text = format_markdown(about, results)
    print(text)
    path = save(
        args.out, 'routed_attention', about, text, ending='_1t', cases=results)
    print(f'written to {path}.md and .json')


if __name__ == '__main__':
    main()
