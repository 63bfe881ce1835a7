"""Time the matching and merging of tokens against eager PyTorch.

    python ops/benchmarks/bench_match_merge.py      # or: make bench

The operator against its reference, which is what layers run without kernels:
keys are a view of a projection of queries, keys and values, tokens have a
mass. Freed memory is kept for the next tensor, or the system's work for fresh
pages would be most of what is measured. Both take turns in one process; the
ratio is the median over the rounds of the ratio in one round. On one thread
the thread's CPU time counts.

A second table has whole models of mmpretrain with random weights, whose
layers merge by the operator and by the reference, against those that merge
nothing.
"""
import argparse
import copy
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
import torch.nn as nn

sys.path[:0] = [
    str(Path(__file__).resolve().parents[2]),
    str(Path(__file__).parent)
]

import bench_binary  # noqa: E402
from bench_binary import describe, save  # noqa: E402

from mmcompress import ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402
from mmcompress.ops import library  # noqa: E402


@dataclass(frozen=True)
class Case:
    """Tokens of DeiT, ``r`` of which leave."""
    tokens: int
    batch: int
    r: int
    heads: int = 6
    dims: int = 64

    @property
    def name(self) -> str:
        return (f'{self.tokens} tokens, batch {self.batch}, {self.heads} '
                f'heads, r={self.r}')


CASES = [
    Case(65, 1, 8),
    Case(197, 1, 13, 3),
    Case(197, 1, 13),
    Case(197, 8, 13),
    Case(197, 1, 13, 12),
    Case(785, 1, 52),
    Case(785, 8, 52),
    Case(1025, 1, 64),
]


@dataclass(frozen=True)
class Model:
    """A vision transformer of mmpretrain, r tokens leave each layer."""
    arch: str
    batch: int
    r: int
    size: int = 224

    @property
    def name(self) -> str:
        return (f'{self.arch}, {self.size}x{self.size}, batch {self.batch}, '
                f'r={self.r}')


MODELS = [
    Model('deit-tiny', 1, 13),
    Model('deit-tiny', 8, 13),
    Model('deit-small', 1, 13),
    Model('deit-small', 8, 13),
    Model('deit-small', 1, 52, 448),
]


def make_parts(case: Case) -> dict[str, Callable]:
    """What takes turns, by name."""
    channels = case.heads * case.dims
    qkv = torch.randn(case.batch, case.tokens, 3 * channels)
    keys = qkv.unflatten(-1, (3, case.heads, case.dims))[:, :, 1]
    x = torch.randn(case.batch, case.tokens, channels)
    mass = torch.randint(1, 5, (case.batch, case.tokens, 1)).float()
    args = keys.transpose(1, 2), x, mass, case.r, [0]
    return dict(
        operator=lambda: ops.match_merge(*args),
        reference=lambda: library.reference.match_merge(*args))


def make_models(case: Model) -> dict[str, Callable]:
    """The same for a model."""
    from mmpretrain.models import VisionTransformer

    from mmcompress.tokens import MergeTokens
    dense = VisionTransformer(case.arch, case.size, patch_size=16)
    dense.eval()
    merging = nn.ModuleDict(dict(backbone=copy.deepcopy(dense)))
    MergeTokens(case.r)(merging)
    x = torch.randn(case.batch, 3, case.size, case.size)

    def by_reference() -> None:
        with patch('mmcompress.tokens.layers.match_merge',
                   library.reference.match_merge):
            merging['backbone'](x)

    return dict(
        dense=lambda: dense(x),
        operator=lambda: merging['backbone'](x),
        reference=by_reference)


def measure(case: Case | Model, parts: dict[str, Callable], of: str,
            rounds: int, clock: Callable) -> dict:
    """The case, medians in milliseconds and ratios with their range.

    Args:
        case (Case | Model): What to time.
        parts (dict[str, Callable]): What takes turns.
        of (str): The part that ratios are of.
        rounds (int): Number of rounds.
        clock (Callable): Gives seconds.
    """
    many, calls = {}, {}
    for name, function in parts.items():
        many[name], calls[name] = bench_binary.repeated(function, clock)
    seconds = {
        name: [s / calls[name] for s in times]
        for name, times in timing.interleaved(many, rounds,
                                              clock=clock).items()
    }
    result = dict(asdict(case), name=case.name)
    result['median_ms'] = {n: 1e3 * median(s) for n, s in seconds.items()}
    for name in parts:
        if name != of:
            ratios = [a / b for a, b in zip(seconds[of], seconds[name])]
            result[f'{name}_ratio'] = median(ratios)
            result[f'{name}_ratio_range'] = [min(ratios), max(ratios)]
    return result


def _row(result: dict, *ratios: str) -> str:
    cells = [result['name']]
    cells += [f'{ms:.3f}' for ms in result['median_ms'].values()]
    for name in ratios:
        low, high = result[f'{name}_ratio_range']
        cells.append(f'**{result[f"{name}_ratio"]:.2f}** ({low:.2f}-'
                     f'{high:.2f})')
    return f'| {" | ".join(cells)} |'


def format_markdown(about: dict, results: list[dict],
                    models: list[dict]) -> str:
    """The results as two tables."""
    lines = [
        f'# Merging tokens, {about["kernels"]} kernels', '',
        f'{about["machine"]}; {about["rounds"]} interleaved rounds, '
        f'{about["clock"]}. Written by `ops/benchmarks/bench_match_merge.py`, '
        'which says what is measured.', '',
        'Times in milliseconds are medians; ratios have the smallest and the '
        'largest of the rounds.', '', '| tokens | operator | reference '
        '| times as fast |', '| :-- | --: | --: | --: |',
        *(_row(r, 'operator') for r in results)
    ]
    if models:
        lines += [
            '', '| model | dense | operator | reference | operator, times as '
            'fast as dense | reference |',
            '| :-- | --: | --: | --: | --: | --: |',
            *(_row(r, 'operator', 'reference') for r in models)
        ]
    return '\n'.join(lines) + '\n'


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument(
        '--no-models', action='store_true', help='time the operator only')
    parser.add_argument(
        '--out',
        type=Path,
        default=bench_binary.RESULTS,
        help='folder of the results')
    args = parser.parse_args()
    logging.disable(logging.INFO)
    timing.keep_freed_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = time.thread_time if args.threads == 1 else time.perf_counter
    results = [
        measure(case, make_parts(case), 'reference', args.rounds, clock)
        for case in CASES
    ]
    models = [
        measure(case, make_models(case), 'dense', args.rounds, clock)
        for case in ([] if args.no_models else MODELS)
    ]
    about = describe(args.threads, args.rounds)
    text = format_markdown(about, results, models)
    print(text)
    ending = f'_{args.threads}t{bench_binary.limited(about)}'
    path = save(
        args.out,
        'match_merge',
        about,
        text,
        ending=ending,
        cases=results,
        models=models)
    print(f'written to {path}.md and .json')


if __name__ == '__main__':
    main()
