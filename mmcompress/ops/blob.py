"""Weights as the kernels read them: binary_prepack."""
import struct

import torch
from torch import Tensor

from . import library
from .arguments import (check_packed, check_tensor, check_weight_shape,
                        packed_bytes, require)
from .packing import unpack_bits


def _blob_header(weight_shape: list[int], groups: int) -> bytes:
    """What a blob of the reference begins with."""
    return b'mmcompress bits ' + struct.pack('<5q', *weight_shape, groups)


def _check_prepack(weight_bits: Tensor, weight_shape: list[int],
                   groups: int) -> None:
    check_packed('weight_bits', weight_bits)
    check_weight_shape(weight_shape, groups)
    num, channels, height, width = weight_shape
    check_tensor('weight_bits', weight_bits, torch.uint8, weight_bits,
                 (num, height, width, packed_bytes(channels)))


def binary_prepack_reference(weight_bits: Tensor,
                             weight_shape: list[int],
                             groups: int = 1,
                             isa: str = '') -> Tensor:
    """Definition of :func:`binary_prepack` in plain PyTorch."""
    _check_prepack(weight_bits, weight_shape, groups)
    require(
        isa in ('', 'reference'),
        f"isa must be '' or 'reference' without kernels, it is '{isa}'")
    header = torch.tensor(
        list(_blob_header(weight_shape, groups)),
        dtype=torch.uint8,
        device=weight_bits.device)
    return torch.cat([header, weight_bits.reshape(-1)])


def fake_binary_prepack(weight_bits: Tensor,
                        weight_shape: list[int],
                        groups: int = 1,
                        isa: str = '') -> Tensor:
    """Shape of :func:`binary_prepack`."""
    _check_prepack(weight_bits, weight_shape, groups)
    # only the kernels know how large their layout is
    size = torch.library.get_ctx().new_dynamic_size()
    return weight_bits.new_empty(size)


def binary_prepack(weight_bits: Tensor,
                   weight_shape: list[int],
                   groups: int = 1,
                   isa: str = '') -> Tensor:
    """Arrange packed weights as the kernels read them.

    Belongs into the loading of a model. The result depends on the machine, so
    it must not be stored.

    Args:
        weight_bits (Tensor): uint8, shape (K, kh, kw, 8 * ceil(C / groups /
            64)), which :func:`binary_pack` makes of weights of shape
            (K, C / groups, kh, kw).
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.
        groups (int): Defaults to 1.
        isa (str): Instruction set of the kernel; by default the one in use,
            see :func:`build_info`.

    Returns:
        Tensor: uint8, one dimension.
    """
    return library.operators.binary_prepack(weight_bits, weight_shape, groups,
                                            isa)


def weight_signs(blob: Tensor, weight_shape: list[int], groups: int) -> Tensor:
    """Weights of -1 and +1 from what :func:`binary_prepack` made."""
    num, channels, height, width = weight_shape
    num_bytes = packed_bytes(channels)
    wanted = _blob_header(weight_shape, groups)
    header, bits = blob[:len(wanted)], blob[len(wanted):]
    require(
        blob.dim() == 1 and bytes(header.tolist()) == wanted
        and bits.numel() == num * height * width * num_bytes,
        'blob was not made by binary_prepack for this weight_shape and '
        'groups, with the kernels in use on this device')
    bits = bits.view(num, height, width, num_bytes)
    signs = 2 * unpack_bits(bits, channels).to(torch.float32) - 1
    return signs.permute(0, 3, 1, 2)


library.register(
    'binary_prepack',
    "(Tensor weight_bits, int[] weight_shape, int groups=1, str isa='') "
    '-> Tensor', binary_prepack_reference, fake_binary_prepack)
