"""Time 1-bit convolutions against PyTorch's float32 ones.

    python ops/benchmarks/bench_binary.py        # or: make bench

Layers of ResNet-18 at 224x224 and at 800x608 (a detector), batch 1, and
shapes where float32 wins. Two figures for each:

- packed: packed bits in, packed bits out (:func:`binary_conv2d_bits`);
- float: float32 NCHW in, float32 out, with packing, scale and shift
  (:func:`binary_conv2d_fused`).

The opponent is the fastest of PyTorch's layouts for the same shape. All take
turns in one process; the ratio is the median over the rounds of the ratio in
one round, as the clock drifts. On one thread the thread's CPU time counts.
Weights are arranged before, activations are packed within the time; inputs
are warm in the cache if they fit. Whole models: tools/analysis_tools/
benchmark.py.

``MMCOMPRESS_ISA`` chooses the kernels. PyTorch's instruction set is limited by
``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=
AVX2``: with both, a processor with AVX-512 stands in for one without.
"""
import argparse
import ctypes
import json
import math
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmcompress import __version__, ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402

RESULTS = Path(__file__).parent / 'results'
# at least this long is one measurement
SECONDS = 0.01
# packed 3x3 layers of 128 channels or more must be this much faster
FLOOR = 4.0


@dataclass(frozen=True)
class Layer:
    """A convolution with padding ``kernel // 2``, batch 1."""
    group: str
    channels: int
    outputs: int
    height: int
    width: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        text = (f'{self.kernel}x{self.kernel}, {self.channels} to '
                f'{self.outputs}, {self.height}x{self.width}')
        text += f', stride {self.stride}' if self.stride > 1 else ''
        return text + (f', {self.groups} groups' if self.groups > 1 else '')

    @property
    def weight_shape(self) -> list[int]:
        return [
            self.outputs, self.channels // self.groups, self.kernel,
            self.kernel
        ]

    @property
    def conv(self) -> dict:
        return dict(
            stride=self.stride, padding=self.kernel // 2, groups=self.groups)

    @property
    def products(self) -> int:
        """Multiply-accumulates of the float layer."""
        pixels = math.ceil(self.height / self.stride) * math.ceil(
            self.width / self.stride)
        return pixels * math.prod(self.weight_shape)


def resnet_layers() -> list[Layer]:
    """3x3 and 1x1 convolutions on the maps of ResNet-18."""
    layers = []
    for image, height, width in (('224x224', 56, 56), ('800x608', 152, 200)):
        for kernel in (3, 1):
            for stage in range(4):
                channels = 64 * 2**stage
                layers.append(
                    Layer(f'{image}, {kernel}x{kernel}', channels, channels,
                          math.ceil(height / 2**stage),
                          math.ceil(width / 2**stage), kernel))
        layers.append(Layer(f'{image}, 3x3', 64, 128, height, width, 3, 2))
    return layers


OTHER_LAYERS = [
    Layer('tokens', 384, 1536, 1, 197, 1),
    Layer('tokens', 1536, 384, 1, 197, 1),
    Layer('poor', 3, 64, 224, 224, 7, 2),
    Layer('poor', 128, 128, 28, 28, 3, 1, 128),
    Layer('poor', 128, 128, 28, 28, 3, 1, 32),
    Layer('poor', 16, 16, 56, 56),
    Layer('poor', 16, 16, 56, 56, 1),
    Layer('poor', 64, 4, 56, 56, 1),
]

_CLOCK = """
void chain(long steps) {
  unsigned long x = 0;
  for (long i = 0; i < steps; ++i) {
    x += 1;
    __asm__ volatile("" : "+r"(x));
  }
}
"""
_CLOCK_STEPS = 2_000_000


def make_clock() -> Callable[[], None] | None:
    """A chain of dependent additions: one per cycle on any processor.

    Returns:
        Callable | None: Takes ``_CLOCK_STEPS`` cycles; None without a C
        compiler.
    """
    compiler = shutil.which('cc') or shutil.which('gcc')
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, 'clock.c'), Path(folder, 'clock.so')
        source.write_text(_CLOCK)
        subprocess.run(
            [compiler, '-O1', '-shared', '-fPIC', source, '-o', library],
            check=True)
        chain = ctypes.CDLL(str(library)).chain
    chain.argtypes = [ctypes.c_long]
    return lambda: chain(_CLOCK_STEPS)


