"""A network of radial basis functions for point clouds."""
import math
from collections.abc import Sequence

import torch
import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .kernels import KERNELS, radial_features


def uniform_in_ball(num: int) -> Tensor:
    """Points that are uniform in the unit ball, shape (num, 3)."""
    direction = nn.functional.normalize(torch.randn(num, 3), dim=1)
    # the volume within a radius grows with its third power
    return direction * torch.rand(num, 1)**(1 / 3)


def neighbor_distances(centers: Tensor, num_neighbors: int) -> Tensor:
    """Mean distance of each centre to those nearest to it.

    Args:
        centers (Tensor): Shape (M, 3).
        num_neighbors (int): How many of them, less than M.

    Returns:
        Tensor: Shape (M).
    """
    distances = torch.cdist(
        centers, centers, compute_mode='donot_use_mm_for_euclid_dist')
    nearest = distances.topk(num_neighbors + 1, largest=False).values
    # the first one is the centre itself
    return nearest[:, 1:].mean(1)


@MODELS.register_module()
class RBFNet(BaseModule):
    """Layer of radial basis functions (Chen et al., arXiv:1812.04302).

    With centres ``c_m`` and widths ``s_m``, both learnt, the feature of a
    cloud is the maximum over its points ``x`` of

    - ``gaussian``: ``exp(-|x - c_m|^2 / (2 s_m^2))``
    - ``inverse_multiquadric``: ``1 / sqrt(1 + |x - c_m|^2 / s_m^2)``

    so neither the order of the points nor repeated ones matter. Centres start
    uniformly in the unit ball, into which ``NormalizePoints`` scales clouds. A
    width starts as the mean distance of its centre to the ``num_neighbors``
    nearest ones. Parameters are the logarithms of widths, so that widths
    stay positive; weight decay would pull widths to 1 and centres to the
    origin.

    Written from the paper's abstract: number of neighbours, logarithms, and
    what ``scales`` does are our choice.

    Args:
        num_kernels (int): M.
        kernel (str): ``'gaussian'`` or ``'inverse_multiquadric'``.
        scales (Sequence[float]): A width per centre for each of these, which
            starts as so many times the distance; each is learnt by itself. The
            feature has ``num_kernels * len(scales)`` channels.
        num_neighbors (int): 6 by default, as many as a point of a cubic
            lattice has.
        max_pairs (int): Pairs of a point and a centre that are compared at a
            time; bounds the memory.
        init_cfg (dict | list[dict], optional): As for mmengine's modules.

    Raises:
        ValueError: On another kernel or numbers that aren't positive; if there
            are too few kernels to have so many neighbours. In ``forward``, on
            clouds that are not (B, 3, N) or have no point.
    """

    def __init__(self,
                 num_kernels: int = 500,
                 kernel: str = 'gaussian',
                 scales: Sequence[float] = (1.0, ),
                 num_neighbors: int = 6,
                 max_pairs: int = 2**18,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if kernel not in KERNELS:
            raise ValueError(
                f'kernel must be one of {list(KERNELS)}, got {kernel!r}')
        if not scales or not all(0 < s < math.inf for s in scales):
            raise ValueError('scales must be one or more positive numbers, '
                             f'got {scales}')
        if num_neighbors < 1 or max_pairs < 1:
            raise ValueError('num_neighbors and max_pairs must be positive, '
                             f'got {num_neighbors} and {max_pairs}')
        if num_kernels <= num_neighbors:
            raise ValueError(
                f'num_kernels={num_kernels} must be more than num_neighbors='
                f'{num_neighbors}, whose distances give the first widths')
        self.kernel = kernel
        self.max_pairs = max_pairs
        self.centers = nn.Parameter(uniform_in_ball(num_kernels))
        widths = neighbor_distances(self.centers.detach(), num_neighbors)
        self.log_widths = nn.Parameter(
            widths.log()[:, None] + torch.tensor([math.log(s)
                                                  for s in scales]))

    @property
    def widths(self) -> Tensor:
        """Of each centre, shape (num_kernels, len(scales))."""
        return self.log_widths.exp()

    @property
    def out_channels(self) -> int:
        """Of the feature."""
        return self.log_widths.numel()

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Describe clouds.

        Args:
            x (Tensor): Points, shape (B, 3, N).

        Returns:
            tuple[Tensor]: One feature per cloud, in [0, 1], shape
            (B, num_kernels * len(scales)); the widths of a centre side by
            side.
        """
        if x.dim() != 3 or x.shape[1] != 3 or not x.shape[2]:
            raise ValueError('RBFNet takes the coordinates of one or more '
                             f'points, (B, 3, N), got {tuple(x.shape)}')
        # half precision has no digits left for squares of small distances
        points, centers, log_widths = (
            at_least_float32(t, like=self.centers)
            for t in (x, self.centers, self.log_widths))
        features = radial_features(points, centers, log_widths, self.kernel,
                                   self.max_pairs)
        return (features.to(self.centers.dtype), )

    def extra_repr(self) -> str:
        """What ``print(model)`` says."""
        num_kernels, num_scales = self.log_widths.shape
        return (f'num_kernels={num_kernels}, kernel={self.kernel!r}, '
                f'num_scales={num_scales}')
