"""Bi-level routing attention: regions choose regions, then tokens attend.

The means of queries and keys over regions of a map say which few regions each
region looks at; ordinary attention of its tokens to theirs follows. A
depthwise convolution (LePE) adds what is near. Both layouts of the official
code are here, which differ where a map does not divide into regions.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.ops import routed_attention
from mmcompress.ops.routed_attention import (attend_regions, gather_regions,
                                             join_regions, split_regions)
from .lepe_attention import check_channels, depthwise


def region_means(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Means over the tokens of regions.

    Args:
        x (Tensor): Shape (N, H, W, C), which the grid divides.
        grid (tuple[int, int]): Regions along H and along W.

    Returns:
        Tensor: Shape (N, R, C).
    """
    region = x.shape[1] // grid[0], x.shape[2] // grid[1]
    # many times as fast as a mean over two dimensions
    means = F.avg_pool2d(x.permute(0, 3, 1, 2), region)
    return means.flatten(2).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, routes: Tensor,
           grid: tuple[int, int], num_heads: int, scale: float) -> Tensor:
    """:func:`mmcompress.ops.routed_attention` for any type and device."""
    # exporters to ONNX don't know the operator
    if (q.dtype == torch.float32 and q.device.type == 'cpu'
            and not torch.onnx.is_in_onnx_export()):
        return routed_attention(q, k, v, routes, grid, num_heads, scale)
    y, _ = attend_regions(
        split_regions(q, grid), gather_regions(split_regions(k, grid), routes),
        gather_regions(split_regions(v, grid), routes), num_heads, scale)
    return join_regions(y, grid, q.shape[1:3])


def _check_topk(topk: int, num_regions: int) -> None:
    if not 1 <= topk <= num_regions:
        raise ValueError(
            f'topk={topk}: a region looks at 1 to {num_regions} regions, all '
            'that n_win makes of a map')


class _Router(nn.Module):
    """Chooses regions; the learned projection of their means is optional."""

    def __init__(self, dim: int, topk: int, scale: float, learned: bool,
                 differentiable: bool) -> None:
        super().__init__()
        self.emb = nn.Linear(dim, dim) if learned else nn.Identity()
        self.topk = topk
        self.scale = scale
        self.differentiable = differentiable

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """From means, (N, R, D), to weights and regions, each (N, R, topk)."""
        if not self.differentiable:
            q, k = q.detach(), k.detach()
        affinity = (self.emb(q) * self.scale) @ self.emb(k).transpose(1, 2)
        affinity, routes = affinity.topk(self.topk, dim=-1)
        return affinity.softmax(-1), routes


class _QKV(nn.Module):
    """Queries, keys and values of one projection."""

    def __init__(self, dim: int, qk_dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 2 * qk_dim + dim)
        self.sizes = [qk_dim, qk_dim, dim]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.qkv(x).split(self.sizes, dim=-1)


def _build_pool(mode: str, per_win: int, ratio: int) -> nn.Module:
    pools = dict(
        identity=lambda: nn.Identity(),
        ada_avgpool=lambda: nn.AdaptiveAvgPool2d(per_win),
        ada_maxpool=lambda: nn.AdaptiveMaxPool2d(per_win),
        avgpool=lambda: nn.AvgPool2d(ratio),
        maxpool=lambda: nn.MaxPool2d(ratio))
    if mode not in pools:
        raise ValueError(f'kv_downsample_mode={mode!r}: choose of '
                         f'{sorted(pools)}')
    if per_win < 1 and mode.startswith('ada_'):
        raise ValueError(f'kv_per_win={per_win}: {mode} needs how many keys a '
                         'region keeps along each side, at least 1')
    if ratio < 1 and mode in ('avgpool', 'maxpool'):
        raise ValueError(f'kv_downsample_ratio={ratio}: {mode} needs a ratio '
                         'of at least 1')
    return pools[mode]()


