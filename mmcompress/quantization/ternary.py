"""Ternary weights of TWN and TerViT: -a, 0 or a, computed anew at each call.

TerViT (Xu et al., 2022, arXiv 2201.08050; no code was released) has a
threshold D and a scale a for each output channel, TWN (Li et al., 2016, arXiv
1605.04711) one for a tensor. With v = clip(w, -c, c), over those weights::

    D = 0.7 mean|v|    code = sign(v) where |v| > D, else 0
    a = mean|v| of those above D         y = a code

    dy/dw = 1 where -c < w < c

D and a are constants for the gradient. Nothing above D, which only zeros
leave: a = 0.
"""
from typing import NamedTuple

import torch
from torch import Tensor

from mmcompress.registry import MODELS
from .quantizer import Codes, Quantizer
from .straight_through import straight_through


class Ternary(NamedTuple):
    """Rows of ternary weights.

    Attributes:
        codes (Tensor): -1, 0 and 1, shape (K, M), in the weights' dtype.
        alpha (Tensor): Their scales, not negative, shape (K, ).
        threshold (Tensor): Shape (K, ).
    """
    codes: Tensor
    alpha: Tensor
    threshold: Tensor


def ternarize(rows: Tensor, clip: float, factor: float,
              mean_abs: bool) -> Ternary:
    """Ternary weights, row by row.

    Args:
        rows (Tensor): Shape (K, M).
        clip (float): c, positive.
        factor (float): The threshold in units of the mean magnitude.
        mean_abs (bool): Whether the scale is the mean magnitude of all.
    """
    magnitude = rows.abs().clamp(max=clip)
    mean = magnitude.sum(1) / max(rows.shape[1], 1)
    threshold = factor * mean
    above = magnitude > threshold[:, None]
    if mean_abs:
        alpha = mean
    else:
        alpha = (magnitude * above).sum(1) / above.sum(1).clamp(min=1)
    return Ternary(rows.sign() * above, alpha, threshold)


@MODELS.register_module()
class TernaryWeight(Quantizer):
    """Weights of three values.

    Args:
        bits (int): 2, of a stored code.
        axis (int | None): As of the base.
        size (int): As of the base.
        signed (bool): True.
        clip (float): Weights beyond it count as it, and don't learn.
        factor (float): The threshold in units of the mean magnitude.
        alpha (str): What the scale is the mean of: ``'above'``, the
            magnitudes above the threshold, the best scale for the codes;
            ``'mean_abs'``, all.

    Raises:
        ValueError: On an unknown option, or one that isn't positive.
    """

    allowed_bits = (2, )
    allowed_signs = (True, )
    stateful = False
    low = -1
    high = 1

    def __init__(self,
                 bits: int = 2,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = True,
                 clip: float = 2.5,
                 factor: float = 0.7,
                 alpha: str = 'above') -> None:
        super().__init__(bits, axis, size, signed)
        self._check('alpha', alpha, ('above', 'mean_abs'))
        if clip <= 0 or factor <= 0:
            raise ValueError('TernaryWeight: clip and factor must be positive,'
                             f' got {clip} and {factor}')
        self.clip = clip
        self.factor = factor
        self.alpha = alpha

    @torch.no_grad()
    def statistics(self, x: Tensor) -> Ternary:
        """Codes, scales and thresholds of weights, as rows."""
        return ternarize(
            self._rows(x), self.clip, self.factor, self.alpha == 'mean_abs')

    def _codes(self, x: Tensor) -> Codes:
        ternary = self.statistics(x)
        return Codes(
            self._unrow(ternary.codes, x).int(), self._along(ternary.alpha, x))

    def _quantize(self, x: Tensor) -> Tensor:
        inside = x.abs() < self.clip
        return straight_through(x,
                                self._codes(x.detach()).dequantize(), inside)
