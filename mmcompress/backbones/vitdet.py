"""ViTDet: a plain vision transformer and its pyramid, which mmdet lacks."""
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmpretrain.models import LayerNorm2d, ViTSAM
from torch import Tensor

from mmcompress.registry import MODELS


@MODELS.register_module()
class ViTDet(ViTSAM):
    """Backbone of ViTDet (Li et al., ECCV 2022, arXiv:2203.16527).

    mmpretrain's ViTSAM, which is this with a neck: attention in windows but
    for a few layers, and relative positions. It also takes the weights of a
    masked autoencoder or of a ``VisionTransformer``, whose positions lose that
    of the class token.

    Args:
        **kwargs: Of mmpretrain's ``ViTSAM``, without ``out_channels``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(out_channels=0, **kwargs)

    def _prepare_pos_embed(self, state_dict: dict, prefix: str, *args,
                           **kwargs) -> None:
        """Load hook: positions (1, 1 + L, C) become a grid."""
        key = f'{prefix}pos_embed'
        if key in state_dict and state_dict[key].dim() == 3:
            patches = state_dict[key][:, 1:]
            side = round(patches.shape[1]**0.5)
            if side**2 != patches.shape[1]:
                raise ValueError(
                    f'{key}: {tuple(state_dict[key].shape)} are not positions '
                    'of a class token and a square of patches')
            state_dict[key] = patches.unflatten(1, (side, side))
        super()._prepare_pos_embed(state_dict, prefix, *args, **kwargs)


@MODELS.register_module()
class SimpleFPN(BaseModule):
    """Simple feature pyramid of ViTDet, from the last map of a backbone.

    Maps of strides 4, 8, 16 and 32, of a backbone with stride 16, each after
    a 1x1 and a 3x3 convolution with LN; the last one is subsampled for more.

    Args:
        in_channels (int): Of the backbone's map, divisible by 4.
        out_channels (int): Of all maps.
        num_outs (int): How many, 4 or more.

    Raises:
        ValueError: If ``in_channels`` or ``num_outs`` is none of these.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int = 256,
                 num_outs: int = 5) -> None:
        super().__init__()
        if in_channels % 4 or num_outs < 4:
            raise ValueError('SimpleFPN: in_channels must be divisible by 4 '
                             f'and num_outs at least 4, got {in_channels}, '
                             f'{num_outs}')
        half, quarter = in_channels // 2, in_channels // 4
        self.num_outs = num_outs
        self.scales = nn.ModuleList([
            nn.Sequential(
                nn.ConvTranspose2d(in_channels, half, 2, 2),
                LayerNorm2d(half, eps=1e-6), nn.GELU(),
                nn.ConvTranspose2d(half, quarter, 2, 2)),
            nn.ConvTranspose2d(in_channels, half, 2, 2),
            nn.Identity(),
            nn.MaxPool2d(2, 2),
        ])
        norm_cfg = dict(type='mmpretrain.LN2d', eps=1e-6)

        def output(channels: int) -> nn.Module:
            return nn.Sequential(
                ConvModule(
                    channels, out_channels, 1, norm_cfg=norm_cfg,
                    act_cfg=None),
                ConvModule(
                    out_channels,
                    out_channels,
                    3,
                    padding=1,
                    norm_cfg=norm_cfg,
                    act_cfg=None))

        self.outputs = nn.ModuleList(
            map(output, (quarter, half, in_channels, in_channels)))

    def forward(self, inputs: tuple[Tensor]) -> tuple[Tensor, ...]:
        """Compute the maps.

        Args:
            inputs (tuple[Tensor]): The last one has shape (N, in_channels,
                H / 16, W / 16).

        Returns:
            tuple[Tensor, ...]: ``num_outs`` maps (N, out_channels, H_i, W_i),
            from fine to coarse.
        """
        outs = [
            output(scale(inputs[-1]))
            for scale, output in zip(self.scales, self.outputs)
        ]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
