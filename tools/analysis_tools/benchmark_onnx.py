"""Time a quantized network on onnxruntime against the float one.

On one thread, both in turn in every round, by the thread's own time. A float
config is quantized first, by the range of noise: times don't depend on the
weights.
"""
import argparse
import logging
import statistics
import warnings
from collections import Counter
from importlib import metadata

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import load_weights
from mmcompress.analysis.timing import machine, median_interval
from mmcompress.deploy.onnx import compare_speed, export, without_quantizers
from mmcompress.launch import add_cfg_options
from mmcompress.model.config import build_untrained, read_config
from mmcompress.model.inputs import noise_batch
from mmcompress.quantization import QuantizeLayers, Quantizer
from mmcompress.quantization.norms import branch_ends
from mmcompress.tables import format_table


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument(
        'config', help='of a quantized model, or of a float one')
    parser.add_argument('checkpoint', nargs='?', help='by default random')
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), help='of images')
    parser.add_argument(
        '--no-residual',
        action='store_true',
        help='of a float config: what residual blocks add is not quantized')
    parser.add_argument(
        '--attention-bits',
        type=int,
        default=8,
        help='of a float config: 32 leaves products of attentions float')
    parser.add_argument('--rounds', type=int, default=25)
    add_cfg_options(parser)
    return parser.parse_args()


def quantize(model: nn.Module, args: argparse.Namespace) -> None:
    """Quantize a float model with 8 bits, in place."""
    eight = dict(type='LSQ', bits=8)
    step = dict(weight=eight, activation=dict(eight, offset='zero_point'))
    if args.attention_bits < 32:
        step['attention'] = dict(type='LSQ', bits=args.attention_bits)
    blocks = any(branch_ends.find(module) for module in model.modules())
    step['residual'] = blocks and not args.no_residual
    QuantizeLayers(**step)(model)
    model.eval()


def prepare(cfg: Config, args: argparse.Namespace) -> tuple:
    """The quantized model, and the size of its images."""
    model = build_untrained(cfg)
    if args.checkpoint:
        load_weights(model, args.checkpoint)
    model.eval()
    if not any(isinstance(m, Quantizer) for m in model.modules()):
        quantize(model, args)
    batch = noise_batch(cfg, model, args.size)
    # with gradients, quantizers without scales begin
    with torch.enable_grad():
        model(**batch, mode='tensor')
    return model, tuple(batch['inputs'].shape[-2:])


def main() -> None:
    """Write both, measure, print."""
    args = parse_args()
    for name in ('torch.onnx', 'onnxscript', 'onnx_ir'):
        logging.getLogger(name).setLevel(logging.ERROR)
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    torch.set_num_threads(1)
    cfg = read_config(args.config, args.cfg_options)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model, size = prepare(cfg, args)
        written = dict(
            float=export(without_quantizers(model), size),
            quantized=export(model, size))
    seconds = compare_speed({
        name: one.proto
        for name, one in written.items()
    }, written['float'].network.example(), args.rounds)
    ratios = [f / q for f, q in zip(*seconds.values())]
    low, high = median_interval(ratios)
    print(
        format_table(
            f'{args.config}, {size[0]} x {size[1]}, {machine("cpu")}, '
            f'onnxruntime {metadata.version("onnxruntime")}', ['', 'ms', 'MB'],
            [[
                name, f'{1000 * statistics.median(values):.1f}',
                f'{len(written[name].proto) / 1e6:.1f}'
            ] for name, values in seconds.items()]))
    counts = Counter(written['quantized'].found.integer.values())
    print(f'{statistics.median(ratios):.2f} x as fast ({low:.2f} to '
          f'{high:.2f}); integer: ' +
          ', '.join(f'{n} {kind}' for kind, n in sorted(counts.items())))
    for name, why in written['quantized'].floats().items():
        print(f'float: {name}: {why}')


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        main()
