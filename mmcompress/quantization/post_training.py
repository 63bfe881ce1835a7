"""Quantization without training: scales, rounding, and what they do."""
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch.nn as nn
from rich.console import Console
from rich.progress import track

from mmcompress.tables import format_table
from .calibration import calibrate
from .gptq import round_weights
from .layer_errors import layer_errors, stand_out
from .quantizer import Quantizer

# weights of up to so many bits are rounded by GPTQ
GPTQ_BITS = 4


class Report:
    """Prints, and keeps what it printed for a file."""

    def __init__(self) -> None:
        self.text = ''

    def __call__(self, text: str) -> None:
        print(text, flush=True)
        self.text += text + '\n'

    def write(self, path: Path) -> None:
        """Write what was printed so far."""
        path.write_text(self.text)


def progress(items: Iterable, what: str) -> Iterable:
    """A bar on standard error, while standard output may be redirected."""
    return track(
        items, what, console=Console(file=sys.stderr, force_jupyter=False))


def rounding_of(weight_bits: int) -> str:
    """How weights of so many bits are rounded, where nothing else is said."""
    return 'gptq' if weight_bits <= GPTQ_BITS else 'nearest'


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float]) -> str:
    wall, cpu = (now - then for now, then in zip(_clocks(), start))
    return f'{wall:.1f} s ({cpu:.1f} s of CPU time)'


def scale_names(model: nn.Module) -> list[str]:
    """Names of the quantizers' parameters, which weight decay would shrink."""
    return [
        f'{path}.{key}' for path, module in model.named_modules()
        if isinstance(module, Quantizer)
        for key, _ in module.named_parameters(recurse=False)
    ]


def post_training(model: nn.Module,
                  batches: list[dict],
                  say: Callable[[str], None],
                  method: str = 'auto',
                  rounding: str = 'nearest') -> None:
    """Set the scales of a model with quantizers, and round its weights.

    Args:
        model (nn.Module): Of a ``Compress`` config with ``QuantizeLayers``,
            with the float weights; changed in place.
        batches (list[dict]): See
            :func:`mmcompress.model.training_images.training_images`.
        say (Callable): Gets sentences about what was done.
        method (str): How scales follow from values, one of ``METHODS`` of
            :mod:`mmcompress.quantization.calibration`.
        rounding (str): Of weights, ``'nearest'`` or ``'gptq'``.
    """
    start = _clocks()
    never = calibrate(model, progress(batches, 'calibration'), method)
    num = sum(len(batch['inputs']) for batch in batches)
    line = f'Calibrated on {num} images in {_since(start)}'
    if rounding == 'gptq':
        start = _clocks()
        fit_scales = method in ('auto', 'mse')
        left = round_weights(model, batches, progress, fit_scales)
        line += f', weights rounded by GPTQ in {_since(start)}'
        if left:
            line += f'; not by GPTQ, to nearest: {", ".join(left)}'
    if never:
        say(f'WARNING: {len(never)} quantizers were never called in testing, '
            'and begin with the first training step: ' + ', '.join(never))
    say(line)


def say_layer_errors(model: nn.Module, float_model: nn.Module,
                     batches: list[dict], exclude: list[str],
                     say: Callable[[str], None]) -> None:
    """Say what quantization does to each layer, and which stand out.

    Args:
        model (nn.Module): Quantized.
        float_model (nn.Module): The same, before.
        batches (list[dict]): As for :func:`post_training`.
        exclude (list[str]): Patterns of what stays float already.
        say (Callable): Gets a table and sentences.
    """
    errors = layer_errors(model, float_model, batches)
    rows = [[e.name, e.bits, f'{100 * e.error:.2f}'] for e in errors]
    say(
        format_table(
            'Relative error of the output, each layer on its float input',
            ['module', 'bits w/a', '%'], rows))
    worst = stand_out(errors)
    if worst:
        say('More than twice the median; to keep them float:\n'
            f'  --exclude {" ".join(exclude + worst)}\n'
            f'  exclude={exclude + worst}')
    else:
        say('No layer has more than twice the median error.')