class BiLevelRoutingAttention(nn.Module):
    """Routed attention in the layout of the released checkpoints.

    A map that does not divide into regions is padded with zeros before the
    projection if ``auto_pad`` says so: tokens of the padding count in the
    means, and are attended to.

    Args:
        dim (int): Channels.
        num_heads (int): Divides ``dim`` and ``qk_dim``.
        n_win (int): Regions along each side of the map.
        topk (int): Regions that a region looks at. ``n_win**2``: all, which
            is attention to all tokens.
        qk_dim (int | None): Channels of queries and keys. None: ``dim``. The
            scores are scaled by its root, not by that of a head's channels.
        side_dwconv (int): Kernel of the convolution of values. 0: none.
        auto_pad (bool): Pad maps that do not divide.
        kv_downsample_mode (str): How keys and values are pooled within each
            region: ``'identity'`` is not at all; ``'ada_avgpool'`` and
            ``'ada_maxpool'`` to ``kv_per_win**2`` of them, ``'avgpool'`` and
            ``'maxpool'`` by ``kv_downsample_ratio`` along each side.
        kv_per_win (int): See there.
        kv_downsample_ratio (int): See there.
        param_routing (bool): Means pass a linear layer before they are
            compared.
        diff_routing (bool): The weights of ``soft_routing`` have a gradient
            with respect to queries and keys.
        soft_routing (bool): Keys and values are multiplied by the softmax of
            the affinities of their region.

    Raises:
        ValueError: If options don't fit together; in ``forward`` if the map
            doesn't divide.
    """

    def __init__(self,
                 dim: int,
                 num_heads: int = 8,
                 n_win: int = 7,
                 topk: int = 4,
                 qk_dim: int | None = None,
                 side_dwconv: int = 5,
                 auto_pad: bool = False,
                 kv_downsample_mode: str = 'identity',
                 kv_per_win: int = 4,
                 kv_downsample_ratio: int = 4,
                 param_routing: bool = False,
                 diff_routing: bool = False,
                 soft_routing: bool = False) -> None:
        super().__init__()
        qk_dim = qk_dim or dim
        check_channels('dim', dim, num_heads)
        check_channels('qk_dim', qk_dim, num_heads)
        _check_topk(topk, n_win**2)
        for name, value in (('diff_routing', diff_routing), ('param_routing',
                                                             param_routing)):
            if value and not soft_routing:
                raise ValueError(
                    f'{name}=True has no gradient without soft_routing=True, '
                    'by which alone the output depends on affinities')
        self.num_heads = num_heads
        self.n_win = n_win
        self.auto_pad = auto_pad
        self.soft_routing = soft_routing
        self.scale = qk_dim**-0.5
        self.lepe = depthwise(dim, side_dwconv)
        self.router = _Router(qk_dim, topk, self.scale, param_routing,
                              diff_routing)
        self.qkv = _QKV(dim, qk_dim)
        self.wo = nn.Linear(dim, dim)
        self.kv_down = _build_pool(kv_downsample_mode, kv_per_win,
                                   kv_downsample_ratio)

    def _padded(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        below, right = -height % self.n_win, -width % self.n_win
        if not below and not right:
            return x
        if not self.auto_pad:
            raise ValueError(
                f'a map of {height} x {width} tokens does not divide into '
                f'{self.n_win} x {self.n_win} regions: set auto_pad=True, or '
                'choose another n_win or image size')
        return F.pad(x, (0, 0, 0, right, 0, below))

    def _pooled(self, x: Tensor) -> Tensor:
        """Pool the regions of a map, each on its own."""
        if isinstance(self.kv_down, nn.Identity):
            return x
        num, height, width, channels = x.shape
        grid = self.n_win, self.n_win
        x = split_regions(x, grid).flatten(0, 1).transpose(1, 2)
        x = self.kv_down(
            x.unflatten(2, (height // self.n_win, width // self.n_win)))
        size = x.shape[2] * self.n_win, x.shape[3] * self.n_win
        x = x.flatten(2).transpose(1, 2).unflatten(0, (num, -1))
        return join_regions(x, grid, size)

    def _gathered(self, x: Tensor, routes: Tensor, weights: Tensor) -> Tensor:
        x = gather_regions(split_regions(x, (self.n_win, ) * 2), routes)
        return x * weights[..., None, None] if self.soft_routing else x

    def forward(self,
                x: Tensor,
                return_routing: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Attend.

        Args:
            x (Tensor): Shape (N, H, W, C).
            return_routing (bool): Return how, too.

        Returns:
            Tensor | tuple[Tensor, ...]: Shape of ``x``. With
            ``return_routing`` also the weights and the numbers of the regions
            that each of R regions looks at, (N, R, topk), and the
            probabilities, (N * R, num_heads, tokens of a region, keys).
        """
        height, width = x.shape[1:3]
        x = self._padded(x)
        grid = self.n_win, self.n_win
        q, k, v = self.qkv(x)
        weights, routes = self.router(
            region_means(q, grid), region_means(k, grid))
        lepe = 0
        if self.lepe is not None:
            lepe = self.lepe(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        k, v = self._pooled(k), self._pooled(v)
        probabilities = None
        if return_routing or self.soft_routing:
            y, probabilities = attend_regions(
                split_regions(q, grid), self._gathered(k, routes, weights),
                self._gathered(v, routes, weights), self.num_heads, self.scale)
            y = join_regions(y, grid, q.shape[1:3])
        else:
            y = attend(q, k, v, routes, grid, self.num_heads, self.scale)
        y = self.wo(y + lepe)[:, :height, :width]
        if return_routing:
            return y, weights, routes, probabilities.flatten(0, 1)
        return y


class NCHWRoutingAttention(nn.Module):
    """Routed attention of maps, channels first.

    Regions have ``H // n_win`` by ``W // n_win`` tokens; where that leaves a
    rest there are more than ``n_win`` of them along a side. Queries, keys and
    values are padded with zeros after the projection, which means of regions
    leave out, but to which is attended.

    Args:
        dim, num_heads, n_win, topk, side_dwconv: See
            :class:`BiLevelRoutingAttention`.
    """

    def __init__(self,
                 dim: int,
                 num_heads: int = 8,
                 n_win: int = 7,
                 topk: int = 4,
                 side_dwconv: int = 5) -> None:
        super().__init__()
        check_channels('dim', dim, num_heads)
        _check_topk(topk, n_win**2)
        self.num_heads = num_heads
        self.n_win = n_win
        self.topk = topk
        self.scale = dim**-0.5
        self.lepe = depthwise(dim, side_dwconv)
        self.qkv_linear = nn.Conv2d(dim, 3 * dim, 1)
        self.output_linear = nn.Conv2d(dim, dim, 1)

    def _routes(self, q: Tensor, k: Tensor, region: tuple[int, int]) -> Tensor:
        q, k = (
            F.avg_pool2d(
                x.detach(), region, ceil_mode=True,
                count_include_pad=False).flatten(2) for x in (q, k))
        return (q.transpose(1, 2) @ k).topk(self.topk, dim=-1).indices

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, C, H, W)."""
        height, width = x.shape[2:]
        if min(height, width) < self.n_win:
            raise ValueError(
                f'a map of {height} x {width} tokens has no {self.n_win} x '
                f'{self.n_win} regions: choose a smaller n_win, or larger '
                'images')
        region = height // self.n_win, width // self.n_win
        q, k, v = self.qkv_linear(x).chunk(3, dim=1)
        routes = self._routes(q, k, region)
        pad = 0, -width % region[1], 0, -height % region[0]
        maps = [F.pad(m, pad).permute(0, 2, 3, 1) for m in (q, k, v)]
        grid = maps[0].shape[1] // region[0], maps[0].shape[2] // region[1]
        y = attend(*maps, routes, grid, self.num_heads, self.scale)
        y = y[:, :height, :width].permute(0, 3, 1, 2)
        if self.lepe is not None:
            y = y + self.lepe(v)
        return self.output_linear(y)
