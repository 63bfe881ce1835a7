"""Is any operator slower with two threads than with one?

    python ops/benchmarks/bench_threads.py        # on an idle machine

Operators on maps from tiny to large, with one thread and with ``--threads``
in turns, wall time, medians over the rounds. Twice: one call after the other,
while the threads wait for work, and after a pause in which they fall asleep.
On a machine that others use no thread comes when it is needed, whoever calls
it: a row of PyTorch's ReLU, which this project does not decide about, shows
how idle the machine was.
"""
import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmcompress import ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402

MAPS = [(64, 7), (64, 14), (256, 7), (64, 28), (128, 14), (128, 28), (256, 14),
        (512, 7), (64, 56), (256, 28), (64, 152)]
REGIONS = [1, 2, 4, 8, 16, 64]
# tokens and features
TOKENS = [(49, 192), (197, 192), (197, 384), (197, 768), (788, 768)]
# inputs and outputs of linear layers with one row
ROWS = [(512, 512), (1024, 1024), (2048, 1000), (2048, 2048), (4096, 4096)]
# of fake quantization, and the dimension of the scales
VALUES = [((64, 64, 3, 3), 0), ((256, 128, 3, 3), 0), ((512, 1, 3, 3), 0),
          ((100_000, ), None), ((600_000, ), None), ((8, 197, 384), 2)]
STEP = torch.tensor([0.02])
GRID = [0, 0, 255]
# threads that wait have gone to sleep by then
PAUSE = 0.02
CALLS = 20
# slower than one thread by more than timer and noise
TOLERANCE = 1.1


def convolutions_of_bits(channels: int, size: int) -> dict[str, Callable]:
    x = torch.randn(1, channels, size, size)
    shape = [channels, channels, 3, 3]
    bits = ops.binary_pack(x)
    blob = ops.binary_prepack(ops.binary_pack(torch.randn(shape)), shape)
    ones = torch.ones(channels)
    limit, flip = ones.int(), ones < 0
    return {
        'pack':
        partial(ops.binary_pack, x),
        'bits':
        partial(ops.binary_conv2d_bits, bits, blob, limit, flip, shape, 1, 1),
        'fused':
        partial(ops.binary_conv2d_fused, x, blob, ones, ones, shape, 1, 1)
    }


def prepack(shape: list[int], groups: int = 1, bits: int = 8) -> torch.Tensor:
    largest = 2**(bits - 1) - 1
    weight = torch.randint(-largest, largest + 1, shape)
    return ops.integer_prepack(
        ops.store_codes(weight, bits),
        shape,
        groups=groups,
        bits=bits,
        high=GRID[2])


