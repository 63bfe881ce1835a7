"""Scales that observers find, and that gradients leave alone.

With s and z from the range of observed data (see ``observers.py``)::

    y = s (clamp(round(x / s) + z, L, H) - z)

    dy/dx = 1 where L <= x / s + z <= H
"""
import torch
from torch import Tensor

from mmcompress.lowbit import Grid
from mmcompress.ops import lsq_fake_quantize
from mmcompress.registry import MODELS
from .observers import OBSERVERS, Observer
from .quantizer import Codes, Quantizer, Summary


@MODELS.register_module()
class Observed(Quantizer):
    """Quantizes by the range of data that it has observed.

    ::

        observer = quantizer.observe()
        ...                              # run the model on some images
        quantizer.freeze()

    Not calibrated before, it begins with the first data that it would train
    on, like the others.

    Args:
        bits (int): Of a code.
        axis (int | None): As of the base.
        size (int): As of the base.
        signed (bool | str): As of the base.
        symmetric (bool): Whether the zero point is 0.
        method (str): Name of an observer, see
            :data:`~mmcompress.quantization.OBSERVERS`.
        **options: Of the observer.

    Raises:
        ValueError: On an unknown method.
    """

    def __init__(self,
                 bits: int = 8,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = 'auto',
                 symmetric: bool = True,
                 method: str = 'minmax',
                 **options) -> None:
        super().__init__(bits, axis, size, signed)
        self._check('method', method, OBSERVERS)
        self.symmetric = symmetric
        self.method = method
        self.options = options
        # options that it doesn't take fail now
        self._new_observer()
        self.register_buffer('scale', torch.ones(size))
        self.register_buffer('zero_point', torch.zeros(size))

    def _new_observer(self) -> Observer:
        return OBSERVERS[self.method](self, **self.options)

    def observe(self) -> Observer:
        """From now on, look at values and let them pass.

        Returns:
            Observer: What looks at them.
        """
        self.observer = self._new_observer()
        return self.observer

    @torch.no_grad()
    def freeze(self) -> bool:
        """Quantize by what was observed since :meth:`observe`.

        Returns:
            bool: False, and nothing changed, if there were only zeros.

        Raises:
            RuntimeError: If it doesn't observe.
            ValueError: If it has seen no value, or one that is not finite.
        """
        if self.observer is None:
            raise RuntimeError(f'{self} does not observe: call observe(), and '
                               'run the model on some images, before freeze()')
        observer, self.observer = self.observer, None
        least, largest = observer.range()
        if not (least.any() or largest.any()):
            return False
        self._decide_sign(least.min().item(), largest.max().item())
        self._take(observer)
        self.initialized.fill_(True)
        self._ask()
        self._hand_on()
        return True

    def _initialize(self, x: Tensor, summary: Summary, sync: bool) -> None:
        observer = self._new_observer()
        observer(x)
        observer.sync = sync
        self._take(observer)

    def _take(self, observer: Observer) -> None:
        scale, zero_point = observer.scale_and_zero_point(
            self.low, self.high, self.symmetric)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)

    def _codes(self, x: Tensor) -> Codes:
        scale = self._along(self.scale, x)
        zero_point = self._along(self.zero_point, x)
        values = (x / scale).round().add_(zero_point)
        return Codes(
            values.clamp_(self.low, self.high).int(), scale, zero_point.int())

    def _quantize(self, x: Tensor) -> Tensor:
        scale, zero_point = self._per_index(x, self.scale, self.zero_point)
        return lsq_fake_quantize(
            x,
            scale,
            zero_point=zero_point,
            axis=self.axis,
            low=self.low,
            high=self.high)

    @property
    def is_symmetric(self) -> bool:
        """Whether the zero point is 0."""
        return self.symmetric

    def grid(self) -> Grid | None:
        """None with several scales."""
        if self.axis is not None:
            return None
        return Grid(self.scale, int(self.zero_point), self.low, self.high)
