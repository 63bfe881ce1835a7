"""Weights of several bits as the kernels read them: integer_prepack."""
import math
import struct

import torch
from torch import Tensor

from . import library
from .arguments import check_tensor, check_weight_shape, require
from .weight_codes import WIDTHS, read_codes

# float32 holds every integer up to it
_EXACT = 2**24
_MAGIC = b'mmcompress codes'
_FIELDS = '<8q'
_HEADER = len(_MAGIC) + struct.calcsize(_FIELDS)


def check_codes(codes: Tensor, weight_shape: list[int], groups: int, bits: int,
                high: int) -> None:
    check_weight_shape(weight_shape, groups)
    require(bits in WIDTHS, f'bits must be 2, 4 or 8, it is {bits}')
    require(0 <= high <= 255, f'high must be 0 to 255, it is {high}')
    per_byte = 8 // bits
    wanted = -(-math.prod(weight_shape) // per_byte)
    check_tensor('codes', codes, torch.uint8, codes, (wanted, ))


def read_weight(codes: Tensor, weight_shape: list[int], groups: int, bits: int,
                high: int) -> Tensor:
    """Read stored codes, and check that 32 bits hold all sums of products.

    Returns:
        Tensor: int64, shape ``weight_shape``.

    Raises:
        ValueError: As :func:`integer_prepack`.
    """
    check_codes(codes, weight_shape, groups, bits, high)
    weight = read_codes(codes, weight_shape, bits)
    largest = int(weight.abs().flatten(1).sum(1).max()) * 255
    require(
        largest < 2**31,
        f'an output sums up to {largest}, which is more than 32 bits hold')
    return weight


def _num_parts(weight: Tensor, high: int) -> int:
    """Into how many parts of its channels a product splits to be exact."""
    size = weight.abs().sum((2, 3)) * high
    channels = size.shape[1]
    for num in range(1, channels + 1):
        parts = size.split(-(-channels // num), 1)
        if all(int(part.sum(1).max()) < _EXACT for part in parts):
            return num
    # no part of whole channels is
    return 0


def integer_prepack_reference(codes: Tensor,
                              weight_shape: list[int],
                              groups: int,
                              bits: int,
                              high: int,
                              isa: str = '') -> Tensor:
    """Definition of :func:`integer_prepack` in plain PyTorch."""
    weight = read_weight(codes, weight_shape, groups, bits, high)
    require(
        isa in ('', 'reference'),
        f"isa must be '' or 'reference' without kernels, it is '{isa}'")
    fields = struct.pack(_FIELDS, *weight_shape, groups, bits, high,
                         _num_parts(weight, high))
    header = torch.tensor(
        list(_MAGIC + fields), dtype=torch.uint8, device=codes.device)
    return torch.cat([header, weight.float().flatten().view(torch.uint8)])


def fake_integer_prepack(codes: Tensor,
                         weight_shape: list[int],
                         groups: int,
                         bits: int,
                         high: int,
                         isa: str = '') -> Tensor:
    """Shape of :func:`integer_prepack`."""
    check_codes(codes, weight_shape, groups, bits, high)
    # only the kernels know how large their layout is
    return codes.new_empty(torch.library.get_ctx().new_dynamic_size())


def integer_prepack(codes: Tensor,
                    weight_shape: list[int],
                    groups: int = 1,
                    bits: int = 8,
                    high: int = 255,
                    isa: str = '') -> Tensor:
    """Arrange stored codes as the kernels read them.

    Belongs into the loading of a model. The result depends on the machine, so
    it must not be stored.

    Args:
        codes (Tensor): uint8, one dimension, which :func:`store_codes` makes
            of weights of shape (K, C / groups, kh, kw).
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.
        groups (int): Defaults to 1.
        bits (int): Of a stored code: 2, 4 or 8.
        high (int): The largest code of any input; less than 255 may be
            faster.
        isa (str): Instruction set of the kernel; by default the one in use,
            see :func:`build_info`.

    Returns:
        Tensor: uint8, one dimension.

    Raises:
        ValueError: If the sizes don't fit together, or a sum may exceed 32
            bits.
    """
    return library.operators.integer_prepack(codes, weight_shape, groups, bits,
                                             high, isa)


def weight_values(blob: Tensor, weight_shape: list[int], groups: int,
                  bits: int, high: int) -> tuple[Tensor, int]:
    """What :func:`integer_prepack_reference` made, for codes up to ``high``.

    Returns:
        tuple[Tensor, int]: Codes, float32, of the weight's shape; and the
        number of parts of the channels whose sums float32 holds, 0 for none.
    """
    require(blob.dim() == 1 and blob.dtype == torch.uint8,
            'blob must be a vector of uint8')
    header, values = blob[:_HEADER], blob[_HEADER:]
    found = bytes(header.tolist())
    wanted = _MAGIC + struct.pack('<6q', *weight_shape, groups, bits)
    require(
        found.startswith(wanted)
        and values.numel() == 4 * math.prod(weight_shape),
        'blob was not made by integer_prepack for this weight_shape, groups '
        'and bits, with the kernels in use on this device')
    most, num_parts = struct.unpack_from('<2q', found, _HEADER - 16)
    require(
        high <= most, f'grid has codes up to {high}, blob was made by '
        f'integer_prepack for codes up to {most}')
    return values.view(torch.float32).view(weight_shape), num_parts


library.register(
    'integer_prepack',
    '(Tensor codes, int[] weight_shape, int groups, int bits, int high, '
    "str isa='') -> Tensor", integer_prepack_reference, fake_integer_prepack)
