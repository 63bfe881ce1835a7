"""Time a vision transformer pruned, merged, quantized, and all at once.

    python ops/benchmarks/bench_combined.py

DeiT-S at 224x224 with random weights: half of the channels of each head and
of the hidden units, 13 tokens fewer behind each layer, weights and activations
of 8 bits, packed. All take turns in one process; the ratio is the median over
the rounds of the ratio in one round. The thread's CPU time counts.
"""
import argparse
import sys
import time
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench_binary import RESULTS, save  # noqa: E402
from bench_tokens import build as build_float  # noqa: E402

from mmcompress import __version__, ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402
from mmcompress.deploy import pack  # noqa: E402
from mmcompress.quantization import QuantizeLayers  # noqa: E402

# what is done: share of units that are left, tokens fewer, 8 bits
VARIANTS = {
    'dense': (1., 0, False),
    'pruned': (.5, 0, False),
    'merged': (1., 13, False),
    'W8A8': (1., 0, True),
    'pruned and merged': (.5, 13, False),
    'merged, W8A8': (1., 13, True),
    'pruned, merged, W8A8': (.5, 13, True)
}


def build(kept: float,
          r: int,
          is_quantized: bool,
          arch: str | dict = 'deit-small',
          side: int = 224) -> torch.nn.Module:
    """A backbone, packed if it is quantized."""
    model = build_float(arch, side, r, kept)
    if is_quantized:
        int8 = dict(type='LSQ', bits=8)
        QuantizeLayers(weight=int8, activation=int8)(model)
        # scales begin with the first training step
        model.train()
        model(torch.randn(2, 3, side, side))
        model = pack(model)[1]
        model.eval()
    return model


@torch.no_grad()
def measure(models: dict[str, torch.nn.Module], x: torch.Tensor,
            rounds: int) -> list[dict]:
    """Time the variants of a model on one batch.

    Returns:
        list[dict]: Of each its name, milliseconds, and the ratio to the dense
        model with its interval.
    """
    calls = {name: partial(model, x) for name, model in models.items()}
    seconds = timing.interleaved(calls, rounds, clock=time.thread_time)
    return [
        dict(variant=name, batch=len(x), **found)
        for name, found in timing.against(seconds, 'dense').items()
    ]


def as_markdown(cases: list[dict], about: dict) -> str:
    """A row for each variant and batch."""
    lines = [
        f'{about["machine"]}, kernels: {about["kernels"]}, CPU time, '
        f'{about["rounds"]} rounds\n',
        '| DeiT-S, 224x224 | batch | ms | x dense [95 %] |',
        '| :-- | --: | --: | --: |'
    ]
    for case in cases:
        low, high = case['interval']
        lines.append(f'| {case["variant"]} | {case["batch"]} | '
                     f'{case["ms"]:.1f} | {case["ratio"]:.2f} '
                     f'[{low:.2f}, {high:.2f}] |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 8])
    parser.add_argument('--out', type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    timing.keep_freed_memory()
    models = {name: build(*what) for name, what in VARIANTS.items()}
    cases = []
    for batch in args.batches:
        x = torch.randn(batch, 3, 224, 224)
        cases += measure(models, x, args.rounds)
    about = dict(
        machine=timing.machine('cpu'),
        kernels=ops.build_info().get('isa'),
        rounds=args.rounds,
        mmcompress=__version__)
    text = as_markdown(cases, about)
    print(text)
    path = save(args.out, 'combined', about, text, '_1t', cases=cases)
    print(f'written to {path}.md and .json')


if __name__ == '__main__':
    main()
