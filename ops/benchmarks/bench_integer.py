"""Time integer convolutions and matrix products against float32 and oneDNN.

    python ops/benchmarks/bench_integer.py

Layers of ResNet-50 at 224x224 and 480x640, of DeiT-S, and the first linear
layer of Faster R-CNN's RoI head. Parts, of weights and activations:

- W8A8, W4A8, W4A4, W2A8 (ternary): codes in; codes out of convolutions
  (:func:`integer_conv2d_codes`, with ReLU), float32 out of matrix products
  (:func:`integer_linear`);
- float: W8A8, float32 in and out;
- oneDNN: ``torch.ops.onednn.qconv2d_pointwise`` and ``qlinear_pointwise``,
  codes in, and out as ours. Without VNNI its results are wrong;
- fp32: the fastest of PyTorch's layouts, the opponent of the ratios.

All take turns in one process; the ratio is the median over the rounds of the
ratio in one round, as the clock drifts. On one thread the thread's CPU time
counts. Weights are arranged before. Products per cycle do not depend on the
clock: two 512-bit instructions of VNNI in a cycle would make 128, two of AVX2
64, and 32 where they take 16-bit numbers (W8A8).

``MMCOMPRESS_ISA`` chooses the kernels; see bench_binary.py for how PyTorch is
limited to an instruction set.
"""
import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bench_binary  # noqa: E402
from bench_binary import RESULTS, Layer, describe, repeated  # noqa: E402

from mmcompress import ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402

# bits of a weight, largest weight and largest code
FORMATS = {
    'W8A8': (8, 127, 255),
    'W4A8': (4, 7, 255),
    'W4A4': (4, 7, 15),
    'W2A8': (2, 1, 255)
}
STEP = torch.tensor([0.02])
HAS_ONEDNN = hasattr(torch.ops.onednn, 'qconv2d_pointwise')


@dataclass(frozen=True)
class Product:
    """A matrix product: a linear layer of so many rows."""
    group: str
    rows: int
    channels: int
    outputs: int

    @property
    def name(self) -> str:
        return f'{self.rows} rows, {self.channels} to {self.outputs}'

    @property
    def products(self) -> int:
        return self.rows * self.channels * self.outputs


