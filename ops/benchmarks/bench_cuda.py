"""Time the low-bit operators on a GPU against cuDNN's float convolutions.

    python ops/benchmarks/bench_cuda.py [--rounds 15] [--json FILE]

The integer convolutions are also held against ``torch._int_mm``, which gets
the windows as a matrix that is made beforehand: its time is that of the
product alone, without scales.

Every figure is per call, from graphs that are replayed for at least 10 ms, all
contestants of a layer taking turns; the table shows medians over the rounds,
and the ratio to float16. Inputs rotate, so that they don't stay in the L2
cache. The card's clocks are left as they are. Nothing but torch is needed.
"""
import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcompress import ops

MIN_MILLISECONDS = 10
CHANNELS_LAST = dict(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Layer:
    """A convolution with ``padding = kernel // 2``."""
    name: str
    batch: int
    channels: int
    height: int
    width: int
    num: int
    kernel: int = 3

    @property
    def operations(self) -> int:
        """Two per multiply-accumulate of the dense layer."""
        pixels = self.batch * self.height * self.width
        return 2 * pixels * self.num * self.channels * self.kernel**2


LAYERS = [
    Layer('resnet18 layer1', 64, 64, 56, 56, 64),
    Layer('resnet18 layer2', 64, 128, 28, 28, 128),
    Layer('resnet18 layer3', 64, 256, 14, 14, 256),
    Layer('resnet18 layer4', 64, 512, 7, 7, 512),
    Layer('detector stride 4', 4, 64, 200, 304, 64),
    Layer('detector stride 8', 4, 128, 100, 152, 128),
    Layer('detector stride 16', 4, 256, 50, 76, 256),
    Layer('neck stride 8', 4, 256, 100, 152, 256),
    Layer('pointwise', 64, 256, 28, 28, 256, 1),
    Layer('one image', 1, 256, 14, 14, 256),
]


def rotating(make: Callable[[], Tensor]) -> list[Tensor]:
    """Several inputs, together larger than the L2 cache; at most 16."""
    first = make()
    l2 = torch.cuda.get_device_properties(first.device).L2_cache_size
    num = min(16, 1 + 2 * l2 // (first.numel() * first.element_size()))
    return [first] + [make() for _ in range(num - 1)]


def contestants(layer: Layer) -> Iterator[tuple[str, Callable, list[Tensor]]]:
    """Yield names, functions of one input, and the inputs."""
    num, channels, kernel = layer.num, layer.channels, layer.kernel
    image = (layer.batch, channels, layer.height, layer.width)
    shape = [num, channels, kernel, kernel]
    weight = torch.randn(shape, device='cuda')
    conv = dict(padding=kernel // 2)

    def floats(dtype: torch.dtype) -> Tensor:
        x = torch.randn(image, device='cuda', dtype=dtype)
        return x.contiguous(**CHANNELS_LAST)

    for dtype in (torch.float32, torch.float16):
        dense = weight.to(dtype).contiguous(**CHANNELS_LAST)
        run = partial(lambda w, x: F.conv2d(x, w, **conv), dense)
        yield str(dtype)[6:], run, rotating(partial(floats, dtype))

    yield from binary_contestants(layer, weight, floats)
    yield from integer_contestants(layer, weight, floats)


def binary_contestants(
        layer: Layer, weight: Tensor,
        floats: Callable) -> Iterator[tuple[str, Callable, list[Tensor]]]:
    num, shape = layer.num, list(weight.shape)
    conv = dict(padding=layer.kernel // 2)
    blob = ops.binary_prepack(ops.binary_pack(weight), shape)
    vector, flip = weight[:, 0, 0, 0], torch.zeros_like(weight[:, 0, 0, 0]) > 0
    limit = torch.zeros(num, dtype=torch.int32, device='cuda')
    maps = rotating(partial(floats, torch.float32))
    packed = rotating(lambda: ops.binary_pack(floats(torch.float32)))
    yield 'pack', ops.binary_pack, maps
    yield 'bits to bits', lambda x: ops.binary_conv2d_bits(
        x, blob, limit, flip, shape, **conv), packed
    yield 'bits to float', lambda x: ops.binary_conv2d_fused(
        x, blob, vector, vector, shape, **conv), packed
    yield 'float to float', lambda x: ops.binary_conv2d_fused(
        x, blob, vector, vector, shape, **conv), maps


def integer_contestants(
        layer: Layer, weight: Tensor,
        floats: Callable) -> Iterator[tuple[str, Callable, list[Tensor]]]:
    shape, grid = list(weight.shape), [128, 0, 255]
    one = torch.full((1, ), 0.02, device='cuda')
    vector = weight[:, 0, 0, 0].abs() / 100
    conv = dict(padding=[layer.kernel // 2] * 2)

    def quantize(x: Tensor) -> Tensor:
        return ops.quantize_codes(x, one, grid, channels_last=True)

    def prepack(bits: int) -> Tensor:
        limit = 2**(bits - 1)
        weight = torch.randint(-limit, limit, shape, device='cuda')
        return ops.integer_prepack(
            ops.store_codes(weight, bits), shape, bits=bits)

    def to_codes(x: Tensor, blob: Tensor, bits: int) -> Tensor:
        return ops.integer_conv2d_codes(
            x, blob, one, vector, one, shape, grid, grid, bits=bits, **conv)

    def to_floats(x: Tensor, blob: Tensor) -> Tensor:
        return ops.integer_conv2d(x, blob, one, vector, shape, grid, **conv)[0]

    maps = rotating(partial(floats, torch.float32))
    codes = rotating(lambda: quantize(floats(torch.float32)))
    yield 'quantize', quantize, maps
    for bits in (8, 4, 2):
        run = partial(to_codes, blob=prepack(bits), bits=bits)
        yield f'codes to codes, w{bits}', run, codes
    yield 'float to float, w8', partial(to_floats, blob=prepack(8)), maps

    pixels = layer.batch * layer.height * layer.width
    window = layer.channels * layer.kernel**2
    matrix = torch.randint(
        -128, 128, (window, layer.num), device='cuda', dtype=torch.int8)
    windows = rotating(lambda: torch.randint(
        -128, 128, (pixels, window), device='cuda', dtype=torch.int8))
    yield 'torch._int_mm', lambda x: torch._int_mm(x, matrix), windows


class Replay:
    """A graph that calls a function on every input in turn."""

    def __init__(self, function: Callable, inputs: list[Tensor]) -> None:
        self.num_calls = len(inputs)
        for x in inputs[:2]:  # cuDNN's search, lazy loading of modules
            function(x)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            for x in inputs:
                function(x)
        self.num_replays = 1
        while self._milliseconds() < MIN_MILLISECONDS:
            self.num_replays *= 2

    def _milliseconds(self) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(self.num_replays):
            self.graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def microseconds(self) -> float:
        """Time of one call."""
        calls = self.num_replays * self.num_calls
        return 1000 * self._milliseconds() / calls


def measure(functions: dict[str, tuple], rounds: int) -> dict[str, list]:
    """Microseconds of every round, contestants taking turns."""
    replays = {name: Replay(*each) for name, each in functions.items()}
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, replay in replays.items():
            times[name].append(replay.microseconds())
    return times


def copy_bandwidth(rounds: int) -> float:
    """Bytes read and written per second by a large copy."""
    source = torch.randn(2**28, device='cuda')
    target = torch.empty_like(source)
    times = measure({'copy': (target.copy_, [source])}, rounds)['copy']
    return 2 * source.numel() * 4 / (median(times) * 1e-6)


def report(layer: Layer, times: dict[str, list]) -> None:
    print(f'\n{layer.name}: {layer.batch} x {layer.channels} x '
          f'{layer.height} x {layer.width} -> {layer.num}, kernel '
          f'{layer.kernel}')
    half = median(times['float16'])
    for name, rounds in times.items():
        middle = median(rounds)
        print(f'  {name:<20}{middle:10.1f} us (min {min(rounds):8.1f}) '
              f'{layer.operations / middle / 1e6:8.1f} TOPS'
              f'{half / middle:8.2f} x float16')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--json', type=Path, help='write all rounds here')
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}')
    copy = copy_bandwidth(args.rounds)
    print(f'copy: {copy / 1e9:.0f} GB/s read and written')
    results = dict(copy_bytes_per_second=copy, layers={})
    for layer in LAYERS:
        functions = {name: each for name, *each in contestants(layer)}
        times = measure(functions, args.rounds)
        report(layer, times)
        results['layers'][layer.name] = times
        read = functions['pack'][1][0].numel() * 4
        for name in ('pack', 'quantize'):
            share = read / (median(times[name]) * 1e-6) / copy
            print(
                f'  {name}: reads at {100 * share:.0f} % of the copy\'s rate')
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == '__main__':
    main()
