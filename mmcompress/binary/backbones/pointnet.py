"""PointNet: one small network for all points, then the maximum over them."""
from typing import TYPE_CHECKING

import torch
import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from mmcompress.lowbit import folds, row_of
from mmcompress.pixels import as_pixels, from_pixels
from mmcompress.registry import MODELS
from ..layers.poem import PoemConv1d, PoemLinear

if TYPE_CHECKING:
    from mmcompress.deploy.fold import Folding

_ACTS = dict(relu=nn.ReLU, prelu=nn.PReLU)


class _XNORUnitLayer(nn.Module):
    """XNOR-Net's 1x1 convolution on features (B, C) or points (B, C, N)."""

    def __init__(self, in_channels: int, out_channels: int, **kwargs) -> None:
        super().__init__()
        self.conv = MODELS.build(
            dict(
                type='mmcompress.XNORConv2d',
                in_channels=in_channels,
                out_channels=out_channels,
                kernel_size=1,
                bias=False,
                **kwargs))

    def forward(self, x: Tensor) -> Tensor:
        return from_pixels(self.conv(as_pixels(x, False)), x, False)


@row_of(_XNORUnitLayer)
def _layer_row(layer: _XNORUnitLayer) -> list[nn.Module]:
    return [layer.conv]


# of a layer on features, and of one that the points share
_LAYERS = dict(
    poem=(PoemLinear, PoemConv1d), xnor=(_XNORUnitLayer, _XNORUnitLayer))


def _build_layer(in_channels: int, out_channels: int, binary: dict | None,
                 per_point: bool) -> nn.Module:
    if binary is None:
        if per_point:
            return nn.Conv1d(in_channels, out_channels, 1, bias=False)
        return nn.Linear(in_channels, out_channels, bias=False)
    options = dict(binary)
    kind = options.pop('type', None)
    if kind not in _LAYERS:
        raise ValueError(f'binary must be None or a dict whose type is one of '
                         f'{list(_LAYERS)}, got {binary}')
    return _LAYERS[kind][per_point](in_channels, out_channels, **options)


class PointUnit(nn.Module):
    """A layer of PointNet with its norms and its activation.

    1-bit: ``act(bn(fc(sign(bn_in(x)))))``, the Bi-FC unit of POEM.
    Real-valued: ``act(bn(fc(x)))``.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        binary (dict, optional): ``type`` is ``'poem'`` or ``'xnor'``, the
            other keys are arguments of the 1-bit layer. None: real-valued.
        act (str): ``'prelu'`` (a slope per channel, initially 0.25) or
            ``'relu'``.
        per_point (bool): The input is (B, C, N), else (B, C).

    Raises:
        ValueError: On another type or activation.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 binary: dict | None = None,
                 act: str = 'prelu',
                 per_point: bool = True) -> None:
        super().__init__()
        if act not in _ACTS:
            raise ValueError(f'act must be one of {list(_ACTS)}, got {act!r}')
        if binary is not None:
            self.bn_in = nn.BatchNorm1d(in_channels)
        self.fc = _build_layer(in_channels, out_channels, binary, per_point)
        self.bn = nn.BatchNorm1d(out_channels)
        self.act = nn.PReLU(out_channels) if act == 'prelu' else nn.ReLU()
        self.is_binary = binary is not None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the unit.

        Args:
            x (Tensor): Shape (B, in_channels, N) or (B, in_channels).

        Returns:
            Tensor: Shape (B, out_channels, N) or (B, out_channels).
        """
        if self.is_binary:
            x = self.bn_in(x)
        return self.act(self.bn(self.fc(x)))


@row_of(PointUnit)
def _unit_row(unit: PointUnit) -> list[nn.Module] | None:
    if not unit.is_binary:
        return None
    return [unit.bn_in, unit.fc, unit.bn, unit.act]


@folds(PointUnit)
def _fold_unit(unit: PointUnit, folding: 'Folding') -> nn.Module | None:
    return folding.row([unit], is_unit=True)


