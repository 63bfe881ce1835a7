"""Does an engine compute what the definition says? Asked once per process.

The layers are small, yet of every kind that libraries have a loop of their
own for, with codes at the extremes, where sums of 16 bits saturate, and with
random ones.
"""
from typing import TYPE_CHECKING, Iterator

import torch
from torch import Tensor

from . import library
from .weight_codes import store_codes

if TYPE_CHECKING:
    from .engines import Engine

# (K, C / groups, kh, kw), groups, stride, padding, dilation
_LAYERS = {
    '3x3': ([40, 68, 3, 3], 1, [1, 1], [1, 1], [1, 1]),
    'dilated': ([32, 32, 3, 3], 1, [1, 1], [2, 2], [2, 2]),
    '1x1': ([64, 72, 1, 1], 1, [1, 1], [0, 0], [1, 1]),
    'strided 1x1': ([32, 64, 1, 1], 1, [2, 2], [0, 0], [1, 1]),
    'first': ([32, 3, 7, 7], 1, [2, 2], [3, 3], [1, 1]),
    'grouped': ([32, 16, 3, 3], 2, [1, 1], [1, 1], [1, 1]),
    'depthwise': ([48, 1, 3, 3], 48, [1, 1], [1, 1], [1, 1])
}
# code of the input, of the weight, zero point of the input
_EXTREMES = ((255, -128, 0), (255, 127, 0), (170, 85, 0), (0, -128, 255))


def _integers(low: int, high: int, shape: list[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator)


def _vector(size: int, seed: int) -> Tensor:
    """Numbers that use all bits of float32, of both signs."""
    return _integers(-10**7, 10**7, [size], seed) / 3e7


def _calls(layer: tuple, code: int | None, zero_point: int) -> Iterator[tuple]:
    """Operators to call: their name, arguments before and after the blob."""
    shape, groups, *moves = layer
    channels = shape[1] * groups
    x = _integers(0, 255, [2, channels, 9, 10], 1).to(torch.uint8)
    if code is not None:
        x.fill_(code)
    x = x.contiguous(memory_format=torch.channels_last)
    step, next_step = torch.tensor([0.0123]), torch.tensor([0.0567])
    scale, bias = _vector(shape[0], 2) / 99, _vector(shape[0], 3)
    grid, next_grid = [zero_point, 0, 255], [zero_point + 3, 3, 250]
    conv = (shape, *moves, groups, 8, grid)
    plain = (step, scale, bias, None, None, *conv, '', [])
    yield 'integer_conv2d', x, plain
    if groups == 1 and shape[2:] == [1, 1]:
        rows = x[0, :, 0].t().contiguous()
        for part in rows, rows[:1]:
            yield 'integer_linear', part, (step, scale, bias, shape, 8, grid)
    if code is not None:
        return
    y, _ = library.reference.integer_conv2d(
        x, library.reference.integer_prepack(*_weight(layer, None)), *plain)
    # of both signs and some halves
    residual = y.flip(1) * 0.75
    for act in '', 'relu', 'relu6':
        yield 'integer_conv2d', x, (step, scale, bias, residual, next_step,
                                    *conv, act, next_grid)
        yield 'integer_conv2d_codes', x, (step, scale, None, next_step, *conv,
                                          act, next_grid)
    yield 'integer_conv2d', step * (x - 99.5), (step, scale, None, None, None,
                                                *conv, 'relu', [])


def _weight(layer: tuple, code: int | None) -> tuple:
    """Arguments of integer_prepack."""
    shape, groups = layer[:2]
    weight = _integers(-128, 127, shape, 4)
    if code is not None:
        weight.fill_(code)
    return store_codes(weight, 8), shape, groups, 8, 255


def _equal(found: Tensor | tuple, wanted: Tensor | tuple) -> bool:
    """Equal numbers; of zeros the sign doesn't count, ReLUs differ in it."""
    if isinstance(wanted, Tensor):
        return torch.equal(found.cpu(), wanted)
    return all(map(_equal, found, wanted))


def _differs(engine: 'Engine', layer: tuple, x_code: int | None,
             weight_code: int | None, zero_point: int,
             device: torch.device) -> bool:
    weight = _weight(layer, weight_code)
    definition = library.reference.integer_prepack(*weight)
    blob = engine.integer_prepack(weight[0].to(device), *weight[1:])
    for name, x, rest in _calls(layer, x_code, zero_point):
        wanted = getattr(library.reference, name)(x, definition, *rest)
        moved = [r.to(device) if isinstance(r, Tensor) else r for r in rest]
        found = getattr(engine, name)(x.to(device), blob, *moved)
        if not _equal(found, wanted):
            return True
    return False


def difference(engine: 'Engine', device: torch.device) -> str:
    """Compare an engine with the definition, bit for bit.

    Args:
        engine (Engine): That is there.
        device (torch.device): To run it on.

    Returns:
        str: In words what differs, empty if nothing.
    """
    for name, layer in _LAYERS.items():
        for codes in _EXTREMES:
            if _differs(engine, layer, *codes, device):
                return ('differs from the definition at extremes (input codes '
                        '{}, weight codes {}, zero point {}; '.format(*codes) +
                        f'{name} layer): without VNNI sums of 16 bits '
                        'saturate')
        for zero_point in 0, 128:
            if _differs(engine, layer, None, None, zero_point, device):
                return ('differs from the definition for random codes (zero '
                        f'point {zero_point}, {name} layer)')
    return ''
