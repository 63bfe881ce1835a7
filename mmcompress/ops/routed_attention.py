"""Attention of the tokens of a region to those of a few other regions.

From BiFormer (Zhu et al., CVPR 2023, arXiv:2303.08810). A map is cut into a
grid of regions; a table says which of them each one looks at. In plain
PyTorch their keys and values are gathered, and copied as often as they are
looked at; the kernels read them where they are.
"""
import torch
from torch import Tensor

from . import library
from .arguments import MAX_GEOMETRY, check_pair, require

# largest scale of the scores: float32 holds what comes of it
MAX_SCALE = 1e30


def split_regions(x: Tensor, grid: list[int]) -> Tensor:
    """Tokens by region.

    Args:
        x (Tensor): Shape (N, H, W, C), which the grid divides.
        grid (list[int]): Regions along H and along W.

    Returns:
        Tensor: Shape (N, R, L, C): R regions, row after row, of L tokens.
    """
    rows, columns = grid
    x = x.unflatten(2, (columns, -1)).unflatten(1, (rows, -1))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def join_regions(x: Tensor, grid: list[int], size: tuple[int, int]) -> Tensor:
    """Undo :func:`split_regions` for a map of this height and width."""
    rows, columns = grid
    x = x.unflatten(2, (size[0] // rows, size[1] // columns))
    x = x.unflatten(1, (rows, columns)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)


def gather_regions(x: Tensor, routes: Tensor) -> Tensor:
    """What each region looks at.

    Args:
        x (Tensor): Shape (N, R, L, C).
        routes (Tensor): Regions, shape (N, R, K).

    Returns:
        Tensor: Shape (N, R, K, L, C).
    """
    first = x.shape[1] * torch.arange(x.shape[0], device=x.device)
    regions = (routes + first[:, None, None]).flatten()
    # the backward of index_select adds rows, that of gather single numbers
    picked = x.flatten(0, 1).index_select(0, regions)
    return picked.view(*routes.shape, *x.shape[2:])


def attend_regions(q: Tensor, k: Tensor, v: Tensor, num_heads: int,
                   scale: float) -> tuple[Tensor, Tensor]:
    """Attention of the tokens of each region to what was gathered for it.

    Args:
        q (Tensor): Shape (N, R, L, D).
        k (Tensor): Shape (N, R, K, M, D).
        v (Tensor): Shape (N, R, K, M, C).
        num_heads (int): Divides D and C into as many parts.
        scale (float): Of the scores.

    Returns:
        tuple[Tensor, Tensor]: Shape (N, R, L, C), and the probabilities,
        (N, R, num_heads, L, K * M).
    """
    q, k, v = (
        x.unflatten(-1, (num_heads, -1)).transpose(2, 3)
        for x in (q, k.flatten(2, 3), v.flatten(2, 3)))
    scores = (q * scale) @ k.transpose(-2, -1)
    probabilities = scores.softmax(-1)
    return (probabilities @ v).transpose(2, 3).flatten(3), probabilities


def _check_map(name: str, x: Tensor, like: Tensor, grid: list[int],
               num_heads: int) -> None:
    require(x.dtype == torch.float32,
            f'{name} must be float32, it is {x.dtype}')
    require(x.device == like.device,
            f'{name} is on {x.device}, q on {like.device}')
    require(x.dim() == 4,
            f'{name} must be (N, H, W, C), it has shape {tuple(x.shape)}')
    require(
        x.shape[1] > 0 and x.shape[2] > 0 and x.shape[1] % grid[0] == 0
        and x.shape[2] % grid[1] == 0, f'{name} of {tuple(x.shape[1:3])} '
        f'tokens must divide into a grid of {tuple(grid)} regions')
    require(
        x.shape[3] > 0 and x.shape[3] % num_heads == 0,
        f'{name} has {x.shape[3]} channels, num_heads {num_heads} must '
        'divide them')


def check_routed_attention(q: Tensor, k: Tensor, v: Tensor, routes: Tensor,
                           grid: list[int], num_heads: int,
                           scale: float) -> None:
    """Check the arguments of :func:`routed_attention` but for the routes.

    Raises:
        ValueError: If one is out of bounds, or they don't fit together; names
            the argument.
    """
    check_pair('grid', grid, 1)
    require(1 <= num_heads <= MAX_GEOMETRY,
            f'num_heads must be from 1 to {MAX_GEOMETRY}, it is {num_heads}')
    # also where it is not a number
    require(
        -MAX_SCALE <= scale <= MAX_SCALE,
        f'scale must be a number from {-MAX_SCALE} to {MAX_SCALE}, it is '
        f'{scale}')
    for name, x in (('q', q), ('k', k), ('v', v)):
        _check_map(name, x, q, grid, num_heads)
    require(
        k.shape[0] == q.shape[0] and k.shape[3] == q.shape[3],
        f'k must have as many images and channels as q, {q.shape[0]} and '
        f'{q.shape[3]}, it has shape {tuple(k.shape)}')
    require(
        v.shape[:3] == k.shape[:3],
        f'v must have the tokens of k, {tuple(k.shape[:3])}, it has shape '
        f'{tuple(v.shape)}')
    require(routes.dtype == torch.int64,
            f'routes must be int64, it is {routes.dtype}')
    require(routes.device == q.device,
            f'routes is on {routes.device}, q on {q.device}')
    num = grid[0] * grid[1]
    require(
        routes.dim() == 3 and routes.shape[0] == q.shape[0]
        and routes.shape[1] == num and routes.shape[2] > 0,
        f'routes must be ({q.shape[0]}, {num}, topk), it has shape '
        f'{tuple(routes.shape)}')


def _check_routes(routes: Tensor) -> None:
    num = routes.shape[1]
    wrong = ~((routes >= 0) & (routes < num))
    require(
        not wrong.any(), f'routes must name regions, 0 to {num - 1}: '
        f'{routes[wrong][:1].tolist()}')


def routed_attention_reference(q: Tensor, k: Tensor, v: Tensor, routes: Tensor,
                               grid: list[int], num_heads: int,
                               scale: float) -> Tensor:
    """Definition of :func:`routed_attention` in plain PyTorch."""
    check_routed_attention(q, k, v, routes, grid, num_heads, scale)
    _check_routes(routes)
    out, _ = attend_regions(
        split_regions(q, grid), gather_regions(split_regions(k, grid), routes),
        gather_regions(split_regions(v, grid), routes), num_heads, scale)
    return join_regions(out, grid, q.shape[1:3]).contiguous()


def fake_routed_attention(q: Tensor, k: Tensor, v: Tensor, routes: Tensor,
                          grid: list[int], num_heads: int,
                          scale: float) -> Tensor:
    """Shape of :func:`routed_attention`."""
    check_routed_attention(q, k, v, routes, grid, num_heads, scale)
    return q.new_empty(*q.shape[:3], v.shape[3])


def routed_attention(q: Tensor, k: Tensor, v: Tensor, routes: Tensor,
                     grid: tuple[int,
                                 int], num_heads: int, scale: float) -> Tensor:
    """Let every token attend to those of the regions that its own looks at.

    Kernels compute ``exp`` by a polynomial and sum in an order of their own:
    results are those of the definition to some 1e-6 of the largest value. The
    gradient is the definition's.

    Args:
        q (Tensor): Queries, float32, shape (N, H, W, D).
        k (Tensor): Keys, float32, shape (N, H', W', D), of the same grid.
            Regions may have other sizes than those of the queries.
        v (Tensor): Values, float32, shape (N, H', W', C).
        routes (Tensor): Numbers of the regions that each region looks at,
            int64, shape (N, R, K). Regions are counted row after row.
        grid (tuple[int, int]): Regions along the height and along the width,
            R in all. Must divide the sizes.
        num_heads (int): Must divide D and C.
        scale (float): Factor of the scores.

    Returns:
        Tensor: float32, shape (N, H, W, C), contiguous.

    Raises:
        ValueError or RuntimeError: If arguments don't fit together.
    """
    return library.operators.routed_attention(q, k, v, routes, list(grid),
                                              num_heads, scale)


library.register(
    'routed_attention', '(Tensor q, Tensor k, Tensor v, Tensor routes, '
    'int[2] grid, int num_heads, float scale) -> Tensor',
    routed_attention_reference, fake_routed_attention)


def _keep(ctx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.rest = inputs[4:]


def _scatter_regions(x: Tensor, routes: Tensor) -> Tensor:
    """Gradient of :func:`gather_regions`."""
    num, regions, _ = routes.shape
    first = regions * torch.arange(num, device=x.device)
    sums = x.new_zeros(num * regions, *x.shape[3:])
    sums = sums.index_add(0, (routes + first[:, None, None]).flatten(),
                          x.flatten(0, 2))
    return sums.unflatten(0, (num, regions))


def _backward(ctx, dy: Tensor) -> tuple:
    """Compute the scores once more, which is less than to keep them."""
    q, k, v, routes = ctx.saved_tensors
    grid, num_heads, scale = ctx.rest
    regions_q = split_regions(q, grid)
    picked_k = gather_regions(split_regions(k, grid), routes)
    picked_v = gather_regions(split_regions(v, grid), routes)

    def by_head(x: Tensor) -> Tensor:
        return x.unflatten(-1, (num_heads, -1)).transpose(2, 3)

    def by_token(x: Tensor) -> Tensor:
        return x.transpose(2, 3).flatten(3)

    head_q = by_head(regions_q) * scale
    head_k, head_v = (by_head(x.flatten(2, 3)) for x in (picked_k, picked_v))
    head_dy = by_head(split_regions(dy, grid))
    p = (head_q @ head_k.transpose(-2, -1)).softmax(-1)
    dp = head_dy @ head_v.transpose(-2, -1)
    # that of softmax
    ds = p * (dp - (dp * p).sum(-1, keepdim=True))
    dq = join_regions(by_token(ds @ head_k) * scale, grid, q.shape[1:3])
    gradients = []
    for d, like in ((ds.transpose(-2, -1) @ head_q, picked_k),
                    (p.transpose(-2, -1) @ head_dy, picked_v)):
        d = _scatter_regions(by_token(d).view_as(like), routes)
        gradients.append(join_regions(d, grid, k.shape[1:3]))
    return dq, *gradients, None, None, None, None


torch.library.register_autograd(
    'mmcompress::routed_attention', _backward, setup_context=_keep)
