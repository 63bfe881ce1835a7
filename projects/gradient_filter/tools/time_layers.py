"""Time and memory of the backward pass of single 3x3 convolutions.

Writes results/layers.json. The sides take turns in one process; each number
is a median, its ratio the median of the ratios of the rounds.
"""
import argparse
import copy
import time
from functools import partial
from statistics import median

import torch
import torch.nn as nn
from gradient_filter.layer import filter_gradient
from memory import saved_bytes
from record import write

from mmcompress.analysis.timing import (interleaved, keep_freed_memory,
                                        machine, median_interval)

# channels, height, width: layers of ResNets, and one of segmentation
CASES = [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 14, 14),
         (256, 60, 80)]
PATCHES = (2, 4)
# of one thread, on a machine where others compute
CLOCK = time.process_time


def _sides(channels: int) -> dict[str, nn.Conv2d]:
    exact = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    sides = {'exact': exact}
    for patch in PATCHES:
        sides[f'r{patch}'] = copy.deepcopy(exact)
        filter_gradient(sides[f'r{patch}'], patch)
    return sides


def measure(case: tuple[int, int, int], batch: int, rounds: int) -> dict:
    """Seconds and bytes of a case, by side.

    Args:
        case (tuple[int, int, int]): Channels, height, width.
        batch (int): Images.
        rounds (int): Measurements of each side.
    """
    x = torch.randn(batch, *case, requires_grad=True)
    grad = torch.randn(batch, *case)
    sides = _sides(case[0])
    outputs = {name: conv(x) for name, conv in sides.items()}
    backward = interleaved(
        {
            name:
            partial(
                torch.autograd.grad,
                outputs[name], [x, conv.weight],
                grad,
                retain_graph=True)
            for name, conv in sides.items()
        },
        rounds,
        clock=CLOCK)
    forward = interleaved(
        {
            name: partial(conv, x)
            for name, conv in sides.items()
        },
        rounds,
        clock=CLOCK)
    result = dict(case=case, batch=batch, rounds=rounds, sides={})
    for name, conv in sides.items():
        ratios = [e / s for e, s in zip(backward['exact'], backward[name])]
        result['sides'][name] = dict(
            backward_ms=1e3 * median(backward[name]),
            backward_speed_up=median(ratios),
            speed_up_interval=median_interval(ratios),
            forward_ms=1e3 * median(forward[name]),
            saved_bytes=saved_bytes(partial(conv, x), conv))
    return result


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=11)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    cases = []
    for case in CASES:
        cases.append(measure(case, args.batch, args.rounds))
        print(cases[-1], flush=True)
    write('layers', dict(machine=machine('cpu'), cases=cases))


if __name__ == '__main__':
    main()
