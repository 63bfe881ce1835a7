"""TINC files: everything that the decoder needs, and nothing else.

All numbers are little endian::

    'TINC', version                                        4 + 1 bytes
    dtype, axes, channels                                  1 + 1 + 1
    pixels along each axis                                 2 each
    the values of -1 and 1, float32                        4 + 4
    levels, bits of weights, fine bits                     1 + 1 + 1
    sine layers of a node, by level                        1 each
    least and largest width of a node, by level            2 + 2 each
    of the weights and of the biases of each layer:
        scale, float16; mean of codes, distribution        2 + 1 + 1 each
    range coder: widths of all nodes, then all codes       32-bit words
    CRC-32 of all before                                   4

Shapes of layers follow from the widths. The codes are signed integers; times
the scale they are the parameters. Those of biases and of the weights of the
coordinates have the fine bits.
"""
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch

from .coding import (NUM_DISTRIBUTIONS, Decoder, Encoder, FormatError,
                     fit_distribution)
from .network import TreeSiren
from .plan import Plan
from .signal import DTYPES, Signal, from_normalized
from .tree import Tree

MAGIC = b'TINC'
VERSION = 1
# a range coder ends within a word, and each list of codes costs a little more
# than its bits, since probabilities are multiples of 2^-24
_SPARE_BITS = 64
# means of codes are of one byte
_MOST_BITS = 8


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says before its codes.

    Attributes:
        dtype (str): Of pixels.
        low (float): The pixel that -1 stands for.
        high (float): The pixel that 1 stands for.
        bits (tuple[int, int]): Of weights, and the fine ones.
        plan (Plan): Shapes.
        scales (list[float]): Of the weights and biases of each layer.
        codes (list[np.ndarray]): Likewise.
    """
    dtype: str
    low: float
    high: float
    bits: tuple[int, int]
    plan: Plan
    scales: list[float]
    codes: list[np.ndarray]


def _num_fixed(plan: Plan) -> int:
    """Bytes of the file that aren't in the range coder."""
    tensors = 2 * (sum(plan.layers) + 1)
    return 4 + 1 + 3 + 2 * plan.tree.dims + 8 + 3 + 5 * len(
        plan.layers) + 4 * tensors + 4


def largest_size(plan: Plan, bits: tuple[int, int]) -> int:
    """Bytes that a file of a plan has at most.

    Args:
        plan (Plan): Shapes.
        bits (tuple[int, int]): Of weights, and the fine ones.
    """
    fine = plan.num_biases() + plan.num_frequencies()
    coarse = plan.num_weights() - plan.num_frequencies()
    coded = _SPARE_BITS + bits[0] * coarse + bits[1] * fine
    for widths in plan.widths:
        coded += len(widths) * np.log2(np.ptp(widths) + 1)
    return _num_fixed(plan) + 4 * int(np.ceil(coded / 32))


def check_axes(shape: tuple[int, ...], channels: int) -> None:
    """Check that a file holds so many pixels along each axis.

    Raises:
        ValueError: If it doesn't.
    """
    if max(shape) > 65535 or channels > 255:
        raise ValueError('a TINC file has at most 65535 pixels along an axis '
                         f'and 255 channels, got {shape} and {channels}')


def _range(bits: int) -> tuple[int, int]:
    return -2**(bits - 1), 2**(bits - 1) - 1


def _is_fine(tensor: int) -> bool:
    """Biases, and the weights of the coordinates, which come first."""
    return tensor % 2 == 1 or tensor == 0


def _codes_of(network: TreeSiren) -> tuple[list, list]:
    """Codes and scales of all tensors.

    Raises:
        ValueError: If a quantizer has other levels than signed integers times
            one scale, or there is none.
    """
    codes, scales = [], []
    for parameter, quantizer in network.tensors():
        if quantizer is None:
            raise ValueError('a TINC file holds codes, so all weights and '
                             'biases need quantizers')
        found = quantizer.quantize_int(parameter)
        low, high = _range(quantizer.bits)
        values = found.values.cpu().numpy().astype(np.int64)
        offsets = (
            torch.as_tensor(o) for o in (found.zero_point, found.offset))
        if found.scale.numel() != 1 or any(o.any() for o in offsets) or \
                values.min() < low or values.max() > high:
            raise ValueError(
                f'{type(quantizer).__name__}: a TINC file holds signed '
                'integers times one scale; use such a quantizer, as LSQ '
                'without an offset is')
        scale = np.float16(found.scale.item())
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f'the scale {found.scale.item()} is beyond '
                             'float16: training went astray, lower its rate')
        codes.append(values)
        scales.append(float(scale))
    return codes, scales


