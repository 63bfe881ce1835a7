"""A block of BiFormer, and norms between channels of maps."""
import torch
import torch.nn as nn
from mmcv.cnn.bricks import DropPath
from torch import Tensor


class LayerNorm2d(nn.LayerNorm):
    """Normalises the channels of each pixel of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _DWConv(nn.Module):
    """Depthwise 3x3 convolution of (N, H, W, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class BiFormerBlock(nn.Module):
    """Depthwise convolution, attention and MLP, each with a shortcut.

    Args:
        dim (int): Channels.
        attn (nn.Module): Keeps the shape of a map.
        channels_first (bool): Whether ``attn`` takes (N, C, H, W), else
            (N, H, W, C).
        mlp_ratio (float): Hidden channels of the MLP by ``dim``.
        mlp_dwconv (bool): A depthwise convolution inside of the MLP.
        before_attn_dwconv (int): Kernel of the first convolution. 0: none.
        layer_scale_init_value (float): Where factors of each channel of the
            residuals start. 0: there are none.
        pre_norm (bool): Norms before attention and MLP, else after the sums.
        drop_path (float): How often a residual is left out.
    """

    def __init__(self,
                 dim: int,
                 attn: nn.Module,
                 channels_first: bool = False,
                 mlp_ratio: float = 4.,
                 mlp_dwconv: bool = False,
                 before_attn_dwconv: int = 3,
                 layer_scale_init_value: float = 0.,
                 pre_norm: bool = True,
                 drop_path: float = 0.) -> None:
        super().__init__()
        self.pos_embed = None
        if before_attn_dwconv > 0:
            self.pos_embed = nn.Conv2d(
                dim,
                dim,
                before_attn_dwconv,
                padding=before_attn_dwconv // 2,
                groups=dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        hidden = int(mlp_ratio * dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden),
            _DWConv(hidden) if mlp_dwconv else nn.Identity(), nn.GELU(),
            nn.Linear(hidden, dim))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.channels_first = channels_first
        self.pre_norm = pre_norm
        self.gamma1 = self.gamma2 = 1.
        if layer_scale_init_value > 0:
            scale = layer_scale_init_value * torch.ones(dim)
            self.gamma1 = nn.Parameter(scale.clone())
            self.gamma2 = nn.Parameter(scale)

    def _attend(self, x: Tensor) -> Tensor:
        if self.channels_first:
            return self.attn(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.attn(x)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, C, H, W)."""
        if self.pos_embed is not None:
            x = x + self.pos_embed(x)
        x = x.permute(0, 2, 3, 1)
        parts = ((self.norm1, self._attend, self.gamma1),
                 (self.norm2, self.mlp, self.gamma2))
        for norm, part, gamma in parts:
            if self.pre_norm:
                x = x + self.drop_path(gamma * part(norm(x)))
            else:
                x = norm(x + self.drop_path(gamma * part(x)))
        return x.permute(0, 3, 1, 2)
