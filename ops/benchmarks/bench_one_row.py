"""Time integer linear layers of one row against other engines.

    python ops/benchmarks/bench_one_row.py

One row (a classifier's head, a decoder's token) reads every weight once, so
memory decides: GB/s is set beside how fast this machine reads as many bytes
over and over, from whichever cache holds them. All have float32 in and out:

- ours: :func:`integer_linear`, weights of 2 (ternary), 4 and 8 bits;
- fp32: PyTorch;
- oneDNN: :func:`quantize_codes` and ``torch.ops.onednn.qlinear_pointwise``;
- onnxruntime: QuantizeLinear and MatMulIntegerToFloat, its best for int8,
  with outputs bound beforehand. It is not a dependency: ``pip install
  onnxruntime onnx``, or have ``PYTHONPATH`` name a folder that has them.

All take turns in one process; the ratio is the median over the rounds of the
ratio in one round. The thread's CPU time counts. ``MMCOMPRESS_ISA`` chooses
our kernels; onnxruntime takes what the processor has.
"""
import argparse
import ctypes
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench_binary import RESULTS, repeated, save  # noqa: E402

from mmcompress import __version__, ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402

# inputs and outputs; the last is the first layer of a RoI head
SHAPES = [(1024, 1024), (1024, 4096), (4096, 1024), (4096, 4096),
          (12544, 1024)]
STEP, GRID = torch.tensor([0.05]), [128, 0, 255]

_READER = """
typedef unsigned long Vector __attribute__((vector_size(64)));
unsigned long read_all(const Vector* p, long vectors) {
  Vector sums[8] = {};
  for (long i = 0; i < vectors; i += 8)
    for (int j = 0; j < 8; ++j) sums[j] |= p[i + j];
  for (int j = 1; j < 8; ++j) sums[0] |= sums[j];
  return sums[0][0];
}
"""


