"""Quantizing as operators of PyTorch, which an exporter sees as one node.

Their translations are ONNX's ``QuantizeLinear`` and ``DequantizeLinear``, in
which onnxruntime finds integer layers.
"""
from collections.abc import Callable

import torch
from torch import Tensor

from .packages import needs

UINT8_MAX = 255


@torch.library.custom_op('mmcompress_onnx::quantize', mutates_args=())
def quantize(x: Tensor, scale: Tensor, zero_point: Tensor,
             high: int) -> Tensor:
    """Quantize to uint8, and back: ``(q - zero_point) * scale``.

    ``q = clamp(round(x / scale) + zero_point, 0, high)``

    Args:
        x (Tensor): Any shape, float32.
        scale (Tensor): float32, shape ().
        zero_point (Tensor): uint8, shape ().
        high (int): The largest code.

    Returns:
        Tensor: Shape of ``x``.
    """
    zero = zero_point.to(x.dtype)
    codes = (x / scale).round_().add_(zero).clamp_(0, high)
    return codes.sub_(zero).mul_(scale)


@quantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor, high: int) -> Tensor:
    return torch.empty_like(x)


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
    shape = [1] * codes.dim()
    shape[axis] = -1
    return codes.to(scale.dtype) * scale.view(shape)


@dequantize.register_fake
def _(codes: Tensor, scale: Tensor, axis: int) -> Tensor:
    return torch.empty_like(codes, dtype=scale.dtype)


def translations() -> dict[Callable, Callable]:
    """How the exporter writes these operators, opset 21.

    Codes of fewer than 8 bits are clipped as integers, not as real values
    before: nothing then stands between a convolution and ``QuantizeLinear``,
    which is what onnxruntime makes integers of, and the codes are the same.
    """
    op = needs('onnxscript').opset21
    onnx = needs('onnx')

    def uint8(number: int):
        tensor = onnx.helper.make_tensor('', onnx.TensorProto.UINT8, [],
                                         [number])
        return op.Constant(value=tensor)

    def write_quantize(x, scale, zero_point, high: int):
        codes = op.QuantizeLinear(x, scale, zero_point)
        if high < UINT8_MAX:
            codes = op.Clip(codes, uint8(0), uint8(high))
        return op.DequantizeLinear(codes, scale, zero_point)

    def write_dequantize(codes, scale, axis: int):
        return op.DequantizeLinear(codes, scale, axis=axis)

    def write_lsq(x, scale, beta, zero_point, axis, low: int, high: int,
                  factor: float, mask: str):
        behind = 0 if axis is None else -axis - 1 if axis < 0 else \
            len(x.shape) - axis - 1

        def along(vector):
            axes = op.Constant(value_ints=range(1, behind + 1))
            return op.Unsqueeze(vector, axes) if behind else vector

        scale = along(scale)
        u = op.Round(op.Div(op.Sub(x, along(beta)) if beta else x, scale))
        zero = op.Round(along(zero_point)) if zero_point else None
        limits = (op.Constant(value_float=float(v)) for v in (low, high))
        code = op.Clip(op.Add(u, zero) if zero else u, *limits)
        y = op.Mul(op.Sub(code, zero) if zero else code, scale)
        return op.Add(y, along(beta)) if beta else y

    def write_sort(x, stable=None, dim=-1, descending=False):
        # which puts the lower index first, as a stable order does
        length = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
        return op.TopK(x, length, axis=dim, largest=int(descending))

    # LSQ's is that of quantizers without integers
    ours, lsq = torch.ops.mmcompress_onnx, torch.ops.mmcompress

    return {
        torch.ops.aten.sort.stable: write_sort,
        ours.quantize.default: write_quantize,
        ours.dequantize.default: write_dequantize,
        lsq.lsq_fake_quantize.default: write_lsq
    }
