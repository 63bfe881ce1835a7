"""Inference twin of a layer whose operands are integers of several bits."""
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcompress.lowbit import InferenceRule, OperandBits
from mmcompress.ops import read_codes, store_codes
from mmcompress.pixels import as_pixels, from_pixels
from .geometry import Geometry
from .inference_only import InferenceOnly

# up to it float32 holds every integer
_EXACT = 2**24


class PackedIntegerLayer(InferenceOnly):
    """Convolution or linear layer of integer codes, exact on every machine.

    With the codes ``q = clamp(round(x / s) + z, low, high)`` of the input::

        k = conv(q - z, codes)               exact
        y = float(k) * s * scale + bias      each operation rounded

    Products of codes run in PyTorch's float convolutions, in float32 where
    every sum is exact in it, otherwise in float64. Weights are stored with
    their bits, in two's complement.

    Args:
        rule (InferenceRule): What the trained layer computes.
        channels_last (bool): The input is that of a linear layer, (..., C).
    """

    def __init__(self, rule: InferenceRule, channels_last: bool) -> None:
        super().__init__()
        self.bits = rule.bits
        self.channels_last = channels_last
        self.geometry = Geometry.of(rule)
        self.register_buffer('weight_codes',
                             store_codes(rule.codes, rule.bits.weight))
        self.register_buffer('scale', rule.scale.float())
        self.register_buffer('bias',
                             None if rule.bias is None else rule.bias.float())
        grid = rule.grid
        self.register_buffer('input_scale', grid.scale.detach().float())
        self.register_buffer(
            'input_range', torch.tensor([grid.zero_point, grid.low,
                                         grid.high]))

    def extra_repr(self) -> str:
        return f'{self.geometry}, bits={self.bits.factors}'

    def operand_bits(self) -> OperandBits:
        """Those of the trained layer."""
        return self.bits

    def record(self) -> tuple:
        """What a file of another architecture differs in."""
        return (*self.geometry, self.bits, self.channels_last)

    def num_packed_weights(self) -> int:
        """Number of codes."""
        return torch.Size(self.geometry.weight_shape).numel()

    def input_codes(self, x: Tensor) -> Tensor:
        """Integers of an input, less the zero point; float32, same shape."""
        zero_point, low, high = self.input_range.to(x.device)
        codes = (x.float() / self.input_scale).round() + zero_point
        return codes.clamp(low, high) - zero_point

    def count(self, codes: Tensor) -> Tensor:
        """Dot products of codes.

        Args:
            codes (Tensor): From :meth:`input_codes` of an image.

        Returns:
            Tensor: Integers in float32 or float64, shape (N, K, H', W').
        """
        geometry = self.geometry
        weight = read_codes(self.weight_codes, geometry.weight_shape,
                            self.bits.weight)
        zero_point, low, high = self.input_range.tolist()
        largest = max(high - zero_point, zero_point - low)
        sums = weight.abs().flatten(1).sum(1).max() * largest
        dtype = torch.float32 if sums < _EXACT else torch.float64
        return F.conv2d(
            codes.to(dtype), weight.to(dtype), None, geometry.stride,
            geometry.padding, geometry.dilation, geometry.groups)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer.

        Args:
            x (Tensor): Real-valued, of the trained layer's input shape.

        Returns:
            Tensor: Of its output shape, in the dtype of ``x``.
        """
        self.check_input(x)
        codes = as_pixels(self.input_codes(x), self.channels_last)
        y = self.count(codes).float() * self.input_scale
        y = y * self.scale.view(-1, 1, 1)
        if self.bias is not None:
            y = y + self.bias.view(-1, 1, 1)
        return from_pixels(y, x, self.channels_last).to(x.dtype)
