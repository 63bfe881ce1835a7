"""Quantize a trained model by some training images, without training."""
import argparse
import contextlib
import copy
import io
import logging
import re
import tempfile
import warnings
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.complexity import complexity, total
from mmcompress.analysis.subject import build_subject, load_weights
from mmcompress.atomic import replacing
from mmcompress.launch import add_cfg_options, add_device
from mmcompress.lowbit import num_bytes
from mmcompress.model.config import read_config
from mmcompress.model.config_text import base_of
from mmcompress.model.inputs import noise_batch
from mmcompress.model.plain_file import plain_content
from mmcompress.model.testing import measure
from mmcompress.model.training_images import training_images
from mmcompress.quantization.calibrated_config import (config_text,
                                                       step_arguments)
from mmcompress.quantization.calibration import METHODS
from mmcompress.quantization.post_training import (Report, post_training,
                                                   progress, rounding_of,
                                                   say_layer_errors,
                                                   scale_names)
from mmcompress.quantization.quantizer import bypassed
from mmcompress.quantization.step import QuantizeLayers
from mmcompress.tables import format_table

DESCRIPTION = '''Quantizes weights and activations of a float model of any mm
library: scales by images of the training data, prepared as in testing; weights
rounded by GPTQ, or to nearest. Prints the metric before and after, how much
each layer's output changes, and the size. Writes NAME_BITS.pth and
NAME_BITS.py, which tools/test.py and tools/train.py take.'''


def parse_bits(text: str) -> tuple[int, int]:
    """Bits of weights and activations, of ``'w4a8'``.

    Raises:
        argparse.ArgumentTypeError: If it says something else.
    """
    match = re.fullmatch(r'w([2-8])a([2-8])', text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not like w8a8, w4a8, w4a4, w3a8 or w2a8: the bits '
            'of weights and of activations, 2 to 8')
    return int(match[1]), int(match[2])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument(
        'config',
        help='of the float model; a path, or '
        'mmdet::folder/name.py')
    parser.add_argument('checkpoint', help='its weights, file or URL')
    parser.add_argument(
        '--bits',
        type=parse_bits,
        required=True,
        help='of weights and activations: w8a8, w4a8, w4a4, w3a8, w2a8. The '
        'first convolution and layers that predict have 8')
    parser.add_argument(
        '--attention-bits',
        type=int,
        default=8,
        choices=[*range(2, 9), 32],
        metavar='N',
        help='of queries, keys, values and maps; 32: they stay float')
    parser.add_argument(
        '--residual',
        action='store_true',
        help='also quantize what residual blocks add, as onnxruntime wants it '
        '(tools/deploy/export_onnx.py)')
    parser.add_argument(
        '--images', type=int, default=64, help='of the training data')
    parser.add_argument(
        '--method',
        choices=METHODS,
        default='auto',
        help='how scales follow from values; auto: mse up to 4 bits, else '
        'minmax')
    parser.add_argument(
        '--rounding',
        choices=('nearest', 'gptq'),
        help='of weights; by default gptq up to 4 bits, else nearest')
    parser.add_argument(
        '--exclude',
        nargs='+',
        default=[],
        metavar='PATTERN',
        help='modules that stay float: names, of modules above them, or '
        'names with wildcards (bbox_head.*_cls)')
    parser.add_argument(
        '--include',
        nargs='+',
        default=[],
        metavar='PATTERN',
        help='modules that are quantized; by default all')
    parser.add_argument(
        '--work-dir', help='where to write; by default work_dirs/NAME_BITS')
    parser.add_argument(
        '--no-metric',
        action='store_true',
        help='do not test the model before and after')
    add_device(parser)
    add_cfg_options(parser)
    return parser.parse_args()


def step_of(args: argparse.Namespace) -> dict:
    """Arguments of the step ``QuantizeLayers``."""
    return step_arguments(*args.bits, args.attention_bits, args.residual,
                          args.include, args.exclude)


