"""How near a cloud comes to each of a set of centres."""
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def gaussian(ratio: Tensor) -> Tensor:
    """``exp(-ratio / 2)``, of squared distances in units of the width."""
    return (-ratio / 2).exp()


def inverse_multiquadric(ratio: Tensor) -> Tensor:
    """``1 / sqrt(1 + ratio)``; near the centre the same as the Gaussian.

    Both are ``1 - ratio / 2`` up to squares of ``ratio``, so that a width
    means the same in both.
    """
    return (1 + ratio).rsqrt()


# of the squared distance divided by the squared width; all fall from 1 to 0
KERNELS: dict[str, Callable[[Tensor], Tensor]] = dict(
    gaussian=gaussian, inverse_multiquadric=inverse_multiquadric)


def _comparisons(points: Tensor, centers: Tensor,
                 max_pairs: int) -> Iterator[Tensor]:
    """``|x|^2 - 2 x.c``: squared distances but for what a centre adds.

    A matrix product with four terms per pair: differences of coordinates are
    never held for all pairs. Some centres at a time, so that the pairs of one
    product fit into a processor's cache. In float64: what is subtracted may be
    far larger than the distance, and products of float32 are rounded
    further where TF32 or bfloat16 are allowed for them.

    Yields:
        Tensor: float64, shape (B, some of M, N).
    """
    points, centers = points.double(), centers.double()
    rows = torch.cat([-2 * centers, torch.ones_like(centers[:, :1])], 1)
    columns = torch.cat([points, points.square().sum(1, keepdim=True)], 1)
    num_points = max(1, points.shape[0] * points.shape[2])
    for chunk in rows.split(max(1, max_pairs // num_points)):
        yield torch.matmul(chunk, columns)


@torch.no_grad()
def nearest_points(points: Tensor,
                   centers: Tensor,
                   max_pairs: int = 2**18) -> Tensor:
    """Number of the point of each cloud that is nearest to each centre.

    Args:
        points (Tensor): Shape (B, 3, N), float32 or float64.
        centers (Tensor): Shape (M, 3).
        max_pairs (int): Pairs of a point and a centre that are compared at a
            time; more, if there are more points in a batch.

    Returns:
        Tensor: int64, shape (B, M). Of equally near ones any.
    """
    parts = _comparisons(points, centers, max_pairs)
    return torch.cat([part.min(-1).indices for part in parts], 1)


@torch.no_grad()
def nearest_squares(points: Tensor,
                    centers: Tensor,
                    max_pairs: int = 2**18) -> Tensor:
    """Squared distance of each centre to the nearest point, for inference.

    Takes half the time of :func:`nearest_points`.

    Args:
        points (Tensor): Shape (B, 3, N), float32 or float64.
        centers (Tensor): Shape (M, 3).
        max_pairs (int): As for :func:`nearest_points`.

    Returns:
        Tensor: Of the points' type, shape (B, M).
    """
    parts = _comparisons(points, centers, max_pairs)
    least = torch.cat([part.amin(-1) for part in parts], 1)
    squares = least + centers.double().square().sum(1)
    # rounded, one of zero may be negative
    return squares.clamp(min=0).to(points.dtype)


def radial_features(points: Tensor,
                    centers: Tensor,
                    log_widths: Tensor,
                    kernel: str = 'gaussian',
                    max_pairs: int = 2**18) -> Tensor:
    """Largest value of each kernel over the points of a cloud.

    Kernels fall with the distance, so the largest value is that of the
    nearest point: the kernel itself is computed once per cloud, not per point,
    and all widths of a centre share its nearest point.

    Gradients reach the nearest point alone, of equally near ones one. They are
    zero, not undefined, where it coincides with the centre.

    Args:
        points (Tensor): Shape (B, 3, N), float32 or float64.
        centers (Tensor): Shape (M, 3).
        log_widths (Tensor): Logarithms of the widths, shape (M, S).
        kernel (str): A key of :data:`KERNELS`.
        max_pairs (int): As for :func:`nearest_points`.

    Returns:
        Tensor: In [0, 1], shape (B, M * S), widths of a centre side by side.
    """
    if torch.is_grad_enabled():
        nearest = nearest_points(points, centers, max_pairs)
        chosen = points.gather(2, nearest[:, None].expand(-1, 3, -1))
        squares = (chosen - centers.T).square().sum(1)
    else:
        squares = nearest_squares(points, centers, max_pairs)
    # an infinite one times a gradient of zero would be nan
    squares = squares.clamp(max=torch.finfo(squares.dtype).max)
    ratio = squares[..., None] * (-2 * log_widths).exp()
    return KERNELS[kernel](ratio).flatten(1)
