"""Time 1-bit products of matrices against those of bnn-lab.

    pip install --no-deps --target FOLDER bnn-lab==1.0.0
    python ops/benchmarks/bench_bnn_lab.py --rival FOLDER

bnn-lab packs signs into 64-bit words and counts mismatches with AVX2 or
AVX-512, on CPUs; it is no dependency of this project. A problem ``M x K x C``
is M rows of C signs times a matrix of K outputs. Two figures for each:

- layer: float32 in and out, packing and one scale per output included, by the
  packed linear layer of each;
- packed: packed rows in, dot products out.

All take turns in one process on one thread, whose CPU time counts; the ratio
is the median over the rounds of the ratio in one round. Both give the same
numbers, which is checked. The weight is packed before, and warm in the cache
if it fits. ``MMCOMPRESS_ISA=avx2 BNN_KERNEL=avx2`` holds both to AVX2.
"""
import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bench_binary  # noqa: E402

from mmcompress import ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402

VERSION = '1.0.0'
# rows, outputs, inputs: one row, few rows, and convolutions as matrices
PROBLEMS = [
    *((1, k, c) for c in (256, 784, 1024, 4096) for k in (256, 1024, 4096)),
    *((m, 1024, 1024) for m in (2, 3, 4)),
    (784, 256, 2304),
    (3136, 64, 576),
    (196, 512, 4608),
]


def import_rival(folder: Path | None):
    """What is timed of bnn-lab: its counting kernels and its layer.

    Args:
        folder (Path | None): Where it is installed, if not where Python looks.

    Raises:
        SystemExit: If it isn't there, cannot run or has another version; says
            what to do.
    """
    if folder is not None:
        sys.path.append(str(folder))
    try:
        import bnn
        from bnn.kernels import packed
        from bnn.wrap.packed_linear import PackedBinaryXNORLinear
    except ImportError as error:
        raise SystemExit(
            f'bnn-lab is not there ({error}). It is not a dependency; install '
            'it into a folder of its own and name that:\n  pip install '
            f'--no-deps --target FOLDER bnn-lab=={VERSION}\n  python '
            f'{sys.argv[0]} --rival FOLDER') from None
    if bnn.__version__ != VERSION:
        raise SystemExit(f'this is bnn-lab {bnn.__version__}, the comparison '
                         f'is with {VERSION}')
    if not packed.native_kernel_available():
        raise SystemExit('bnn-lab finds no compiled kernel on this machine: '
                         'its NumPy path says nothing about its speed')
    packed.set_num_threads(1)
    return packed, PackedBinaryXNORLinear


def make_parts(problem: tuple[int, int, int], packed,
               rival_layer: type) -> dict[str, Callable]:
    """What takes turns, by name.

    Args:
        problem (tuple[int, int, int]): Rows, outputs and inputs.
        packed (module): Kernels of bnn-lab.
        rival_layer (type): Its linear layer.

    Raises:
        RuntimeError: If the two differ in a number.
    """
    rows, outputs, inputs = problem
    shape = [outputs, inputs, 1, 1]
    x = torch.randn(rows, inputs)
    # no zeros: they are +1 for one of the two, -1 for the other
    weight = torch.randn(outputs, inputs).sign() + 0.5
    scale, shift = torch.rand(outputs), torch.zeros(outputs)
    blob = ops.binary_prepack(ops.binary_pack(weight.view(shape)), shape)
    bits = ops.binary_linear_pack(x)
    layer = rival_layer(weight, alpha=scale)
    x_words, _ = packed.pack_binary_pm1(x.numpy(), axis=1)
    weight_words, _ = packed.pack_binary_pm1(weight.numpy(), axis=1)
    parts = {
        'layer':
        lambda: ops.binary_linear_fused(x, blob, scale, shift, shape)[0],
        'rival layer':
        lambda: layer(x),
        'packed':
        lambda: ops.binary_linear(bits, blob, shape),
        'rival packed':
        lambda: packed.binary_gemm_native_prepacked(x_words, weight_words,
                                                    inputs),
    }
    for name in ('layer', 'packed'):
        ours, theirs = (
            torch.as_tensor(parts[n]()) for n in (name, f'rival {name}'))
        if not torch.equal(ours.float(), theirs):
            raise RuntimeError(f'{name} of {problem}: results differ')
    return parts


