"""RoIAlign of channels-last features."""
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import folds
from mmcompress.ops import roi_align
from mmcompress.ops.roi_align import roi_align_reference
from .fold import Folding

# by twin, as of the packed layers
POOLS = dict(packed=roi_align, folded=roi_align_reference)


class ChannelsLastRoIAlign(nn.Module):
    """mmcv's RoIAlign with averages, see :func:`mmcompress.ops.roi_align`.

    mmcv's own doesn't understand channels-last memory and, on one thread of a
    CPU, takes more than ten times as long. It stays in use on other devices.

    Args:
        layer (nn.Module): mmcv's.

    Attributes:
        twin (str): ``'packed'`` runs on the kernels, ``'folded'`` on their
            definition in plain PyTorch. Both give the same, bit for bit.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.twin = 'packed'
        self.layer = layer
        self.output_size = tuple(layer.output_size)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Pool boxes.

        Args:
            features (Tensor): Shape (N, C, H, W).
            rois (Tensor): Image, x1, y1, x2, y2, shape (K, 5).

        Returns:
            Tensor: Shape (K, C, *output_size), contiguous.
        """
        if features.device.type != 'cpu':
            return self.layer(features.contiguous(), rois)
        pooled = POOLS[self.twin](features.float(), rois.float(),
                                  self.output_size, self.layer.spatial_scale,
                                  self.layer.sampling_ratio,
                                  self.layer.aligned)
        return pooled.to(features.dtype)


@folds('mmcv.ops.roi_align.RoIAlign')
def fold_roi_align(layer: nn.Module, folding: Folding) -> nn.Module | None:
    """The features of a packed network are channels-last."""
    return ChannelsLastRoIAlign(layer) if layer.pool_mode == 'avg' else None
