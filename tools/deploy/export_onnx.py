"""Write the network of a trained model as ONNX."""
import argparse
import contextlib
import io
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.progress import track
from torch import Tensor

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import load_weights
from mmcompress.atomic import replacing
from mmcompress.deploy.file.convert import test_batches
from mmcompress.deploy.onnx import (Agreement, Exported, compare,
                                    custom_ops_library, evaluate, export,
                                    metadata_of)
from mmcompress.deploy.onnx.nodes import PACKED
from mmcompress.launch import add_cfg_options
from mmcompress.model.config import build_untrained, read_config
from mmcompress.model.inputs import image_size
from mmcompress.model.testing import measure
from mmcompress.tables import format_table

DESCRIPTION = '''Writes backbone, neck and head of a model of any mm library
as an ONNX file, opset 21, for images of one size. Layers with quantizers, of
QuantizeLayers or tools/quantize.py, become integers of onnxruntime, packed
1-bit layers operators of a library for it; batch norms are folded. Says which
layers onnxruntime computes in integers and which not, and compares its outputs
with the model's.'''


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument('config', help='of the trained model')
    parser.add_argument('checkpoint', help='its weights, file or URL')
    parser.add_argument('out', help='the file to write, OUT.onnx')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of preprocessed images; by default what the test pipeline gives,'
        ' padded as batches are')
    parser.add_argument(
        '--images',
        type=int,
        default=4,
        help='of the test data, to compare outputs on (noise without data)')
    parser.add_argument(
        '--evaluate',
        action='store_true',
        help='test the model and the written file by the test loop of the '
        'config')
    add_cfg_options(parser)
    return parser.parse_args()


def padded(size: tuple[int, int], model: nn.Module) -> tuple[int, int]:
    """A size as the model's preprocessor pads images."""
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', None) or 1
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width


def images_of(cfg: Config, model: nn.Module, size: tuple[int, int],
              num: int) -> tuple[list[Tensor], str]:
    """Preprocessed images, and what they are."""
    try:
        batches = test_batches(cfg, num)
    except (ValueError, FileNotFoundError) as error:
        print(f'No test data ({error}), so noise is compared', file=sys.stderr)
        generator = torch.Generator().manual_seed(0)
        return [
            torch.randn(1, 3, *size, generator=generator) for _ in range(num)
        ], 'images of noise'
    images = [
        image[None] for batch in batches
        for image in model.data_preprocessor(batch, False)['inputs']
    ]
    return images[:num], 'test images'


def say_layers(exported: Exported) -> None:
    """Which layers are computed how."""
    if exported.network.left_out:
        print(exported.network.left_out)
    if not exported.converted.layers and not exported.floats():
        print('The model has no low-bit layers: the file is float')
        return
    counts = Counter(exported.found.integer.values())
    kinds = ', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))
    print(f'onnxruntime computes {sum(counts.values())} layers and products '
          f'in integers: {kinds or "none"}')
    if set(counts) & set(PACKED):
        print(f'It needs the operators of {custom_ops_library()}')
    floats = [[name, why] for name, why in exported.floats().items()]
    if floats:
        print(
            format_table('Low-bit layers that are not among them',
                         ['module', 'why'], floats))


def say_agreement(agreement: Agreement, what: str) -> None:
    """How near onnxruntime comes."""
    print(f'On {what}, outputs of onnxruntime differ by '
          f'{agreement.difference:.2e} of their norm, a value by '
          f'{agreement.largest:.2e} of the largest')
    if agreement.codes:
        print(f'{100 * agreement.equal:.3f} % of {agreement.codes} codes of '
              f'activations are equal, {100 * agreement.nearly:.3f} % differ '
              f'by at most 1 (fewest equal: {agreement.worst})')
    if agreement.bits:
        print(f'Of {agreement.bits} bits of packed layers '
              f'{agreement.different_bits} differ')


def progress(items: Iterable, what: str) -> Iterable:
    """A bar on standard error."""
    return track(items, what, console=Console(file=sys.stderr))


def say_metrics(cfg: Config, model: nn.Module, exported: Exported) -> None:
    """The metric of the model, and of the file."""
    # evaluators print tables of their own
    with contextlib.redirect_stdout(io.StringIO()):
        before = measure(cfg, model, lambda x: progress(x, 'PyTorch'))
        after = evaluate(cfg, model, exported.proto, exported.network.size,
                         lambda x: progress(x, 'onnxruntime'))
    rows = []
    for key in dict.fromkeys([*before, *after]):
        pair = before.get(key), after.get(key)
        if all(isinstance(value, (int, float)) for value in pair):
            rows.append([
                key, *(f'{value:.6g}' for value in pair),
                f'{pair[1] - pair[0]:+.4f}'
            ])
    print(
        format_table('Metric', ['', 'PyTorch', 'onnxruntime', 'difference'],
                     rows))


def main() -> None:
    """Write, look at what onnxruntime makes of it, and compare."""
    args = parse_args()
    out = Path(args.out)
    if out.suffix != '.onnx':
        raise ValueError(f'the file to write must end with .onnx: {out}')
    # of shapes it can't know, of what building a model says
    for name in ('torch.onnx', 'onnxscript', 'onnx_ir'):
        logging.getLogger(name).setLevel(logging.ERROR)
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    cfg = read_config(args.config, args.cfg_options)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = build_untrained(cfg)
        meta = load_weights(model, args.checkpoint).get('meta', {})
        # not chained: train() of some backbones in mm libraries returns None
        model.eval()
        size = tuple(args.size or padded(image_size(cfg, model), model))
        exported = export(model, size, metadata_of(cfg, model, size, meta))
        say_layers(exported)
        images, what = images_of(cfg, model, size, args.images)
        say_agreement(compare(exported, images), f'{len(images)} {what}')
        if args.evaluate:
            say_metrics(cfg, model, exported)
    with replacing(out) as temporary:
        temporary.write_bytes(exported.proto)
    print(f'Written: {out}, {len(exported.proto) / 1e6:.2f} MB, images of '
          f'{size[0]} x {size[1]}')


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        main()
