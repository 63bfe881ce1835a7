"""Fake quantization with learnt scales: LSQ, LSQ+ and their relatives.

With codes between L and H, a scale s, perhaps a real offset b and an integer
one, z, the rounded zero point::

    u = (x - b) / s
    y = (clamp(round(u) + z, L, H) - z) s + b

Every operation is rounded on its own, ties of ``round`` go to even. With
I = 1 where L <= u + z <= H, or L <= round(u) + z <= H for the mask
``'rounded'``, and a factor g::

    dy/dx = I                   dy/ds = g (clamp(round(u), L - z, H - z) - I u)
    dy/db = g (1 - I)           dy/dz = -g s (1 - I)

Only what is given is kept for the gradient, and read once.
"""
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import library
from .arguments import check_tensor, require

# largest code, far above those of 8 bits: float32 holds all of them
MAX_CODE = 2**16
MASKS = ('clip', 'rounded')


def _check(x: Tensor, scale: Tensor, beta: Tensor | None,
           zero_point: Tensor | None, axis: int | None, low: int, high: int,
           mask: str) -> None:
    require(
        x.dtype in (torch.float32, torch.float64),
        f'x must be float32 or float64, it is {x.dtype}')
    require(-MAX_CODE <= low <= 0,
            f'low must be from -{MAX_CODE} to 0, it is {low}')
    require(0 <= high <= MAX_CODE,
            f'high must be from 0 to {MAX_CODE}, it is {high}')
    require(mask in MASKS, f"mask must be 'clip' or 'rounded', it is {mask!r}")
    require(
        axis is None or -x.dim() <= axis < x.dim(),
        f'axis must be one of the {x.dim()} dimensions of x, it is {axis}')
    num = 1 if axis is None else x.shape[axis]
    vectors = dict(scale=scale, beta=beta, zero_point=zero_point)
    for name, vector in vectors.items():
        if vector is not None:
            check_tensor(name, vector, x.dtype, x, (num, ))


def _along(x: Tensor, axis: int | None, *vectors: Tensor | None) -> tuple:
    """Vectors that broadcast with the values."""
    shape = [1] * x.dim()
    if axis is not None:
        shape[axis] = -1
    return tuple(None if v is None else v.view(shape) for v in vectors)


def _quantize(x: Tensor, scale: Tensor, beta: Tensor | None,
              zero_point: Tensor | None, axis: int | None, low: int, high: int,
              factor: float, mask: str) -> Tensor:
    _check(x, scale, beta, zero_point, axis, low, high, mask)
    scale, beta, zero_point = _along(x, axis, scale, beta, zero_point)
    # in place: each line is a pass over memory
    u = x / scale if beta is None else (x - beta).div_(scale)
    u.round_()
    if zero_point is None:
        u.clamp_(low, high).mul_(scale)
    else:
        z = zero_point.round()
        u.add_(z).clamp_(low, high).sub_(z).mul_(scale)
    return u if beta is None else u.add_(beta)


def _beyond(limit: int, sign: int, dtype: torch.dtype) -> float:
    """The number after an integer, away from 0, so that < stands for <=."""
    info = torch.finfo(dtype)
    ulp = info.eps * 2.**(abs(limit).bit_length() - 1)
    return limit + sign * (ulp if limit else info.tiny)


def _gradients(dy: Tensor,
               x: Tensor,
               scale: Tensor,
               beta: Tensor | None,
               zero_point: Tensor | None,
               axis: int | None,
               low: int,
               high: int,
               factor: float,
               mask: str,
               wanted: tuple[bool, ...] = (True, ) * 3) -> tuple:
    """By x, and those of scale, beta and zero_point that are wanted."""
    _check(x, scale, beta, zero_point, axis, low, high, mask)
    scale, beta, zero_point = _along(x, axis, scale, beta, zero_point)
    u = x / scale if beta is None else (x - beta).div_(scale)
    code = u.round()
    seen = u if mask == 'clip' else code
    below, above = _beyond(low, -1, u.dtype), _beyond(high, 1, u.dtype)
    if zero_point is not None:
        z = zero_point.round()
        seen = seen + z
        low, high = low - z, high - z

    def inside(values: Tensor) -> Tensor:
        # 0 elsewhere. By a mask of booleans, which has to be compared and
        # converted, it takes eight times as long on a CPU
        return torch.ops.aten.hardtanh_backward(values, seen, below, above)

    def summed(values: Tensor, by: float) -> Tensor:
        return values.sum_to_size(scale.shape).mul_(by).view(-1)

    dx = inside(dy)
    d_scale = d_beta = d_zero = None
    if wanted[0]:
        # before the clamp, which may change what is seen
        inner = inside(u)
        d_scale = summed(code.clamp_(low, high).sub_(inner).mul_(dy), factor)
    if beta is not None and wanted[1]:
        d_beta = summed(dy - dx, factor)
    if zero_point is not None and wanted[2]:
        d_zero = summed((dy - dx).mul_(scale), -factor)
    return dx, d_scale, d_beta, d_zero


def _empty_like(x: Tensor) -> Tensor:
    """With the strides of ``x``; contiguous if its memory has gaps."""
    same = torch.empty_like(x)
    return same if same.stride() == x.stride() else x.new_empty(x.shape)


