"""Time vision transformers with all tokens and with merged ones, and pruned.

    python ops/benchmarks/bench_tokens.py

DeiT at 224x224 with random weights, 13 tokens fewer behind each layer: by the
operator :func:`match_merge`, and in PyTorch alone (eager); in some cases with
half of the channels of each head and of the hidden units. All take turns in
one process; the ratio is the median over the rounds of the ratio in one round.
The thread's CPU time counts. ``MMCOMPRESS_ISA`` chooses our kernels.
"""
import argparse
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from unittest import mock

import torch
from mmengine.registry import MODELS, DefaultScope

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench_binary import RESULTS, save  # noqa: E402

import mmcompress.compat  # noqa: E402, F401
from mmcompress import __version__, ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402
from mmcompress.pruning import KeepUnits, find_units  # noqa: E402
from mmcompress.tokens import MergeTokens, Merging  # noqa: E402

# architecture, r, batch, side of the image, share of units that are left
CASES = [('deit-small', 13, 8, 224, 1.), ('deit-small', 13, 1, 224, 1.),
         ('deit-tiny', 13, 8, 224, 1.), ('deit-tiny', 13, 1, 224, 1.),
         ('deit-small', (13, -1), 8, 224, 1.), ('deit-small', 52, 1, 448, 1.),
         ('deit-small', 13, 8, 224, .5), ('deit-small', 13, 1, 224, .5)]


def build(arch: str,
          side: int,
          r: int | tuple = 0,
          kept: float = 1.) -> torch.nn.Module:
    """A backbone whose layers lose ``r`` tokens each, and some units."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(type='VisionTransformer', arch=arch, img_size=side))
    model.init_weights()
    if kept < 1:
        KeepUnits({g.name: int(kept * g.num)
                   for g in find_units(model)})(
                       model)
    if r:
        MergeTokens(r)(model)
    model.eval()
    return model


def eager(model: torch.nn.Module, x: torch.Tensor) -> None:
    """Run a model whose layers match and merge in PyTorch."""
    with mock.patch.object(Merging, 'is_fused', False):
        model(x)


@torch.no_grad()
def measure(arch: str, r: int | tuple, batch: int, side: int, kept: float,
            rounds: int) -> dict:
    """Time one case.

    Returns:
        dict: What it is, milliseconds and ratios to the dense model.
    """
    x = torch.randn(batch, 3, side, side)
    merged = build(arch, side, r, kept)
    calls = dict(
        dense=partial(build(arch, side), x),
        eager=partial(eager, merged, x),
        fused=partial(merged, x))
    seconds = timing.interleaved(calls, rounds, clock=time.thread_time)
    case = dict(model=arch, side=side, r=str(r), batch=batch, kept=kept)
    for name, values in seconds.items():
        case[f'{name}_ms'] = 1e3 * median(values)
        ratios = [a / b for a, b in zip(seconds['dense'], values)]
        case[name] = median(ratios)
        case[f'{name}_interval'] = timing.median_interval(ratios)
    return case


def as_markdown(cases: list[dict], about: dict) -> str:
    """A row for each case."""
    lines = [
        f'{about["machine"]}, kernels: {about["kernels"]}, CPU time, '
        f'{about["rounds"]} rounds\n',
        '| model | image | r | units | batch | dense ms | eager ms | x [95 %] '
        '| fused ms | x [95 %] |', f'| :-- |{" --: |" * 9}'
    ]
    for case in cases:
        cells = [case['model'], case['side'], case['r']]
        cells += [f'{case["kept"]:.0%}', case['batch']]
        cells.append(f'{case["dense_ms"]:.1f}')
        for name in ('eager', 'fused'):
            low, high = case[f'{name}_interval']
            cells += [
                f'{case[f"{name}_ms"]:.1f}',
                f'{case[name]:.2f} [{low:.2f}, {high:.2f}]'
            ]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--cases', type=int, nargs='+', help='numbers from 0')
    parser.add_argument('--out', type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    timing.keep_freed_memory()
    cases = [
        measure(*CASES[i], args.rounds)
        for i in args.cases or range(len(CASES))
    ]
    about = dict(
        machine=timing.machine('cpu'),
        kernels=ops.build_info().get('isa'),
        rounds=args.rounds,
        mmcompress=__version__)
    text = as_markdown(cases, about)
    print(text)
    path = save(args.out, 'tokens', about, text, '_1t', cases=cases)
    print(f'written to {path}.md and .json')


if __name__ == '__main__':
    main()
