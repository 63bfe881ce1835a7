"""Scales for the quantizers of a model by a few images, without training."""
import copy
from collections.abc import Iterable

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.precision import at_least_float32
from .lsq import LSQ
from .observed import Observed
from .observers import OBSERVERS, scale_of_range
from .quantization_networks import QNActivation
from .quantizer import Quantizer, bypassed
from .ranges import mse_scale

METHODS = ('auto', *OBSERVERS)
# with so few, clipping pays
FEW_BITS = 4
# what finds its scales by itself
_OBSERVING = (Observed, QNActivation)


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
    """What an LSQ quantizer calls instead of quantizing."""

    def __init__(self, quantizer: LSQ, method: str) -> None:
        if method == 'auto':
            method = 'mse' if quantizer.bits <= FEW_BITS else 'minmax'
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
            self._finish_weight(at_least_float32(self.weight))
            return
        quantizer = self.quantizer
        least, largest = self.observer.range()
        quantizer._decide_sign(least.min().item(), largest.max().item())
        # zeros only say nothing
        if least.any() or largest.any():
            quantizer.adopt(*self.observer.scale_and_zero_point(
                quantizer.low, quantizer.high, quantizer.is_symmetric))

    def _finish_weight(self, weight: Tensor) -> None:
        quantizer = self.quantizer
        if not weight.any():
            return
        summary = quantizer._summarize(weight, sync=False)
        quantizer._decide_sign(summary.least.min().item(),
                               summary.largest.max().item())
        low, high = quantizer.low, quantizer.high
        scale, zero = scale_of_range(summary.least, summary.largest, low, high,
                                     True)
        if self.method == 'mse':
            # of all values, while observers keep some
            rows = quantizer._rows(weight)
            scale = mse_scale(rows, summary, low, high, sync=False)
        quantizer.adopt(scale, zero)


def _calibrated(model: nn.Module) -> dict[str, LSQ | Observed | QNActivation]:
    """The quantizers that need data, by name.

    Raises:
        TypeError: If one gets its parameters by training only.
        ValueError: If the model has no quantizers.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Quantizer)
    }
    if not found:
        raise ValueError(f'{type(model).__name__} has no quantizers, so there '
                         'is nothing to calibrate')
    chosen = {}
    for name, quantizer in found.items():
        if isinstance(quantizer, (LSQ, *_OBSERVING)):
            chosen[name] = quantizer
        elif quantizer.stateful and not name.endswith('weight_quant'):
            raise TypeError(
                f'{name} is {type(quantizer).__name__}, which has to be '
                'trained: what can be calibrated is LSQ, Observed and '
                'QNActivation')
    return chosen


@torch.enable_grad()
def begin_scales(model: nn.Module, batches: Iterable[dict]) -> None:
    """Give all quantizers the scales that a training would begin with.

    Also those that calibration doesn't know. Nothing else changes.

    Args:
        model (nn.Module): A model of an mm library; in eval mode afterwards.
        batches (Iterable[dict]): Of a test loader.
    """
    model.eval()
    trained = [p for p in model.parameters() if p.requires_grad]
    # quantizers begin where gradients are enabled, of which none is needed
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        for batch in batches:
            model.test_step(copy.deepcopy(batch))
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@torch.no_grad()
def calibrate(model: nn.Module,
              batches: Iterable[dict],
              method: str = 'auto') -> list[str]:
    """Set the scales of quantizers by what they see in some batches.

    All calls count, those of all batches and, in heads that several levels
    share, of all levels; nothing is quantized meanwhile. Quantizers with
    ``signed='auto'`` get their sign, those with an offset their zero point.
    One that sees zeros only stays without a scale, and lets zeros pass.

    Args:
        model (nn.Module): A model of an mm library with quantizers; in eval
            mode afterwards.
        batches (Iterable[dict]): As a data loader gives them.
        method (str): Of :class:`~mmcompress.quantization.LSQ`:
            ``'minmax'``, ``'moving_average'``, ``'percentile'`` or ``'mse'``,
            see :mod:`mmcompress.quantization.observers`; weights have the
            scales of the least squared error with ``'mse'``, else of their
            whole range. ``'auto'``: ``'mse'`` up to 4 bits, else
            ``'minmax'``. :class:`~mmcompress.quantization.Observed` has its
            own.

    Returns:
        list[str]: Quantizers that were never called.

    Raises:
        TypeError: If a quantizer has to be trained.
        ValueError: On an unknown method; if there are no quantizers, or none
            was called; if a value is not finite.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {", ".join(METHODS)}, got '
                         f'{method!r}')
    quantizers = _calibrated(model)
    collectors = {}
    model.eval()
    try:
        for name, quantizer in quantizers.items():
            quantizer.seen = False
            if isinstance(quantizer, _OBSERVING):
                quantizer.observe()
            else:
                collectors[name] = _Collector(quantizer, method)
                quantizer.observer = collectors[name]
        with bypassed(model):
            for batch in batches:
                predict(model, batch)
        never = [name for name, q in quantizers.items() if not q.seen]
        if len(never) == len(quantizers):
            raise ValueError('no quantizer was called: there are no batches')
        for name, quantizer in quantizers.items():
            if not quantizer.seen:
                continue
            if name in collectors:
                collectors[name].finish()
            else:
                quantizer.freeze()
    finally:
        for quantizer in quantizers.values():
            quantizer.observer = None
    return never