def resnet_layers(height: int, width: int) -> list[Layer]:
    """One of each kind of ResNet-50."""
    group = f'ResNet-50 at {height}x{width}'
    layers = [Layer(group, 3, 64, height, width, 7, 2)]
    for stage in range(4):
        inner, outer = 64 * 2**stage, 256 * 2**stage
        size = height // 2**(stage + 2), width // 2**(stage + 2)
        layers += [
            Layer(group, outer, inner, *size, 1),
            Layer(group, inner, inner, *size, 3),
            Layer(group, inner, outer, *size, 1)
        ]
        if stage:
            before = size[0] * 2, size[1] * 2
            layers += [
                Layer(group, inner, inner, *before, 3, 2),
                Layer(group, outer // 2, outer, *before, 1, 2)
            ]
    return layers


def products() -> list[Product]:
    return [
        Product('matrix products', 784, 2304, 256),
        Product('matrix products', 196, 4608, 512),
        Product('matrix products', 197, 384, 1536),
        Product('matrix products', 197, 1536, 384),
        Product('matrix products', 1000, 12544, 1024)
    ]


def draw_weight(shape: list[int], largest: int) -> torch.Tensor:
    """Integers as training leaves them: few are large."""
    weight = torch.randn(shape) * largest / 3
    return weight.round().clamp(-largest, largest)


def make_product(layer: Product) -> dict[str, Callable]:
    """What takes turns, by name."""
    run = torch.ops.mmcompress.integer_linear
    x = torch.randn(layer.rows, layer.channels)
    shape = [layer.outputs, layer.channels, 1, 1]
    scale, bias = torch.rand(2, layer.outputs)
    real = torch.randn(shape[:2])
    parts = {'fp32': lambda: F.linear(x, real, bias)}
    for name, (bits, largest, high) in FORMATS.items():
        weight = draw_weight(shape, largest)
        codes = torch.randint(0, high + 1, x.shape, dtype=torch.uint8)
        blob = ops.integer_prepack(
            ops.store_codes(weight, bits), shape, bits=bits, high=high)
        args = blob, STEP, scale, bias, shape, bits
        parts[name] = lambda codes=codes, args=args, high=high: run(
            codes, *args, [0, 0, high])
        if name != 'W8A8':
            continue
        parts['float'] = lambda args=args: run(x, *args, [128, 0, 255])
        if not HAS_ONEDNN:
            continue
        packed = torch.ops.onednn.qlinear_prepack(
            weight.flatten(1).to(torch.int8), list(x.shape))
        zeros = torch.zeros(layer.outputs, dtype=torch.int32)
        parts['oneDNN'] = lambda codes=codes, packed=packed: (
            torch.ops.onednn.qlinear_pointwise(codes, STEP.item(
            ), 0, packed, scale, zeros, bias, 1.0, 0, torch.float32, 'none', [
            ], ''))
    return parts


def make_convolution(layer: Layer) -> dict[str, Callable]:
    """What takes turns, by name."""
    run = torch.ops.mmcompress
    last = torch.channels_last
    x = torch.randn(1, layer.channels, layer.height, layer.width)
    shape, conv = layer.weight_shape, layer.conv
    scale, bias = torch.rand(2, layer.outputs)
    pairs = [[layer.stride] * 2, [layer.kernel // 2] * 2, [1, 1]]
    real, x_last = torch.randn(shape), x.contiguous(memory_format=last)
    real_last = real.contiguous(memory_format=last)
    parts = {
        'fp32 NCHW': lambda: F.conv2d(x, real, bias, **conv),
        'fp32 channels-last': lambda: F.conv2d(x_last, real_last, bias, **conv)
    }
    for name, (bits, largest, high) in FORMATS.items():
        weight = draw_weight(shape, largest)
        codes = torch.randint(0, high + 1, x.shape, dtype=torch.uint8)
        codes = codes.contiguous(memory_format=last)
        blob = ops.integer_prepack(
            ops.store_codes(weight, bits), shape, 1, bits, high)
        head = blob, STEP, scale, bias
        tail = shape, *pairs, 1, bits
        parts[name] = lambda codes=codes, head=head, tail=tail, high=high: (
            run.integer_conv2d_codes(codes, *head, STEP, *tail, [0, 0, high],
                                     'relu', [0, 0, 255]))
        if name != 'W8A8':
            continue
        parts['float'] = lambda head=head, tail=tail: run.integer_conv2d(
            x_last, *head, None, None, *tail, [128, 0, 255])
        if not HAS_ONEDNN:
            continue
        packed = torch.ops.onednn.qconv_prepack(
            weight.to(torch.int8), scale, STEP.item(), 0, *pairs, 1,
            list(x.shape))
        zeros = torch.zeros(layer.outputs, dtype=torch.int64)
        parts['oneDNN'] = lambda codes=codes, packed=packed: (
            torch.ops.onednn.qconv2d_pointwise(
                codes, STEP.item(), 0, packed, scale, zeros, bias, *pairs, 1,
                STEP.item(), 0, torch.uint8, 'relu', [], ''))
    return parts


def make_parts(layer: Layer | Product) -> dict[str, Callable]:
    is_product = isinstance(layer, Product)
    return (make_product if is_product else make_convolution)(layer)


def measure(layer: Layer | Product, rounds: int, clock: Callable,
            chain: Callable | None) -> dict:
    """Time a layer.

    Args:
        layer (Layer | Product): What to time.
        rounds (int): Number of rounds.
        clock (Callable): Gives seconds.
        chain (Callable | None): What :func:`bench_binary.make_clock` gives.

    Returns:
        dict: The layer, medians in milliseconds, and of each part GOP/s,
        products per cycle and the ratio to float32 with its range.
    """
    functions = make_parts(layer)
    if chain is not None:
        functions['chain'] = chain
    parts, calls = {}, {}
    for name, function in functions.items():
        parts[name], calls[name] = repeated(function, clock)
    seconds = {
        name: [s / calls[name] for s in times]
        for name, times in timing.interleaved(parts, rounds,
                                              clock=clock).items()
    }
    result = dict(asdict(layer), name=layer.name, products=layer.products)
    if chain is not None:
        steps = bench_binary._CLOCK_STEPS
        result['ghz'] = steps / median(seconds.pop('chain')) / 1e9
    result['median_ms'] = {n: 1e3 * median(s) for n, s in seconds.items()}
    opponent = min((n for n in seconds if n.startswith('fp32')),
                   key=result['median_ms'].get)
    result['opponent'] = opponent
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(seconds[opponent], times)]
        speed = layer.products / median(times) / 1e9
        result[name] = dict(
            gops=2 * speed,
            ratio=median(ratios),
            ratio_range=[min(ratios), max(ratios)],
            per_cycle=speed / result['ghz'] if 'ghz' in result else None)
    return result


def format_markdown(about: dict, results: list[dict]) -> str:
    """The results as tables, one per group of layers."""
    limits = [f'{n}={value}' for n, value in about['fp32_limits'].items()]
    limits = f' PyTorch ran with {" ".join(limits)}.' if limits else ''
    names = ['oneDNN'] * HAS_ONEDNN + [*FORMATS, 'float']
    lines = [
        f'# Integer layers, {about["kernels"]} kernels', '',
        f'{about["machine"]}; batch 1, {about["rounds"]} interleaved rounds, '
        f'{about["clock"]}. Written by `ops/benchmarks/bench_integer.py`, '
        f'which says what is measured.{limits}', '',
        'GOP/s, products per cycle, and how many times as fast as float32, '
        'with the smallest and the largest of the rounds.'
    ]
    for group in dict.fromkeys(r['group'] for r in results):
        lines += [
            '', f'## {group}', '',
            f'| layer | fp32 GOP/s | {" | ".join(names)} |',
            f'| :-- | --: |{" --: |" * len(names)}'
        ]
        for result in results:
            if result['group'] == group:
                cells = [_cell(result[name]) for name in names]
                fp32 = result[result['opponent']]['gops']
                lines.append(f'| {result["name"]} | {fp32:.0f} | '
                             f'{" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _cell(part: dict) -> str:
    low, high = part['ratio_range']
    speed = f'{part["gops"]:.0f}'
    if part['per_cycle']:
        speed += f', {part["per_cycle"]:.0f}/c'
    return f'{speed}, **{part["ratio"]:.1f}** ({low:.1f}-{high:.1f})'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument(
        '--out', type=Path, default=RESULTS, help='folder of the results')
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = time.thread_time if args.threads == 1 else time.perf_counter
    chain = bench_binary.make_clock()
    results = []
    for layer in (*products(), *resnet_layers(224, 224),
                  *resnet_layers(480, 640)):
        results.append(measure(layer, args.rounds, clock, chain))
        speeds = ', '.join(f'{name} {results[-1][name]["ratio"]:.1f} x'
                           for name in FORMATS)
        print(f'{layer.name:40} {speeds}', flush=True)
    about = describe(args.threads, args.rounds)
    print(format_markdown(about, results))
    path = bench_binary.save(
        args.out,
        'integer',
        about,
        format_markdown(about, results),
        ending=f'_{args.threads}t{bench_binary.limited(about)}',
        layers=results)
    print(f'written to {path}.md and .json')


if __name__ == '__main__':
    main()