def make_parts(layer: Layer) -> dict[str, Callable]:
    """What takes turns, by name; names of opponents begin with fp32."""
    x = torch.randn(1, layer.channels, layer.height, layer.width)
    weight = torch.randn(layer.weight_shape)
    shape, conv = layer.weight_shape, layer.conv
    bits = ops.binary_pack(x)
    blob = ops.binary_prepack(ops.binary_pack(weight), shape, layer.groups)
    scale, shift = torch.rand(2, layer.outputs)
    limit = torch.zeros(layer.outputs, dtype=torch.int32)
    flip = torch.zeros(layer.outputs, dtype=torch.bool)
    x_last, weight_last = (
        t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    parts = {
        'packed':
        lambda: ops.binary_conv2d_bits(bits, blob, limit, flip, shape, **conv),
        'float':
        lambda: ops.binary_conv2d_fused(x, blob, scale, shift, shape, **conv),
        'fp32 NCHW':
        lambda: F.conv2d(x, weight, **conv),
        'fp32 channels-last':
        lambda: F.conv2d(x_last, weight_last, **conv),
    }
    if layer.kernel == layer.stride == layer.groups:
        pixels = x_last.permute(0, 2, 3, 1).flatten(0, 2)
        matrix = weight.flatten(1)
        parts['fp32 matrix'] = lambda: F.linear(pixels, matrix)
    return parts


def repeated(function: Callable, clock: Callable) -> tuple[Callable, int]:
    """The function, called so often that it takes ``SECONDS``."""
    function()
    start, calls = clock(), 0
    while clock() - start < SECONDS:
        function()
        calls += 1

    def many() -> None:
        for _ in range(calls):
            function()

    return many, calls


def measure(layer: Layer, rounds: int, clock: Callable,
            chain: Callable | None) -> dict:
    """Time a layer.

    Args:
        layer (Layer): What to time.
        rounds (int): Number of rounds.
        clock (Callable): Gives seconds.
        chain (Callable | None): What :func:`make_clock` gives.

    Returns:
        dict: The layer, medians and minima in milliseconds, ratios, GOP/s and
        products per cycle.
    """
    parts, calls = {}, {}
    for name, function in make_parts(layer).items():
        parts[name], calls[name] = repeated(function, clock)
    if chain is not None:
        parts['chain'], calls['chain'] = repeated(chain, clock)
    seconds = {
        name: [s / calls[name] for s in times]
        for name, times in timing.interleaved(parts, rounds,
                                              clock=clock).items()
    }
    result = dict(asdict(layer), name=layer.name, products=layer.products)
    if chain is not None:
        result['ghz'] = _CLOCK_STEPS / median(seconds.pop('chain')) / 1e9
    result['median_ms'] = {n: 1e3 * median(s) for n, s in seconds.items()}
    result['minimum_ms'] = {n: 1e3 * min(s) for n, s in seconds.items()}
    opponent = min((n for n in seconds if n.startswith('fp32')),
                   key=result['median_ms'].get)
    result['opponent'] = opponent
    for name in ('packed', 'float'):
        ratios = [a / b for a, b in zip(seconds[opponent], seconds[name])]
        result[f'{name}_ratio'] = median(ratios)
        result[f'{name}_ratio_range'] = [min(ratios), max(ratios)]
        speed = layer.products / median(seconds[name])
        result[f'{name}_gops'] = 2 * speed / 1e9
        if chain is not None:
            result[f'{name}_per_cycle'] = speed / result['ghz'] / 1e9
    return result


def describe(threads: int, rounds: int) -> dict:
    """The circumstances of a run."""
    return dict(
        machine=timing.machine('cpu'),
        kernels=ops.build_info()['isa'],
        fp32_limits=timing.float_limits(),
        threads=threads,
        rounds=rounds,
        clock='CPU time of the thread' if threads == 1 else 'wall time',
        versions=dict(
            mmcompress=__version__,
            torch=torch.__version__,
            python=platform.python_version()))


def format_markdown(about: dict, results: list[dict]) -> str:
    """The results as tables, one per group of layers."""
    limits = [f'{n}={value}' for n, value in about['fp32_limits'].items()]
    limits = f' PyTorch ran with {" ".join(limits)}.' if limits else ''
    lines = [
        f'# 1-bit convolutions, {about["kernels"]} kernels', '',
        f'{about["machine"]}; batch 1, '
        f'{about["rounds"]} interleaved rounds, {about["clock"]}. Written by '
        '`ops/benchmarks/bench_binary.py`, which says what is measured.' +
        limits, '',
        'Times are medians; ratios are to the fp32 layout named last, with '
        'the smallest and the largest of the rounds. GOP/s counts 2 '
        'operations per product of the float layer. Products per cycle do '
        'not depend on the clock. PyTorch is slow at 512 channels on '
        '7x7, less than half of its usual GOP/s: that ratio says less about '
        'the kernels than the others do.'
    ]
    for group in dict.fromkeys(r['group'] for r in results):
        title = 'where little or nothing is gained' \
            if group == 'poor' else group
        lines += [
            '', f'## {title}', '',
            '| layer | fp32 ms | packed ms | ratio | GOP/s | products/cycle '
            '| float ms | ratio | fastest fp32 |',
            '| :-- | --: | --: | --: | --: | --: | --: | --: | :-- |'
        ]
        lines += [_row(r) for r in results if r['group'] == group]
    return '\n'.join(lines) + '\n'


def _row(result: dict) -> str:
    times = result['median_ms']

    def ratio(name: str) -> str:
        digits = 1 if result[f'{name}_ratio'] >= 1 else 2
        low, middle, high = (f'{value:.{digits}f}' for value in sorted(
            [result[f'{name}_ratio'], *result[f'{name}_ratio_range']]))
        return f'**{middle}** ({low}-{high})'

    cells = [
        result['name'], f'{times[result["opponent"]]:.3f}',
        f'{times["packed"]:.3f}',
        ratio('packed'), f'{result["packed_gops"]:.0f}',
        f'{result["packed_per_cycle"]:.0f}' if 'ghz' in result else '-',
        f'{times["float"]:.3f}',
        ratio('float'), result['opponent'].removeprefix('fp32 ')
    ]
    return f'| {" | ".join(cells)} |'


def draw(about: dict, results: list[dict], path: Path) -> None:
    """Bars of both ratios by layer."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(
        figsize=(8, 0.32 * len(results) + 1.2), layout='constrained')
    rows = range(len(results))
    for offset, name, label in ((-0.2, 'packed', 'packed in and out'),
                                (0.2, 'float', 'float32 in and out')):
        axes.barh([y + offset for y in rows],
                  [r[f'{name}_ratio'] for r in results],
                  height=0.4,
                  label=label)
    axes.axvline(1, color='black', linewidth=0.8)
    axes.set_yticks(rows, [r['name'] for r in results], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel('times as fast as float32 convolution')
    axes.set_title(
        f'{about["kernels"]} kernels, {about["threads"]} threads; '
        f'{about["machine"].split(",")[0]}',
        fontsize=10)
    axes.legend(loc='lower right')
    figure.savefig(path, dpi=100)


def check(results: list[dict], again: Callable) -> list[str]:
    """Layers below ``FLOOR`` in two measurements.

    Args:
        results (list[dict]): From :func:`measure`.
        again (Callable): Measures a layer by its name once more.

    Returns:
        list[str]: A sentence for each.
    """
    problems = []
    for result in results:
        is_meant = (
            result['kernel'] == 3 and result['channels'] >= 128
            and result['groups'] == 1)
        if is_meant and result['packed_ratio'] < FLOOR:
            ratio = again(result['name'])['packed_ratio']
            if ratio < FLOOR:
                problems.append(f'{result["name"]}: {ratio:.1f} times fp32, '
                                f'less than {FLOOR}')
    return problems


def limited(about: dict) -> str:
    """What a file's name ends with if PyTorch's instructions were limited."""
    return '_limited_fp32' if about['fp32_limits'] else ''


def save(folder: Path,
         kind: str,
         about: dict,
         text: str,
         ending: str = '',
         **results: list[dict]) -> Path:
    """Write a table and its numbers.

    Args:
        folder (Path): Made if it isn't there.
        kind (str): What the files' names begin with.
        about (dict): The machine, see :func:`describe`.
        text (str): The table.
        ending (str): Of the files' names.
        **results (list[dict]): Numbers, by their key in the file.

    Returns:
        Path: Of both files, without a suffix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cpu = re.sub(r'\W+', '_', about['machine'].split(',')[0]).lower()
    path = folder / f'{kind}_{cpu}_{about["kernels"]}{ending}'
    path.with_suffix('.md').write_text(text)
    path.with_suffix('.json').write_text(
        json.dumps(dict(about, **results), indent=1) + '\n')
    return path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument(
        '--out', type=Path, default=RESULTS, help='folder of the results')
    parser.add_argument(
        '--check',
        action='store_true',
        help=f'fail if AVX2 or AVX-512 kernels are below {FLOOR} times fp32 '
        'twice')
    return parser.parse_args()


@torch.inference_mode()
def main() -> int:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = time.thread_time if args.threads == 1 else time.perf_counter
    chain = make_clock()
    layers = {x.name: x for x in (*resnet_layers(), *OTHER_LAYERS)}

    def measure_by_name(name: str) -> dict:
        return measure(layers[name], args.rounds, clock, chain)

    results = []
    for name in layers:
        results.append(measure_by_name(name))
        print(
            f'{name:40} packed {results[-1]["packed_ratio"]:5.1f} x, float '
            f'{results[-1]["float_ratio"]:5.1f} x',
            flush=True)
    about = describe(args.threads, args.rounds)
    print(format_markdown(about, results))
    path = save(
        args.out,
        'binary',
        about,
        format_markdown(about, results),
        ending=f'_{args.threads}t{limited(about)}',
        layers=results)
    draw(about, results, path.with_suffix('.png'))
    print(f'written to {path}.md, .json and .png')
    problems = []
    if args.check and about['kernels'] in ('avx2', 'avx512'):
        problems = check(results, measure_by_name)
    for problem in problems:
        print(problem, file=sys.stderr)
    return bool(problems)


if __name__ == '__main__':
    sys.exit(main())
