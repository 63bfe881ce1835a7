"""Points, features and tokens as the pixels of an image, and back."""
from torch import Tensor


def as_pixels(x: Tensor, channels_last: bool) -> Tensor:
    """What a 1x1 convolution takes in place of a linear layer's input.

    Args:
        x (Tensor): Shape (N, C, H, W), points (N, C, L) or features (N, C);
            with ``channels_last`` tokens (..., C).
        channels_last (bool): The input is that of a linear layer.

    Returns:
        Tensor: Shape (N, C, H, W), (N, C, L, 1), or, for features and tokens,
        (1, C, 1, their number).
    """
    if channels_last or x.dim() <= 2:
        # without any token there is no image: none has zero pixels
        leading = (1, 1, -1) if x.numel() else (0, 1, 1)
        return x.reshape(*leading, x.shape[-1]).permute(0, 3, 1, 2)
    return x if x.dim() == 4 else x.unsqueeze(-1)


def from_pixels(y: Tensor, like: Tensor, channels_last: bool) -> Tensor:
    """Undo :func:`as_pixels`.

    Args:
        y (Tensor): Shape (N, C', H', W'), of the input's image.
        like (Tensor): The input.
        channels_last (bool): As for :func:`as_pixels`.

    Returns:
        Tensor: With as many dimensions as the input.
    """
    if channels_last or like.dim() <= 2:
        return y.permute(0, 2, 3, 1).reshape(*like.shape[:-1], y.shape[1])
    return y if like.dim() == 4 else y.squeeze(-1)