def convolutions_of_codes(channels: int, size: int) -> dict[str, Callable]:
    x = torch.randn(1, channels, size, size)
    codes = ops.quantize_codes(x, STEP, GRID, True)
    scale = torch.ones(channels)
    calls = {
        'quantize': partial(ops.quantize_codes, x, STEP, GRID, True),
        'max_pool': partial(ops.max_pool_codes, codes, [3, 3], [2, 2], [1, 1])
    }
    for name, kernel, groups in (('3x3', 3, 1), ('1x1', 1, 1), ('depthwise', 3,
                                                                channels)):
        shape = [channels, channels // groups, kernel, kernel]
        calls[name] = partial(
            ops.integer_conv2d_codes,
            codes,
            prepack(shape, groups),
            STEP,
            scale,
            STEP,
            shape,
            GRID,
            GRID,
            padding=[kernel // 2] * 2,
            groups=groups)
    return calls


def layers_of_tokens(tokens: int, features: int) -> dict[str, Callable]:
    x, ones = torch.randn(tokens, features), torch.ones(features)
    shape = [features, features, 1, 1]
    linear = partial(ops.integer_linear, x, prepack(shape), STEP, ones, shape,
                     GRID)
    norm = partial(ops.layer_norm_codes, x, ones, ones, 1e-5, STEP, GRID)
    return {
        'quantize': partial(ops.quantize_codes, x, STEP, GRID),
        'layer_norm': norm,
        'linear': linear
    }


def layers_of_one_row(channels: int, outputs: int) -> dict[str, Callable]:
    x = torch.randint(0, 256, (1, channels), dtype=torch.uint8)
    shape = [outputs, channels, 1, 1]
    return {
        f'row of {bits} bits':
        partial(
            ops.integer_linear,
            x,
            prepack(shape, bits=bits),
            STEP,
            torch.ones(outputs),
            shape,
            GRID,
            bits=bits)
        for bits in (2, 4, 8)
    }


def fake_quantizations(shape: tuple[int, ...],
                       axis: int | None) -> dict[str, Callable]:
    x = torch.randn(shape)
    scale = torch.full((1 if axis is None else shape[axis], ), 0.1)
    args = scale, None, None, axis, -128, 127, 1.0, 'clip'
    run = torch.ops.mmcompress
    return {
        'fake_quantize': partial(run.lsq_fake_quantize, x, *args),
        'backward': partial(run.lsq_fake_quantize_backward, x, x, *args)
    }


def regions(number: int) -> dict[str, Callable]:
    features = torch.randn(1, 256, 50,
                           64).contiguous(memory_format=torch.channels_last)
    rois = torch.tensor([[0., 10, 10, 200, 150]] * number)
    return {'roi_align': partial(ops.roi_align, features, rois, 7, 1 / 16)}


def operators() -> Iterator[tuple[str, Callable]]:
    """Names and calls."""
    for channels, size in MAPS:
        name = f'{channels}x{size}x{size}'
        for kind, call in convolutions_of_bits(channels, size).items():
            yield f'{kind} {name}', call
        for kind, call in convolutions_of_codes(channels, size).items():
            yield f'{kind} {name}', call
    for make, cases in ((layers_of_tokens, TOKENS), (layers_of_one_row, ROWS),
                        (fake_quantizations, VALUES), (regions, [
                            (number, ) for number in REGIONS
                        ])):
        for case in cases:
            for kind, call in make(*case).items():
                yield f'{kind} {case}', call
    yield '(ReLU of 200,000)', partial(torch.relu, torch.randn(200_000))


def seconds_of(call: Callable, pause: float) -> float:
    """Of one call after a pause; without one, the mean of calls in a row."""
    end = time.perf_counter() + pause
    while time.perf_counter() < end:
        pass
    times = 1 if pause else CALLS
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def compare(call: Callable, threads: int, rounds: int,
            pause: float) -> tuple[float, float]:
    """Median seconds with one thread and with several."""
    seconds = {1: [], threads: []}
    for _ in range(rounds):
        for number, times in seconds.items():
            torch.set_num_threads(number)
            call()
            times.append(seconds_of(call, pause))
    return median(seconds[1]), median(seconds[threads])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--only', default='', help='part of the names')
    return parser.parse_args()


@torch.inference_mode()
def main() -> int:
    args = parse_args()
    torch.manual_seed(0)
    print(f'{timing.machine("cpu")}; {ops.build_info()["isa"]} kernels')
    print(f'{"":34}   in a row: 1    {args.threads} threads'
          f'    after a pause: 1    {args.threads} threads   (us)')
    slower = []
    for name, call in operators():
        if args.only not in name:
            continue
        cells = []
        for pause in (0, PAUSE):
            one, several = compare(call, args.threads, args.rounds, pause)
            is_slower = several > one * TOLERANCE
            if is_slower and not name.startswith('('):
                slower.append(name)
            cells.append(f'{1e6 * one:12.1f} {1e6 * several:12.1f} '
                         f'{"slower" if is_slower else "":6}')
        print(f'{name:34} {"    ".join(cells)}', flush=True)
    print(f'slower: {", ".join(slower) or "none"}')
    return bool(slower)


if __name__ == '__main__':
    sys.exit(main())