def build_units(channels: tuple[int, ...], binary: dict | None, act: str,
                per_point: bool) -> nn.Sequential:
    """Units from ``channels[0]`` to ``channels[1]``, and so on."""
    return nn.Sequential(*(PointUnit(c_in, c_out, binary, act, per_point)
                           for c_in, c_out in zip(channels, channels[1:])))


class TNet(nn.Module):
    """Predicts a matrix from a cloud, to multiply each point with.

    The last layer is real-valued; initially the matrix is the identity.

    Args:
        channels (int): The matrix has shape (channels, channels).
        binary (dict, optional): As in :class:`PointUnit`.
        act (str): As in :class:`PointUnit`.
        real_first (bool): Whether the first unit is real-valued, as it must be
            on coordinates.
    """

    def __init__(self,
                 channels: int,
                 binary: dict | None = None,
                 act: str = 'prelu',
                 real_first: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.first = PointUnit(channels, 64, None if real_first else binary,
                               act)
        self.local = build_units((64, 128, 1024), binary, act, True)
        self.globally = build_units((1024, 512, 256), binary, act, False)
        self.fc = nn.Linear(256, channels**2)
        nn.init.zeros_(self.fc.weight)
        with torch.no_grad():
            self.fc.bias.copy_(torch.eye(channels).flatten())

    def forward(self, x: Tensor) -> Tensor:
        """Predict the matrix and apply it.

        Args:
            x (Tensor): Shape (B, channels, N).

        Returns:
            Tensor: Same shape.
        """
        features = self.local(self.first(x)).amax(-1)
        matrix = self.fc(self.globally(features))
        return matrix.view(-1, self.channels, self.channels) @ x


@MODELS.register_module()
class PointNet(BaseModule):
    """PointNet (Qi et al., CVPR 2017, arXiv:1612.00593), 1-bit or real-valued.

    A T-Net and ``local_channels`` on the coordinates, a T-Net and ``channels``
    on the features, then the maximum over the points. With ``binary`` all
    units are 1-bit but the first one of the network and of the first T-Net,
    which see coordinates; the last layers of the T-Nets are real-valued too.
    The result doesn't depend on the order of the points, whose number is free.

    Differs from the original: no penalty on T-Nets that aren't orthogonal.

    Args:
        in_channels (int): Of a point.
        binary (dict, optional): As in :class:`PointUnit`. None: the
            real-valued PointNet.
        act (str, optional): As in :class:`PointUnit`. By default ``'prelu'``
            in a 1-bit network, ``'relu'`` in a real-valued one.
        with_tnet (bool): Whether there are T-Nets.
        local_channels (tuple[int]): Of the units before the second T-Net.
        channels (tuple[int]): Of the units after it.
        init_cfg (dict | list[dict], optional): Initialisation. Without it,
            layers are as PyTorch leaves them.
    """

    def __init__(self,
                 in_channels: int = 3,
                 binary: dict | None = None,
                 act: str | None = None,
                 with_tnet: bool = True,
                 local_channels: tuple[int, ...] = (64, 64),
                 channels: tuple[int, ...] = (64, 128, 1024),
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        act = act or default_act(binary)
        first, *others = local_channels
        self.input_tnet = self.feature_tnet = nn.Identity()
        if with_tnet:
            self.input_tnet = TNet(in_channels, binary, act, real_first=True)
            self.feature_tnet = TNet(local_channels[-1], binary, act)
        self.first = PointUnit(in_channels, first, None, act)
        self.local = build_units((first, *others), binary, act, True)
        self.deep = build_units((local_channels[-1], *channels), binary, act,
                                True)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Describe clouds.

        Args:
            x (Tensor): Points, shape (B, in_channels, N); B > 1 in training,
                for the norms of the T-Nets and of the neck.

        Returns:
            tuple[Tensor]: One feature per cloud, shape (B, channels[-1]).
        """
        x = self.local(self.first(self.input_tnet(x)))
        return (self.deep(self.feature_tnet(x)).amax(-1), )


def default_act(binary: dict | None) -> str:
    """POEM's activation in 1-bit networks, PointNet's own in others."""
    return 'relu' if binary is None else 'prelu'
