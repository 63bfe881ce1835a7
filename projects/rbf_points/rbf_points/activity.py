"""Which kernels say something about clouds."""
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .backbone import RBFNet

# of a kernel's largest value, and of its range
DEAD, CONSTANT = 1e-3, 1e-2


@dataclass(frozen=True)
class KernelActivity:
    """Extremes of each kernel's feature over many clouds.

    Attributes:
        largest (Tensor): Shape (M, S), as the widths.
        smallest (Tensor): Shape (M, S).
    """
    largest: Tensor
    smallest: Tensor

    @property
    def dead(self) -> Tensor:
        """Kernels to which no cloud comes near, bool (M, S).

        Below 1e-3, 3.7 widths away. They add nothing to the classifier, and
        little gradient reaches them: for the Gaussian it is exactly zero from
        15 widths on in float32, and nothing brings it back. The inverse
        multiquadric falls off so slowly that it would take 1,000 widths.
        """
        return self.largest < DEAD

    @property
    def constant(self) -> Tensor:
        """Kernels that are alike for all clouds, bool (M, S).

        Their features differ by less than 0.01; dead ones are among them.
        """
        return self.largest - self.smallest < CONSTANT


@torch.no_grad()
def kernel_activity(backbone: RBFNet,
                    clouds: Iterable[Tensor]) -> KernelActivity:
    """Look at a backbone's kernels on clouds.

    Args:
        backbone (RBFNet): Whose kernels.
        clouds (Iterable[Tensor]): Batches of points, each (B, 3, N), as the
            network sees them: normalised.

    Raises:
        ValueError: If there is no cloud.
    """
    largest = smallest = None
    for points in clouds:
        if not len(points):
            continue
        features, = backbone(points)
        low, high = features.aminmax(dim=0)
        largest = high if largest is None else largest.maximum(high)
        smallest = low if smallest is None else smallest.minimum(low)
    if largest is None:
        raise ValueError('kernel_activity needs one cloud or more')
    shape = backbone.log_widths.shape
    return KernelActivity(largest.view(shape), smallest.view(shape))
