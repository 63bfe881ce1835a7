"""Quantizing as operators of PyTorch, which an exporter sees as one node.

Their translations are ONNX's ``QuantizeLinear``, ``DequantizeLinear``, in
which onnxruntime finds integer layers.
"""
from collections.abc import Callable

import torch
from torch import Tensor

from .packages import needs

UINT8_MAX = 255


def _along(vector: Tensor, x: Tensor, axis: int) -> Tensor:
    """One number, or one for each index of the axis."""
    if vector.dim() == 0:
        return vector
    shape = [1] * x.dim()
    shape[axis] = -1
    return vector.view(shape)


@torch.library.custom_op('mmcompress_onnx::quantize', mutates_args=())
def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, high: int,
             axis: int) -> Tensor:
    """Quantize to uint8, and back: ``(q - zero_point) * scale``.

    ``q = clamp(round(x / scale) + zero_point, 0, high)``

    Args:
        x (Tensor): Any shape, float32.
        scale (Tensor): float32, shape () or (size of the axis, ).
        zero_point (Tensor): uint8, of the same shape.
        high (int): The largest code.
        axis (int): Of ``x``, not negative; 0 where there is one scale.

    Returns:
        Tensor: Shape of ``x``.
    """
    scale = _along(scale, x, axis)
    zero = _along(zero_point, x, axis).to(x.dtype)
    codes = (x / scale).round_().add_(zero).clamp_(0, high)
    return codes.sub_(zero).mul_(scale)


@quantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor, high: int,
      axis: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op('mmcompress_onnx::dequantize', mutates_args=())
def dequantize(codes: Tensor, scale: Tensor, axis: int) -> Tensor:
    """Real values of weights: ``codes * scale``.

    Args:
        codes (Tensor): int8, any shape.
        scale (Tensor): float32, shape (size of the axis, ).
        axis (int): Of ``codes``, not negative.

    Returns:
        Tensor: float32, shape of ``codes``.
    """
    return codes.to(scale.dtype) * _along(scale, codes, axis)


@dequantize.register_fake
def _(codes: Tensor, scale: Tensor, axis: int) -> Tensor:
    return torch.empty_like(codes, dtype=scale.dtype)


def translations() -> dict[Callable, Callable]:
    """How the exporter writes these operators, opset 21.

    Codes of fewer than 8 bits are clipped as integers: between a convolution
    and ``QuantizeLinear`` there is nothing then, which onnxruntime wants for
    an integer convolution, and the codes are the same.
    """
    op = needs('onnxscript').opset21
    onnx = needs('onnx')

    def write_quantize(x, scale, zero_point, high: int, axis: int):
        codes = op.QuantizeLinear(x, scale, zero_point, axis=axis)
        if high < UINT8_MAX:
            edges = [
                op.Constant(
                    value=onnx.helper.make_tensor(
                        '', onnx.TensorProto.UINT8, [], [edge]))
                for edge in (0, high)
            ]
            codes = op.Clip(codes, *edges)
        return op.DequantizeLinear(codes, scale, zero_point, axis=axis)

    def write_dequantize(codes, scale, axis: int):
        return op.DequantizeLinear(codes, scale, axis=axis)

    ours = torch.ops.mmcompress_onnx
    return {
        ours.quantize.default: write_quantize,
        ours.dequantize.default: write_dequantize
    }