def make_reader() -> Callable[[int], Callable] | None:
    """What reads a number of bytes, as fast as one thread can.

    Returns:
        Callable | None: Makes such a function; None without a C compiler.
    """
    compiler = shutil.which('cc') or shutil.which('gcc')
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, 'read.c'), Path(folder, 'read.so')
        source.write_text(_READER)
        subprocess.run([
            compiler, '-O3', '-march=native', '-shared', '-fPIC', source, '-o',
            library
        ],
                       check=True)
        read_all = ctypes.CDLL(str(library)).read_all
    read_all.argtypes = [ctypes.c_void_p, ctypes.c_long]

    def of_size(size: int) -> Callable:
        memory = torch.ones(size // 8, dtype=torch.int64)
        return lambda: read_all(memory.data_ptr(), memory.numel() // 8)

    return of_size


def make_onnxruntime(x: torch.Tensor, weight: torch.Tensor,
                     scale: torch.Tensor,
                     bias: torch.Tensor) -> Callable | None:
    """The layer in onnxruntime, on one thread; None where it isn't there."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    codes = weight.T.contiguous().to(torch.int8)
    constants = dict(
        step=STEP[0],
        zero=torch.tensor(GRID[0], dtype=torch.uint8),
        weight=codes,
        scale=scale,
        zeros=torch.zeros(len(scale), dtype=torch.int8),
        bias=bias.view(1, 1, -1))
    nodes = [
        helper.make_node('QuantizeLinear', ['x', 'step', 'zero'], ['q']),
        helper.make_node('DequantizeLinear', ['q', 'step', 'zero'], ['xq']),
        helper.make_node(
            'DequantizeLinear', ['weight', 'scale', 'zeros'], ['wq'], axis=1),
        helper.make_node('MatMul', ['xq', 'wq'], ['product']),
        helper.make_node('Add', ['product', 'bias'], ['y'])
    ]
    shape = TensorProto.FLOAT, [1, 1, None]
    graph = helper.make_graph(
        nodes, 'layer', [helper.make_tensor_value_info('x', *shape)],
        [helper.make_tensor_value_info('y', *shape)],
        [numpy_helper.from_array(t.numpy(), n) for n, t in constants.items()])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    binding = session.io_binding()
    binding.bind_cpu_input('x', x.view(1, 1, -1).numpy())
    binding.bind_output('y', 'cpu')
    session.run_with_iobinding(binding)
    found = torch.from_numpy(binding.copy_outputs_to_cpu()[0]).flatten()
    codes = ops.quantize_codes(x, STEP, GRID).double() - GRID[0]
    wanted = codes @ weight.double().T * STEP * scale + bias
    if (found - wanted).abs().max() > 1e-4 * wanted.abs().max():
        print(f'onnxruntime is wrong at {tuple(weight.shape)}, by up to '
              f'{(found - wanted).abs().max():.3g}')
    return lambda: session.run_with_iobinding(binding)


def make_onednn(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor,
                bias: torch.Tensor) -> Callable | None:
    """The layer in oneDNN; None in a PyTorch without it."""
    if not hasattr(torch.ops.onednn, 'qlinear_pointwise'):
        return None
    packed = torch.ops.onednn.qlinear_prepack(
        weight.to(torch.int8), list(x.shape))
    zeros = torch.zeros(len(scale), dtype=torch.int32)

    def run() -> None:
        codes = ops.quantize_codes(x, STEP, GRID)
        torch.ops.onednn.qlinear_pointwise(codes, 0.05, GRID[0], packed, scale,
                                           zeros, bias, 1.0, 0, torch.float32,
                                           'none', [], '')

    return run


def make_parts(channels: int, outputs: int) -> dict[str, Callable]:
    """What takes turns, by name."""
    x = torch.randn(1, channels)
    scale, bias = torch.rand(2, outputs)
    shape = [outputs, channels, 1, 1]
    parts = {}
    for bits, lowest in ((2, -1), (4, -8), (8, -127)):
        weight = torch.randint(lowest, 2**(bits - 1), (outputs, channels))
        blob = ops.integer_prepack(
            ops.store_codes(weight, bits), shape, bits=bits)
        parts[f'{bits} bits'] = lambda blob=blob, bits=bits: (
            torch.ops.mmcompress.integer_linear(x, blob, STEP, scale, bias,
                                                shape, bits, GRID))
    real = weight.float()
    parts['fp32'] = lambda: F.linear(x, real, bias)
    parts['oneDNN'] = make_onednn(x, weight, scale, bias)
    parts['onnxruntime'] = make_onnxruntime(x, weight, scale, bias)
    return {n: f for n, f in parts.items() if f is not None}


def measure(channels: int, outputs: int, rounds: int,
            reader: Callable | None) -> dict:
    """Time a layer.

    Args:
        channels, outputs (int): Its size.
        rounds (int): Number of rounds.
        reader (Callable | None): What :func:`make_reader` gives.

    Returns:
        dict: Size, medians in microseconds, GOP/s, GB/s of the weights, what
        the machine reads, and ratios to the opponents.
    """
    parts, calls = {}, {}
    functions = make_parts(channels, outputs)
    size = channels * outputs
    num_bytes = {f'{bits} bits': size * bits // 8 for bits in (2, 4, 8)}
    if reader is not None:
        functions |= {f'read {n}': reader(b) for n, b in num_bytes.items()}
    for name, function in functions.items():
        parts[name], calls[name] = repeated(function, time.thread_time)
    seconds = {
        name: [s / calls[name] for s in times]
        for name, times in timing.interleaved(
            parts, rounds, clock=time.thread_time).items()
    }
    typical = {name: median(times) for name, times in seconds.items()}
    opponents = [
        n for n in ('fp32', 'oneDNN', 'onnxruntime') if n in functions
    ]
    return dict(
        channels=channels,
        outputs=outputs,
        median_us={
            n: 1e6 * s
            for n, s in typical.items()
        },
        gops={n: 2e-9 * size / typical[n]
              for n in (*num_bytes, *opponents)},
        gbps={
            n: 1e-9 * b / typical[n]
            for n, b in num_bytes.items()
        },
        read_gbps={
            n: 1e-9 * b / typical[f'read {n}']
            for n, b in num_bytes.items() if reader is not None
        },
        ratios={
            n: {
                opponent:
                median(a / b for a, b in zip(seconds[opponent], seconds[n]))
                for opponent in opponents
            }
            for n in num_bytes
        })


def describe(rounds: int) -> dict:
    """The circumstances of a run."""
    versions = dict(
        mmcompress=__version__,
        torch=torch.__version__,
        python=platform.python_version())
    try:
        import onnxruntime
        versions['onnxruntime'] = onnxruntime.__version__
    except ImportError:
        print('onnxruntime is not there: pip install onnxruntime onnx')
    return dict(
        machine=timing.machine('cpu'),
        kernels=ops.build_info()['isa'],
        fp32_limits=timing.float_limits(),
        rounds=rounds,
        versions=versions)


def format_markdown(about: dict, results: list[dict]) -> str:
    """A table with a row for each layer and width of weights."""
    opponents = list(results[0]['ratios']['4 bits'])
    lines = [
        f'# Linear layers of one row, {about["kernels"]} kernels', '',
        f'{about["machine"]}; {about["rounds"]} interleaved rounds on one '
        'thread, its CPU time. Written by `ops/benchmarks/bench_one_row.py`, '
        'which says what is measured. Versions: ' +
        ', '.join(f'{n} {v}' for n, v in about['versions'].items()) + '.', '',
        'Times are medians and contain the call from Python; ratios are to '
        'the int8 of oneDNN and onnxruntime and to PyTorch\'s fp32. GB/s '
        'counts the weights; "reads" is what the machine reads of a vector of '
        'their size.', '', '| layer | weights | us | GOP/s | GB/s | reads | ' +
        ' | '.join(f'x {n} (us)' for n in opponents) + ' |',
        '| :-- | :-- |' + ' --: |' * (4 + len(opponents))
    ]
    for result in results:
        for name, ratios in result['ratios'].items():
            read = result['read_gbps'].get(name)
            cells = [
                f'{result["channels"]} to {result["outputs"]}', name,
                f'{result["median_us"][name]:.1f}',
                f'{result["gops"][name]:.0f}', f'{result["gbps"][name]:.0f}',
                '-' if read is None else f'{read:.0f}',
                *(f'**{ratio:.2f}** ({result["median_us"][n]:.1f})'
                  for n, ratio in ratios.items())
            ]
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=21)
    parser.add_argument(
        '--out', type=Path, default=RESULTS, help='folder of the results')
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    about, reader = describe(args.rounds), make_reader()
    results = [measure(*shape, args.rounds, reader) for shape in SHAPES]
    text = format_markdown(about, results)
    print(text)
    path = save(args.out, 'one_row', about, text, layers=results)
    print(f'written to {path}.md and .json')


if __name__ == '__main__':
    main()
