"""Weights as they are stored: one bit each, without any filler."""
import torch
from torch import Tensor

from mmcompress.ops import packed_bytes


def num_bytes(weight_shape: list[int]) -> int:
    """Bytes that hold the weights: an eighth of their number."""
    return (torch.Size(weight_shape).numel() + 7) // 8


def store_signs(signs: Tensor) -> Tensor:
    """Pack signs.

    Args:
        signs (Tensor): -1 and +1, shape (K, C / groups, kh, kw).

    Returns:
        Tensor: uint8, one dimension. The weights in the order (K, kh, kw,
        C / groups), eight to a byte, least significant bit first; +1 is the
        bit 1. The last byte is filled up with 0.
    """
    bits = (signs > 0).permute(0, 2, 3, 1).flatten()
    packed = bits.new_zeros(
        8 * num_bytes(list(signs.shape)), dtype=torch.uint8)
    packed[:bits.numel()] = bits
    places = torch.arange(8, device=bits.device)
    return (packed.view(-1, 8) << places).sum(-1, dtype=torch.uint8)


def weight_rows(stored: Tensor, weight_shape: list[int]) -> Tensor:
    """What :func:`mmcompress.ops.binary_prepack` takes.

    Args:
        stored (Tensor): From :func:`store_signs`.
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.

    Returns:
        Tensor: uint8, shape (K, kh, kw, 8 * ceil(C / groups / 64)). The same
        bytes, where the number of channels is a multiple of 64.
    """
    num, channels, height, width = weight_shape
    row = packed_bytes(channels)
    if 8 * row == channels:
        return stored.view(num, height, width, row)
    places = torch.arange(8, device=stored.device)
    bits = ((stored[:, None] >> places) & 1).flatten()
    rows = bits.new_zeros((num, height, width, 8 * row))
    rows[..., :channels] = bits[:torch.Size(weight_shape).numel()].view(
        num, height, width, channels)
    return (rows.unflatten(-1, (-1, 8)) << places).sum(-1, dtype=torch.uint8)
