"""DoReFa-Net (Zhou et al., 2016, arXiv 1606.06160): fixed ranges.

With k bits, n = 2^k - 1. Activations, which have no state::

    y = round(n clip(x, 0, 1)) / n            dy/dx = 1 where 0 <= x <= 1

Weights, with t = tanh(w) and m = max|t| over the tensor::

    y = 2 round(n (t / 2m + 1/2)) / n - 1     dy/dt = 1 / m   dt/dw = 1 - t^2

m is a constant; with ``detach_max=False``, dy/dm = -t / m^2 reaches the
weight that is the largest. Of one bit, the sign of 0 being +1::

    y = sign(w) mean|w|                       dy/dw = 1

The codes of weights are 0 to n, of one bit -1 and +1.
"""
import torch
from torch import Tensor

from mmcompress.lowbit import Grid
from mmcompress.registry import MODELS
from .quantizer import Codes, Quantizer
from .straight_through import straight_through


@MODELS.register_module()
class DoReFaWeight(Quantizer):
    """DoReFa's weights: one range for a tensor, whatever its values.

    For more than one bit there is no level for 0, hence no integer product.

    Args:
        bits (int): Of a code.
        axis (None): It has one scale.
        size (int): 1.
        signed (bool): True.
        detach_max (bool): Whether the maximum is a constant for the gradient.
    """

    allowed_bits = range(1, 9)
    allowed_signs = (True, )
    per_axis = False
    stateful = False

    def __init__(self,
                 bits: int,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = True,
                 detach_max: bool = True) -> None:
        super().__init__(bits, axis, size, signed)
        self.detach_max = detach_max

    @property
    def low(self) -> int:
        return -1 if self.bits == 1 else 0

    @property
    def high(self) -> int:
        return 2**self.bits - 1

    def _normalize(self, x: Tensor) -> Tensor:
        """tanh(w) / m, in [-1, 1]."""
        t = x.tanh()
        m = t.abs().max() if t.numel() else t.new_ones(())
        if self.detach_max:
            m = m.detach()
        # of zeros only
        return t / torch.where(m > 0, m, 1)

    def _codes(self, x: Tensor) -> Codes:
        if self.bits == 1:
            scale = x.abs().sum() / max(x.numel(), 1)
            return Codes((x >= 0).int() * 2 - 1, scale.view(1))
        n = self.high
        values = ((self._normalize(x) / 2 + 0.5) * n).round().int()
        return Codes(values, x.new_full((1, ), 2 / n), offset=-1.)

    def _quantize(self, x: Tensor) -> Tensor:
        smooth = x if self.bits == 1 else self._normalize(x)
        return straight_through(smooth, self._codes(x.detach()).dequantize())


@MODELS.register_module()
class DoReFaActivation(Quantizer):
    """DoReFa's activations: between 0 and 1, whatever their values.

    Args:
        bits (int): Of a code.
        axis (None): It has one scale.
        size (int): 1.
        signed (bool): False.
    """

    allowed_bits = range(1, 9)
    allowed_signs = (False, )
    per_axis = False
    stateful = False

    def __init__(self,
                 bits: int,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = False) -> None:
        super().__init__(bits, axis, size, signed)

    def _codes(self, x: Tensor) -> Codes:
        # a tensor: some devices multiply with the inverse of a number
        scale = x.new_full((1, ), 1 / self.high)
        return Codes((x / scale).round().clamp(0, self.high).int(), scale)

    def _quantize(self, x: Tensor) -> Tensor:
        inside = (x >= 0).logical_and_(x <= 1)
        y = self._codes(x.detach()).dequantize()
        return straight_through(x, y, inside)

    def grid(self) -> Grid:
        return Grid(torch.full((1, ), 1 / self.high), 0, 0, self.high)
