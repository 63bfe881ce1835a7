"""In which precision sums over many elements are computed."""
import torch
from torch import Tensor


def at_least_float32(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Half precision to float32; float64 stays float64.

    Args:
        x (Tensor): Any shape.
        like (Tensor | None): Whose type counts. Defaults to ``x`` itself.

    Returns:
        Tensor: In float32, or in float64 if ``like`` is in that.
    """
    dtype = (x if like is None else like).dtype
    return x.to(torch.promote_types(dtype, torch.float32))


def as_real(x: Tensor) -> Tensor:
    """Integers, such as pixels, as float32; real numbers as they are."""
    return x if x.is_floating_point() else x.float()
