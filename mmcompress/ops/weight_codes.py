"""Integer weights as they are stored: 2, 4 or 8 bits each."""
import torch
from torch import Tensor

WIDTHS = (2, 4, 8)


def stored_bits(bits: int) -> int:
    """Bits that a code takes; a byte holds a whole number of codes."""
    if not 1 < bits <= 8:
        raise ValueError(f'codes have 2 to 8 bits, got {bits}')
    return next(width for width in WIDTHS if width >= bits)


def store_codes(codes: Tensor, bits: int) -> Tensor:
    """Pack codes, in two's complement.

    Args:
        codes (Tensor): Integers in [-2**(bits - 1), 2**(bits - 1)), any shape.
        bits (int): Of a code, 2 to 8; stored are 2, 4 or 8.

    Returns:
        Tensor: uint8, one dimension, the first code in the lowest bits of the
        first byte. The last byte is filled up with 0.

    Raises:
        ValueError: If a code doesn't fit.
    """
    width = stored_bits(bits)
    flat = codes.flatten().to(torch.int64)
    limit = 2**(bits - 1)
    if flat.numel() and (flat.min() < -limit or flat.max() >= limit):
        raise ValueError(f'codes of {bits} bits are in [{-limit}, {limit}), '
                         f'got {int(flat.min())} to {int(flat.max())}')
    per_byte = 8 // width
    padded = flat.new_zeros(-(-flat.numel() // per_byte) * per_byte)
    padded[:flat.numel()] = flat & (2**width - 1)
    places = width * torch.arange(per_byte, device=flat.device)
    return (padded.view(-1, per_byte) << places).sum(-1).to(torch.uint8)


def read_codes(stored: Tensor, shape: list[int], bits: int) -> Tensor:
    """Undo :func:`store_codes`.

    Args:
        stored (Tensor): uint8, one dimension.
        shape (list[int]): Of the codes.
        bits (int): Of a code.

    Returns:
        Tensor: int64.
    """
    width = stored_bits(bits)
    places = width * torch.arange(8 // width, device=stored.device)
    codes = (stored[:, None].long() >> places) & (2**width - 1)
    codes = codes.flatten()[:torch.Size(shape).numel()].view(shape)
    return codes - (codes >= 2**(width - 1)) * 2**width