def encode(network: TreeSiren, signal: Signal) -> bytes:
    """Write a trained network.

    Args:
        network (TreeSiren): With quantizers.
        signal (Signal): What it was trained for: its dtype and range.

    Raises:
        ValueError: If the quantizers don't fit, or an axis has more than
            65535 pixels.
    """
    plan = network.plan
    check_axes(plan.tree.shape, plan.channels)
    codes, scales = _codes_of(network)
    # of a layer behind the first
    bits = tuple(q.bits for _, q in network.tensors()[2:4])
    parts = [
        struct.pack('<4sB3B', MAGIC, VERSION,
                    DTYPES.index(signal.pixels.dtype.name), plan.tree.dims,
                    plan.channels),
        struct.pack(f'<{plan.tree.dims}H', *plan.tree.shape),
        struct.pack('<ff3B', signal.low, signal.high, len(plan.layers), *bits),
        bytes(plan.layers)
    ]
    encoder = Encoder()
    for widths in plan.widths:
        low, high = int(widths.min()), int(widths.max())
        parts.append(struct.pack('<2H', low, high))
        encoder.uniform(widths, low, high)
    for i, (values, scale) in enumerate(zip(codes, scales)):
        low, high = _range(bits[_is_fine(i)])
        number, mean = fit_distribution(values, low, high)
        parts.append(struct.pack('<ebB', scale, mean, number))
        encoder.fitted(values, number, mean, low, high)
    parts.append(encoder.get_bytes())
    data = b''.join(parts)
    return data + struct.pack('<I', zlib.crc32(data))


class _Reader:
    """Takes numbers from the front of bytes."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, form: str) -> tuple:
        size = struct.calcsize(form)
        if len(self.rest) < size:
            raise FormatError('the TINC file ends within its header')
        numbers = struct.unpack(form, self.rest[:size])
        self.rest = self.rest[size:]
        return numbers


def _check(data: bytes) -> None:
    if data[:4] != MAGIC:
        raise FormatError(f'this is no TINC file: it begins with '
                          f'{bytes(data[:4])!r}, not {MAGIC!r}')
    if len(data) > 4 and data[4] != VERSION:
        raise FormatError(f'the TINC file is of version {data[4]}, and this '
                          f'program reads version {VERSION}')
    if len(data) < 9 or zlib.crc32(data[:-4]) != struct.unpack(
            '<I', data[-4:])[0]:
        raise FormatError(f'the TINC file is cut short or damaged: the check '
                          f'sum of its {len(data)} bytes is wrong')


def _read_plan(reader: _Reader, tree: Tree, channels: int) -> tuple:
    layers = reader.take(f'<{tree.levels}B')
    edges = [reader.take('<2H') for _ in layers]
    tensors = [reader.take('<ebB') for _ in range(2 * (sum(layers) + 1))]
    if 0 in layers or not all(1 <= least <= most for least, most in edges):
        raise FormatError('the TINC file has nodes without layers or units')
    if not all(0 < scale < np.inf and number <= NUM_DISTRIBUTIONS
               for scale, _, number in tensors):
        raise FormatError('the TINC file has an unknown distribution, or '
                          'scales that are not positive')
    decoder = Decoder(reader.rest)
    widths = [
        decoder.uniform(tree.num_nodes(level), *edge)
        for level, edge in enumerate(edges)
    ]
    return Plan(tree, channels, layers, widths), tensors, decoder


def read(data: bytes) -> Header:
    """Read a file's bytes.

    Raises:
        FormatError: If they are not of a TINC file, of another version, or
            not as they were written.
    """
    _check(data)
    reader = _Reader(data[5:-4])
    kind, dims, channels = reader.take('<3B')
    if kind >= len(DTYPES) or dims not in (2, 3) or channels == 0:
        raise FormatError(f'the TINC file has pixels of kind {kind} with '
                          f'{dims} axes and {channels} channels, which are '
                          'unknown')
    shape = reader.take(f'<{dims}H')
    low, high, levels, *bits = reader.take('<ff3B')
    if not all(2 <= b <= _MOST_BITS
               for b in bits) or not np.isfinite([low, high]).all():
        raise FormatError(f'the TINC file has codes of {bits} bits for values '
                          f'from {low} to {high}, which are impossible')
    try:
        tree = Tree(shape, levels)
    except ValueError as error:
        raise FormatError(f'the TINC file has no such tree: {error}') from None
    plan, tensors, decoder = _read_plan(reader, tree, channels)
    codes = []
    for i, (_, mean, number) in enumerate(tensors):
        layer = plan.shapes()[i // 2]
        count = sum(b if i % 2 else a * b for a, b in layer)
        codes.append(
            decoder.fitted(count, number, mean, *_range(bits[_is_fine(i)])))
    return Header(DTYPES[kind], low, high, tuple(bits), plan,
                  [scale for scale, _, _ in tensors], codes)


@torch.no_grad()
def decode(data: bytes) -> Signal:
    """Reconstruct the signal of a file.

    With other numbers of threads or another processor, sums are rounded in
    another order, so that an integer pixel may differ by 1 where its value is
    about halfway between two integers, and real ones in their last bits.

    Raises:
        FormatError: As :func:`read`.
    """
    header = read(data)
    network = TreeSiren(header.plan, omega_0=None)
    for (parameter, _), codes, scale in zip(network.tensors(), header.codes,
                                            header.scales):
        parameter.copy_(torch.from_numpy(codes * np.float32(scale)))
    tree = header.plan.tree
    coordinates = torch.from_numpy(tree.coordinates())
    # parts of about 2^17 pixels bound the memory
    size = max(1, 2**17 // tree.num_leaves)
    blocks = torch.cat([network(part) for part in coordinates.split(size)], 1)
    values = tree.join(blocks.numpy())
    return from_normalized(values, header.low, header.high, header.dtype)
