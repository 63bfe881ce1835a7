"""Scales for the quantizers of a model by a few images, without training."""
import copy
from collections.abc import Iterable

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.precision import at_least_float32
from .lsq import LSQ
from .observers import OBSERVERS, scale_of_range
from .quantizer import Quantizer, bypassed
from .ranges import mse_scale

METHODS = ('auto', *OBSERVERS)
# with so few, clipping pays
_FEW_BITS = 4


@torch.no_grad()
def predict(model: nn.Module, batch: dict) -> list:
    """Run a model as in testing.

    Args:
        model (nn.Module): A model of an mm library, in eval mode.
        batch (dict): As a data loader gives it; not changed.
    """
    # predictions are written into its samples
    return model.test_step(copy.deepcopy(batch))


class _Collector:
    """What a quantizer calls instead of quantizing."""

    def __init__(self, quantizer: LSQ, method: str) -> None:
        if method == 'auto':
            method = 'mse' if quantizer.bits <= _FEW_BITS else 'minmax'
        self.quantizer = quantizer
        self.method = method
        self.weight: nn.Parameter | None = None
        self.observer = OBSERVERS[method](quantizer)

    def __call__(self, x: Tensor) -> None:
        if isinstance(x, nn.Parameter):
            # the same in each call
            self.weight = x
        else:
            self.observer(x)

    def finish(self) -> None:
        """Give the quantizer what follows from all calls."""
        if self.weight is not None:
            self._of_weight(at_least_float32(self.weight))
        elif self.observer.least is not None:
            self._of_activations()

    def _of_weight(self, weight: Tensor) -> None:
        quantizer = self.quantizer
        summary = quantizer._summarize(weight, sync=False)
        quantizer._decide_sign(summary.least.min().item())
        low, high = quantizer.low, quantizer.high
        scale, zero = scale_of_range(summary.least, summary.largest, low, high,
                                     True)
        if self.method == 'mse':
            # of all values, while observers keep some
            rows = quantizer._rows(weight)
            scale = mse_scale(rows, summary, low, high, sync=False)
        quantizer.adopt(scale, zero)

    def _of_activations(self) -> None:
        quantizer = self.quantizer
        least, largest = self.observer.range()
        quantizer._decide_sign(least.min().item())
        # zeros only say nothing
        if least.any() or largest.any():
            quantizer.adopt(*self.observer.scale_and_zero_point(
                quantizer.low, quantizer.high, quantizer.is_symmetric))


@torch.no_grad()
def calibrate(model: nn.Module,
              batches: Iterable[dict],
              method: str = 'auto') -> list[str]:
    """Set the scales of all quantizers by what they see in some batches.

    All calls count, those of all batches and, in heads that several levels
    share, of all levels; nothing is quantized meanwhile. Quantizers with
    ``signed='auto'`` get their sign, those with an offset their zero point.
    One that sees zeros only stays without a scale, and lets zeros pass.

    Args:
        model (nn.Module): A model of an mm library with quantizers; in eval
            mode afterwards.
        batches (Iterable[dict]): As a data loader gives them.
        method (str): ``'minmax'``, ``'moving_average'``, ``'percentile'`` or
            ``'mse'``, see :mod:`mmcompress.quantization.observers`; weights
            have the least squared error with ``'mse'``, else their whole
            range. ``'auto'``: ``'mse'`` up to 4 bits, else ``'minmax'``.

    Returns:
        list[str]: Quantizers that were never called.

    Raises:
        TypeError: If a quantizer needs training.
        ValueError: On an unknown method; if there are no quantizers, or none
            was called.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {", ".join(METHODS)}, got '
                         f'{method!r}')
    collectors = {
        name: _Collector(_calibrated(name, module), method)
        for name, module in model.named_modules()
        if isinstance(module, Quantizer) and module.stateful
    }
    if not collectors:
        raise ValueError(f'{type(model).__name__} has no quantizers, so there '
                         'is nothing to calibrate')
    model.eval()
    try:
        for collector in collectors.values():
            collector.quantizer.seen = False
            collector.quantizer.observer = collector
        with bypassed(model):
            for batch in batches:
                predict(model, batch)
    finally:
        for collector in collectors.values():
            collector.quantizer.observer = None
    never = [n for n, c in collectors.items() if not c.quantizer.seen]
    if len(never) == len(collectors):
        raise ValueError('no quantizer was called: there are no batches')
    for collector in collectors.values():
        collector.finish()
    return never


def _calibrated(name: str, quantizer: Quantizer) -> LSQ:
    if not isinstance(quantizer, LSQ):
        raise TypeError(
            f'{name} is {type(quantizer).__name__}, whose parameters are '
            'trained: calibration sets scales and zero points of LSQ')
    return quantizer