def _laid_out_as(x: Tensor, values: Tensor) -> Tensor:
    same = _empty_like(x)
    return values if values.stride() == same.stride() else same.copy_(values)


def lsq_fake_quantize_reference(x: Tensor, *args) -> Tensor:
    """Definition of :func:`lsq_fake_quantize` in plain PyTorch."""
    return _laid_out_as(x, _quantize(x, *args))


def fake_lsq_fake_quantize(x: Tensor, scale: Tensor, beta: Tensor | None,
                           zero_point: Tensor | None, axis: int | None,
                           low: int, high: int, factor: float,
                           mask: str) -> Tensor:
    """Shape of :func:`lsq_fake_quantize`."""
    _check(x, scale, beta, zero_point, axis, low, high, mask)
    return _empty_like(x)


def lsq_fake_quantize_backward_reference(dy: Tensor, x: Tensor, scale: Tensor,
                                         *args) -> tuple:
    """Gradients of :func:`lsq_fake_quantize`, those of no offset empty."""
    check_tensor('dy', dy, x.dtype, x, x.shape)
    dx, d_scale, *offsets = _gradients(dy, x, scale, *args)
    offsets = (scale.new_empty(0) if d is None else d for d in offsets)
    return _laid_out_as(x, dx), d_scale, *offsets


def fake_lsq_fake_quantize_backward(dy: Tensor, x: Tensor, scale: Tensor,
                                    beta: Tensor | None,
                                    zero_point: Tensor | None,
                                    axis: int | None, low: int, high: int,
                                    factor: float, mask: str) -> tuple:
    """Shapes of the gradients."""
    check_tensor('dy', dy, x.dtype, x, x.shape)
    _check(x, scale, beta, zero_point, axis, low, high, mask)
    offsets = (
        scale.new_empty(0 if v is None else scale.shape)
        for v in (beta, zero_point))
    return _empty_like(x), scale.new_empty(scale.shape), *offsets


_ARGUMENTS = ('Tensor scale, Tensor? beta, Tensor? zero_point, int? axis, '
              'int low, int high, float factor, str mask')
library.register('lsq_fake_quantize', f'(Tensor x, {_ARGUMENTS}) -> Tensor',
                 lsq_fake_quantize_reference, fake_lsq_fake_quantize)
library.register(
    'lsq_fake_quantize_backward', f'(Tensor dy, Tensor x, {_ARGUMENTS}) -> '
    '(Tensor, Tensor, Tensor, Tensor)', lsq_fake_quantize_backward_reference,
    fake_lsq_fake_quantize_backward)

# where there are kernels, for float32
_DEVICES = [
    device.lower() for device in ('CPU', 'CUDA')
    if torch._C._dispatch_has_kernel_for_dispatch_key(
        'mmcompress::lsq_fake_quantize', device)
]


def _has_kernel(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type in _DEVICES


def _keep(ctx, inputs: tuple, output: Tensor | None = None) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.rest = inputs[4:]


class _FakeQuantize(torch.autograd.Function):
    """By the kernels or, where there are none, by what compilers see."""

    @staticmethod
    def forward(ctx, x: Tensor, *args) -> Tensor:
        _keep(ctx, (x, *args))
        if _has_kernel(x):
            return library.operators.lsq_fake_quantize(x, *args)
        return _quantize(x, *args)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple:
        args = *ctx.saved_tensors, *ctx.rest
        wanted = ctx.needs_input_grad[1:4]
        if _has_kernel(dy):
            gradients = library.operators.lsq_fake_quantize_backward(dy, *args)
            dx, *others = gradients
            others = (d if w else None for d, w in zip(others, wanted))
        else:
            dx, *others = _gradients(dy, *args, wanted)
        return dx, *others, None, None, None, None, None


# for those who call the operator itself
torch.library.register_autograd(
    'mmcompress::lsq_fake_quantize',
    _FakeQuantize.backward,
    setup_context=_keep)


def lsq_fake_quantize(x: Tensor,
                      scale: Tensor,
                      beta: Tensor | None = None,
                      zero_point: Tensor | None = None,
                      *,
                      low: int,
                      high: int,
                      axis: int | None = None,
                      factor: float = 1.,
                      mask: str = 'clip') -> Tensor:
    """Quantize and come back, with the gradients of the formulas above.

    Args:
        x (Tensor): float32, or float64 which has no kernel; any shape and
            strides.
        scale (Tensor): Positive, shape (K, ), of the type of ``x``.
        beta (Tensor | None): A real offset, shape (K, ).
        zero_point (Tensor | None): An integer one, shape (K, ), rounded here.
        low (int): The least code, from -65536 to 0.
        high (int): The largest code, from 0 to 65536.
        axis (int | None): Dimension of size K that scales go with. None: K is
            1.
        factor (float): g, of the gradients of all but ``x``.
        mask (str): Where the gradient passes: ``'clip'``, where ``u`` is in
            the range; ``'rounded'``, where the rounded ``u`` is.

    Returns:
        Tensor: Shape of ``x``. Where the memory of ``x`` has no gaps, it has
        its strides too, else it is contiguous.

    Raises:
        ValueError or RuntimeError: If arguments don't fit together.
    """
    return _FakeQuantize.apply(x, scale, beta, zero_point, axis, low, high,
                               factor, mask)
