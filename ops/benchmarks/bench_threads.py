"""Is any 1-bit operator slower with two threads than with one?

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
from collections.abc import Callable
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
# threads that wait have gone to sleep by then
PAUSE = 0.02
CALLS = 20
# slower than one thread by more than timer and noise
TOLERANCE = 1.1


def operators() -> dict[str, Callable]:
    """Calls by name."""
    calls = {}
    for channels, size in MAPS:
        x = torch.randn(1, channels, size, size)
        shape = [channels, channels, 3, 3]
        bits = ops.binary_pack(x)
        blob = ops.binary_prepack(ops.binary_pack(torch.randn(shape)), shape)
        ones = torch.ones(channels)
        limit, flip = ones.int(), ones < 0
        name = f'{channels}x{size}x{size}'
        calls[f'pack {name}'] = partial(ops.binary_pack, x)
        calls[f'bits {name}'] = partial(ops.binary_conv2d_bits, bits, blob,
                                        limit, flip, shape, 1, 1)
        calls[f'fused {name}'] = partial(ops.binary_conv2d_fused, x, blob,
                                         ones, ones, shape, 1, 1)
    features = torch.randn(1, 256, 50,
                           64).contiguous(memory_format=torch.channels_last)
    for number in REGIONS:
        rois = torch.tensor([[0., 10, 10, 200, 150]] * number)
        calls[f'roi_align {number}'] = partial(ops.roi_align, features, rois,
                                               7, 1 / 16)
    x = torch.randn(200_000)
    calls['(ReLU of 200,000)'] = partial(torch.relu, x)
    return calls


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
    return parser.parse_args()


@torch.inference_mode()
def main() -> int:
    args = parse_args()
    torch.manual_seed(0)
    print(f'{timing.machine("cpu")}; {ops.build_info()["isa"]} kernels')
    print(f'{"":22}   in a row: 1    {args.threads} threads'
          f'    after a pause: 1    {args.threads} threads   (us)')
    slower = []
    for name, call in operators().items():
        cells = []
        for pause in (0, PAUSE):
            one, several = compare(call, args.threads, args.rounds, pause)
            is_slower = several > one * TOLERANCE
            if is_slower and not name.startswith('('):
                slower.append(name)
            cells.append(f'{1e6 * one:12.1f} {1e6 * several:12.1f} '
                         f'{"slower" if is_slower else "":6}')
        print(f'{name:22} {"    ".join(cells)}', flush=True)
    print(f'slower: {", ".join(slower) or "none"}')
    return bool(slower)


if __name__ == '__main__':
    sys.exit(main())
