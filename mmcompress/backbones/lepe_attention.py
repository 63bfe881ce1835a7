"""Attention to all tokens of a map, with a depthwise convolution (LePE)."""
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


def check_channels(name: str, channels: int, num_heads: int) -> None:
    if channels % num_heads:
        raise ValueError(f'{name}={channels} channels do not divide into '
                         f'{num_heads} heads: choose a multiple')


def depthwise(dim: int, kernel_size: int) -> nn.Conv2d | None:
    if kernel_size == 0:
        return None
    if kernel_size < 0 or kernel_size % 2 == 0:
        raise ValueError(f'side_dwconv={kernel_size} must be odd, or 0 for no '
                         'convolution')
    return nn.Conv2d(
        dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)


class LePEAttention(nn.Module):
    """Attention of all tokens of a map to each other, and a convolution.

    The depthwise convolution is of the input, not of the values.

    Args:
        dim (int): Channels.
        side_dwconv (int): Kernel of the convolution. 0: none.
        num_heads (int): BiFormer has 8 of any width.
    """

    def __init__(self,
                 dim: int,
                 side_dwconv: int = 5,
                 num_heads: int = 8) -> None:
        super().__init__()
        check_channels('dim', dim, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.lepe = depthwise(dim, side_dwconv)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, H, W, C)."""
        qkv = self.qkv(x.flatten(1, 2)).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2).flatten(2).view_as(x)
        if self.lepe is not None:
            y = y + self.lepe(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.proj(y)


class NCHWLePEAttention(nn.Module):
    """The same, channels first, with the convolution of the values.

    Args:
        dim, side_dwconv, num_heads: See :class:`LePEAttention`.
    """

    def __init__(self,
                 dim: int,
                 side_dwconv: int = 5,
                 num_heads: int = 8) -> None:
        super().__init__()
        check_channels('dim', dim, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.proj = nn.Conv2d(dim, dim, 1)
        self.lepe = depthwise(dim, side_dwconv)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, C, H, W)."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        heads = (
            m.flatten(2).unflatten(1, (self.num_heads, -1)).transpose(2, 3)
            for m in (q, k, v))
        y = F.scaled_dot_product_attention(*heads)
        y = y.transpose(2, 3).reshape(x.shape)
        if self.lepe is not None:
            y = y + self.lepe(v)
        return self.proj(y)
