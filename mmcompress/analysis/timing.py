"""Time several things against each other on a machine that drifts."""
import ctypes
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

# what limits the instructions of torch's kernels
_FLOAT_LIMITS = ('ONEDNN_MAX_CPU_ISA', 'ATEN_CPU_CAPABILITY',
                 'MKL_ENABLE_INSTRUCTIONS')


def median_interval(values: list[float]) -> tuple[float, float]:
    """95 % confidence interval of the median, from order statistics.

    The number of values below the median is binomial, whatever their
    distribution; the interval is between the k-th smallest and the k-th
    largest value, with the largest k that covers 95 %.

    Args:
        values (list[float]): At least 6; fewer cannot cover it.
    """
    n = len(values)
    k, tail, term = 0, 0.0, 0.5**n
    while tail + term <= 0.025:
        tail += term
        k += 1
        term *= (n - k + 1) / k
    if k == 0:
        raise ValueError(f'{n} rounds are too few for a 95 % interval')
    ordered = sorted(values)
    return ordered[k - 1], ordered[n - k]


def keep_freed_memory() -> None:
    """Let glibc neither map nor give back the memory of each large tensor.

    Otherwise the first touch of fresh pages, which virtual machines pay dear
    for, takes longer than many an operator that writes them.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, its largest value


def interleaved(parts: dict[str, Callable[[], None]],
                rounds: int,
                warm_up: int = 2,
                clock: Callable[[], float] = time.perf_counter) -> dict:
    """Seconds that each part takes, in rounds of one call each.

    The order rotates from round to round: what runs first after another part
    finds another state of the caches.

    Args:
        parts (dict[str, Callable]): What to time, by name.
        rounds (int): How many measurements of each.
        warm_up (int): Rounds before that.
        clock (Callable): Gives seconds; waits for the device first.

    Returns:
        dict[str, list[float]]: By name, one entry per round.
    """
    seconds = {name: [] for name in parts}
    names = list(parts)
    for i in range(warm_up + rounds):
        for name in names:
            start = clock()
            parts[name]()
            if i >= warm_up:
                seconds[name].append(clock() - start)
        names = names[1:] + names[:1]
    return seconds


def against(seconds: dict[str, list[float]], base: str) -> dict[str, dict]:
    """How fast each part is, and how many times as fast as another one.

    Args:
        seconds (dict[str, list[float]]): Of :func:`interleaved`.
        base (str): The part that others are compared with.

    Returns:
        dict[str, dict]: By name: ``ms``, the median in milliseconds;
        ``ratio``, the median over the rounds of the ratio in one round; and
        its 95 % ``interval``.
    """
    found = {}
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(seconds[base], values)]
        found[name] = dict(
            ms=1e3 * median(values),
            ratio=median(ratios),
            interval=median_interval(ratios))
    return found


def device_clock(device: str,
                 clock: Callable[[], float] = time.perf_counter) -> Callable:
    """A clock that waits for what was started on a device.

    Args:
        device (str): As for torch.
        clock (Callable): Gives seconds.
    """
    if torch.device(device).type == 'cpu':
        return clock

    def synchronized() -> float:
        torch.cuda.synchronize(device)
        return clock()

    return synchronized


def num_threads() -> str:
    """How many threads torch uses, in words."""
    num = torch.get_num_threads()
    return f'{num} thread{"s" * (num != 1)}'


def machine(device: str) -> str:
    """What it was measured on, in a line."""
    name = platform.processor()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        names = [
            line.partition(':')[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith('model name')
        ]
        name = names[0] if names else name
    text = (f'{name or platform.machine()}, {os.cpu_count()} cores, '
            f'{num_threads()}, torch {torch.__version__}')
    if device != 'cpu':
        text += f', {torch.cuda.get_device_name(device)}'
    return text


def float_limits() -> dict[str, str]:
    """Environment variables that keep torch from a processor's fastest path.

    With them and ``MMCOMPRESS_ISA``, a processor stands in for an older one.
    """
    return {
        name: os.environ[name]
        for name in _FLOAT_LIMITS if name in os.environ
    }
