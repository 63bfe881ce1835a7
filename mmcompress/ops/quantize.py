"""Real values to the codes that integer operators read: quantize_codes."""
import torch
from torch import Tensor

from . import library
from .arguments import check_image, check_tensor, empty_image, require


def check_grid(name: str, grid: list[int]) -> None:
    """Check ``[zero_point, low, high]``.

    Raises:
        ValueError: Unless they are codes of 8 bits, in order.
    """
    require(
        len(grid) == 3 and 0 <= grid[1] <= grid[0] <= grid[2] <= 255,
        f'{name} must be [zero_point, low, high] with 0 <= low <= zero_point '
        f'<= high <= 255, it is {list(grid)}')


def check_scale(name: str, scale: Tensor, like: Tensor) -> None:
    """Check the scale of a whole tensor."""
    check_tensor(name, scale, torch.float32, like, (1, ))


def _check(x: Tensor, scale: Tensor, grid: list[int],
           channels_last: bool) -> None:
    require(x.dtype == torch.float32, f'x must be float32, it is {x.dtype}')
    if channels_last:
        check_image('x', x)
    check_scale('scale', scale, x)
    check_grid('grid', grid)


def round_codes(steps: Tensor, grid: list[int]) -> Tensor:
    """Codes of values in units of their scale, which it overwrites."""
    zero_point, low, high = grid
    codes = steps.round_().add_(zero_point).clamp_(low, high)
    return codes.nan_to_num_(low).to(torch.uint8)


def quantize_codes_reference(x: Tensor,
                             scale: Tensor,
                             grid: list[int],
                             channels_last: bool = False) -> Tensor:
    """Definition of :func:`quantize_codes` in plain PyTorch."""
    _check(x, scale, grid, channels_last)
    # a scalar would become a vector
    codes = round_codes(x / scale, grid).view(x.shape)
    return fake_quantize_codes(x, scale, grid, channels_last).copy_(codes)


def fake_quantize_codes(x: Tensor,
                        scale: Tensor,
                        grid: list[int],
                        channels_last: bool = False) -> Tensor:
    """Shape of :func:`quantize_codes`."""
    _check(x, scale, grid, channels_last)
    if channels_last:
        return empty_image(x, x.shape, torch.uint8)
    return torch.empty(x.shape, dtype=torch.uint8, device=x.device)


def quantize_codes(x: Tensor,
                   scale: Tensor,
                   grid: list[int],
                   channels_last: bool = False) -> Tensor:
    """Round to the integers of a grid: ``clamp(round(x / scale) + zero)``.

    It divides, and rounds halves to even numbers, as quantizers do in
    training. NaN becomes the lowest code.

    Args:
        x (Tensor): float32, any shape.
        scale (Tensor): float32, shape (1, ).
        grid (list[int]): Zero point, lowest and highest code, 0 to 255.
        channels_last (bool): ``x`` is an image, (N, C, H, W), and the codes
            get channels-last memory. Defaults to False: contiguous.

    Returns:
        Tensor: uint8, shape of ``x``.
    """
    return library.operators.quantize_codes(x, scale, grid, channels_last)


library.register(
    'quantize_codes', '(Tensor x, Tensor scale, int[] grid, '
    'bool channels_last=False) -> Tensor', quantize_codes_reference,
    fake_quantize_codes)
