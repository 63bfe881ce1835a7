"""Time LSQ's fake quantization against eager PyTorch.

    python ops/benchmarks/bench_fake_quantize.py      # or: make bench

A step is forward and backward as training runs them, the cost of autograd
included. There are two opponents:

- published: what codes of LSQ do, a formula whose rounding passes gradients,
  which autograd differentiates;
- definition: the operator's reference, whose gradient is written by hand.

Freed memory is kept for the next tensor, or the system's work for fresh pages
would be most of what is measured. One elementwise pass, ``2 * x``, says how
fast the memory is: a step must read and write what 2.5 of them do. All take
turns in one process; the ratio is the median over the rounds of the ratio in
one round. The thread's CPU time counts.
"""
import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

sys.path[:0] = [
    str(Path(__file__).resolve().parents[2]),
    str(Path(__file__).parent)
]

from bench_binary import RESULTS, describe, repeated, save  # noqa: E402

from mmcompress import ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402


@dataclass(frozen=True)
class Case:
    """Values, the dimension of their scales, and whether there is a beta."""
    name: str
    shape: tuple[int, ...]
    axis: int | None = None
    offset: bool = False


CASES = [
    Case('200,000 values', (200_000, )),
    Case('600,000 values', (600_000, )),
    Case('600,000 values, beta', (600_000, ), None, True),
    Case('linear weight', (1536, 384), 0),
    Case('3x3 weight', (256, 256, 3, 3), 0),
    Case('depthwise weight', (512, 1, 3, 3), 0),
    Case('heads of a map', (4, 6, 197, 197), 1),
    Case('channels of tokens', (8, 197, 384), 2),
]

OPPONENTS = ('definition', 'published')


class Definition(torch.autograd.Function):
    """The reference, with its gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, *args) -> Tensor:
        ctx.save_for_backward(x, *args[:3])
        ctx.rest = args[3:]
        return ops.reference.lsq_fake_quantize(x, *args)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple:
        dx, d_scale, d_beta, _ = ops.reference.lsq_fake_quantize_backward(
            dy, *ctx.saved_tensors, *ctx.rest)
        return (dx, d_scale, d_beta if ctx.needs_input_grad[2] else None,
                *[None] * 6)


def published(inputs: list[Tensor], axis: int | None, low: int, high: int,
              factor: float) -> Tensor:
    """The formula, for autograd."""
    x, *parameters = inputs
    shape = [1] * x.dim()
    shape[0 if axis is None else axis] = -1
    scale, *beta = (
        p * factor + (p - p * factor).detach()
        for p in (p.view(shape) for p in parameters))
    u = (x - beta[0] if beta else x) / scale
    u = u.clamp(low, high)
    y = (u + (u.round() - u).detach()) * scale
    return y + beta[0] if beta else y


def make_parts(case: Case) -> dict[str, Callable]:
    """What takes turns, by name."""
    num = 1 if case.axis is None else case.shape[case.axis]
    x, dy = torch.randn(2, *case.shape)
    inputs = [x.requires_grad_(), torch.full((num, ), 0.3).requires_grad_()]
    if case.offset:
        inputs.append(torch.zeros(num).requires_grad_())
    given = *inputs, *[None] * (4 - len(inputs))
    options = dict(axis=case.axis, low=-8, high=7, factor=0.01)

    def ours() -> Tensor:
        return ops.lsq_fake_quantize(*given, **options)

    def definition() -> Tensor:
        return Definition.apply(*given, *options.values(), 'clip')

    def stepped(function: Callable) -> Callable:
        return lambda: torch.autograd.grad(function(), inputs, dy)

    return {
        'pass': torch.no_grad()(lambda: 2 * x),
        'forward': torch.no_grad()(ours),
        'step': stepped(ours),
        'definition': stepped(definition),
        'published': stepped(lambda: published(inputs, **options)),
    }


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
    result = dict(asdict(case), values=math.prod(case.shape))
    result['median_us'] = {n: 1e6 * median(s) for n, s in seconds.items()}
    for name in OPPONENTS:
        ratios = [a / b for a, b in zip(seconds[name], seconds['step'])]
        result[f'{name}_ratio'] = median(ratios)
        result[f'{name}_ratio_range'] = [min(ratios), max(ratios)]
    return result


def _row(result: dict) -> str:
    times = result['median_us']

    def ratio(name: str) -> str:
        low, high = result[f'{name}_ratio_range']
        return f'**{result[f"{name}_ratio"]:.1f}** ({low:.1f}-{high:.1f})'

    cells = [
        f'{result["name"]}, {"x".join(map(str, result["shape"]))}',
        *(f'{time:.0f}' for time in times.values()), *map(ratio, OPPONENTS)
    ]
    return f'| {" | ".join(cells)} |'


def format_markdown(about: dict, results: list[dict]) -> str:
    """The results as a table."""
    return '\n'.join([
        f'# Fake quantization, {about["kernels"]} kernels', '',
        f'{about["machine"]}; {about["rounds"]} interleaved rounds, '
        f'{about["clock"]}. Written by `ops/benchmarks/bench_fake_quantize.py`'
        ', which says what is measured.', '',
        'Times in microseconds are medians; a step is forward and backward. '
        'Ratios are to the step of the opponent, with the smallest and the '
        'largest of the rounds.', '',
        '| values | one pass | forward | step | definition | published '
        '| definition, ratio | published, ratio |',
        '| :-- | --: | --: | --: | --: | --: | --: | --: |',
        *map(_row, results)
    ]) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=15)
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
        args.out, 'fake_quantize', about, text, ending='_1t', cases=results)
    print(f'written to {path}.md and .json')


if __name__ == '__main__':
    main()