def test(cfg: Config, model: nn.Module, what: str) -> dict[str, float]:
    """Metrics of a model, without what evaluators print themselves."""
    with contextlib.redirect_stdout(io.StringIO()):
        return measure(cfg, model, lambda loader: progress(loader, what))


def size(cfg: Config, model: nn.Module, float_model: nn.Module) -> str:
    """Bytes and the share of what is quantized, in words."""
    with bypassed(model):
        costs = complexity(model, noise_batch(cfg, model))
    sums = total(costs)
    share = sum(c.macs for c in costs if c.is_low_bit) / sums.macs
    stored = num_bytes(float_model.state_dict().values()) / 1e6
    packed = sums.bytes_packed / 1e6
    return (f'Size {stored:.2f} MB float, {packed:.2f} MB packed '
            f'({stored / packed:.1f} times smaller); {100 * share:.0f} % of '
            'the multiplications are low-bit')


def difference(before: dict, after: dict) -> str:
    """A table of metrics; mmdet's have none where nothing is detected."""
    rows = []
    for key in dict.fromkeys([*before, *after]):
        pair = [before.get(key), after.get(key)]
        numbers = [v for v in pair if isinstance(v, (int, float))]
        if numbers:
            cells = ['none' if v is None else f'{v:.6g}' for v in pair]
            rows.append([
                key, *cells,
                f'{pair[1] - pair[0]:+.4f}' if len(numbers) == 2 else ''
            ])
    if not rows:
        return ('Neither model has a metric: the evaluator of the config '
                'found nothing to measure, such as no detection at all')
    return format_table('Metric', ['', 'float', 'quantized', 'difference'],
                        rows)


def write(cfg: Config, model: nn.Module, meta: dict, args: argparse.Namespace,
          folder: Path, name: str) -> None:
    """Write checkpoint and config."""
    base = base_of(cfg, args.config, bool(args.cfg_options), folder,
                   f'{name}_float.py')
    text = config_text(cfg, base, name, step_of(args), scale_names(model))
    checkpoint = plain_content(model, meta)
    with replacing(folder / f'{name}.pth') as weights, \
            replacing(folder / f'{name}.py') as config:
        torch.save(checkpoint, weights)
        config.write_text(text)


def check_writable(folder: Path) -> None:
    """Make the folder, before anything is computed.

    Raises:
        OSError: If it can't be made, or no file in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f'--work-dir: {folder} is no folder that can be written '
                      f'to ({error.strerror})') from error


def main() -> None:
    """Quantize, compare, write."""
    args = parse_args()
    if args.rounding is None:
        args.rounding = rounding_of(args.bits[0])
    logger = MMLogger.get_instance('mmengine')
    logger.setLevel(logging.ERROR)
    cfg = read_config(args.config, args.cfg_options)
    name = '{}_w{}a{}'.format(Path(args.config).stem, *args.bits)
    folder = Path(args.work_dir or f'work_dirs/{name}')
    # what can't be written is not computed either
    config_text(cfg, '', name, step_of(args))
    check_writable(folder)
    say = Report()
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        float_model = build_subject(cfg)
        meta = load_weights(float_model, args.checkpoint).get('meta', {})
        model = copy.deepcopy(float_model)
        logger.setLevel(logging.INFO)
        QuantizeLayers(**step_of(args))(model)
        logger.setLevel(logging.ERROR)
        batches = training_images(cfg, args.images)
        model.to(args.device)
        float_model.to(args.device)
        before = None
        if not args.no_metric:
            before = test(cfg, float_model, 'float')
        post_training(model, batches, say, args.method, args.rounding)
        say_layer_errors(model, float_model, batches, args.exclude, say)
        say(size(cfg, model, float_model))
        write(cfg, model, meta, args, folder, name)
        if before is not None:
            say(difference(before, test(cfg, model, 'quantized')))
    say.write(folder / f'{name}.txt')
    print(f'Written: {folder / name}.py, .pth and .txt')


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        main()