def measure(problem: tuple[int, int, int], rival: tuple, rounds: int) -> dict:
    """Time a problem.

    Returns:
        dict: The problem, median microseconds, GOP/s and ratios.
    """
    parts, calls = {}, {}
    for name, function in make_parts(problem, *rival).items():
        parts[name], calls[name] = bench_binary.repeated(
            function, time.thread_time)
    seconds = {
        name: [s / calls[name] for s in times]
        for name, times in timing.interleaved(
            parts, rounds, clock=time.thread_time).items()
    }
    rows, outputs, inputs = problem
    operations = 2 * rows * outputs * inputs
    result = dict(
        name='x'.join(map(str, problem)),
        microseconds={
            n: 1e6 * median(s)
            for n, s in seconds.items()
        },
        gops={
            n: operations / median(s) / 1e9
            for n, s in seconds.items()
        })
    for name in ('layer', 'packed'):
        result[f'{name}_ratios'] = sorted(
            a / b for a, b in zip(seconds[f'rival {name}'], seconds[name]))
    return result


def format_markdown(about: dict, results: list[dict]) -> str:
    """The results as a table."""
    lines = [
        f'# 1-bit products against bnn-lab {VERSION}, '
        f'{about["kernels"]} kernels', '',
        f'{about["machine"]}; {about["rounds"]} interleaved rounds, '
        f'{about["clock"]}; bnn-lab on its {about["rival"]} kernels. Written '
        'by `ops/benchmarks/bench_bnn_lab.py`, which says what is measured. '
        'Times are medians; ratios are medians with the smallest and the '
        'largest of the rounds: above 1 mmcompress is faster.', '',
        '| rows x outputs x inputs | layer us | bnn-lab | ratio | packed us '
        '| GOP/s | bnn-lab us | GOP/s | ratio |',
        '| :-- | --: | --: | --: | --: | --: | --: | --: | --: |'
    ]
    for result in results:
        times, gops = result['microseconds'], result['gops']
        lines.append('| ' + ' | '.join([
            result['name'], f'{times["layer"]:.1f}',
            f'{times["rival layer"]:.1f}',
            _ratio(result['layer_ratios']), f'{times["packed"]:.1f}',
            f'{gops["packed"]:.0f}', f'{times["rival packed"]:.1f}',
            f'{gops["rival packed"]:.0f}',
            _ratio(result['packed_ratios'])
        ]) + ' |')
    return '\n'.join(lines) + '\n'


def _ratio(ratios: list[float]) -> str:
    return f'**{median(ratios):.2f}** ({ratios[0]:.2f}-{ratios[-1]:.2f})'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--rival', type=Path, help='folder that bnn-lab is installed in')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument(
        '--out',
        type=Path,
        default=bench_binary.RESULTS,
        help='folder of the results')
    return parser.parse_args()


@torch.inference_mode()
def main() -> int:
    args = parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rival = import_rival(args.rival)
    results = []
    for problem in PROBLEMS:
        results.append(measure(problem, rival, args.rounds))
        print(
            f'{results[-1]["name"]:16} layer '
            f'{median(results[-1]["layer_ratios"]):5.2f} x, packed '
            f'{median(results[-1]["packed_ratios"]):5.2f} x',
            flush=True)
    about = dict(
        bench_binary.describe(1, args.rounds), rival=rival[0].kernel_name())
    text = format_markdown(about, results)
    print(text)
    path = bench_binary.save(
        args.out, 'bnn_lab', about, text, ending='_1t', problems=results)
    print(f'written to {path}.md and .json')
    return 0


if __name__ == '__main__':
    sys.exit(main())
