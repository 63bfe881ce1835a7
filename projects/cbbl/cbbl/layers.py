"""What heads with distributions share: wide layers, decoding, checks."""
import logging
from functools import partial

import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from .losses import TwoHotLocalizationLoss


def check_loss(head: nn.Module) -> None:
    """Refuse a head whose loss is no classification over grid points.

    Raises:
        TypeError: If ``loss_bbox`` is something else.
        ValueError: If the head decodes boxes for its loss.
    """
    name = type(head).__name__
    if not isinstance(head.loss_bbox, TwoHotLocalizationLoss):
        raise TypeError(
            f'{name} needs loss_bbox=dict(_delete_=True, type='
            "'mmcompress.TwoHotLocalizationLoss', alpha=..., n=..., beta=...)"
            f', got {type(head.loss_bbox).__name__}: losses of numbers and of '
            'boxes (L1, IoU) belong to the heads of mmdet')
    if getattr(head, 'reg_decoded_bbox', False):
        raise ValueError(
            f'{name}: reg_decoded_bbox=True is for losses of boxes, as IoU '
            'losses; coordinates are classified as they are encoded, so '
            'leave it False')


def _tell_narrow(layer: nn.Module,
                 state_dict: dict,
                 prefix: str,
                 *args,
                 num_points: int = 1) -> None:
    """Say in words that an ordinary detector's box layer stays behind."""
    keys = [prefix + name for name, _ in layer.named_parameters()]
    narrow = [
        key for key, p in zip(keys, layer.parameters())
        if key in state_dict and len(state_dict[key]) * num_points == len(p)
    ]
    if narrow:
        print_log(
            f'Skipped {" and ".join(narrow)}: the checkpoint is of an '
            'ordinary detector, with an output for each box coordinate, and '
            f'this head has {num_points}, one for each grid point. The layer '
            'keeps the values it has, so train before you test; everything '
            'else of the detector is loaded as usual',
            logger='current',
            level=logging.WARNING)


def widened(layer: nn.Module, num_points: int) -> nn.Module:
    """A new layer with as many times the outputs, without trained weights.

    Channel ``i`` becomes the channels ``i * num_points`` and following.

    Args:
        layer (nn.Module): ``nn.Conv2d`` or ``nn.Linear``, or a subclass with
            the same arguments.
        num_points (int): Logits per coordinate.

    Raises:
        TypeError: If it is neither.
    """
    bias = layer.bias is not None
    if isinstance(layer, nn.Conv2d):
        wide = type(layer)(
            layer.in_channels,
            layer.out_channels * num_points,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=bias)
    elif isinstance(layer, nn.Linear):
        wide = type(layer)(
            layer.in_features, layer.out_features * num_points, bias=bias)
    else:
        raise TypeError('a box layer must be a Conv2d or a Linear, got '
                        f'{type(layer).__name__}')
    wide.register_load_state_dict_pre_hook(
        partial(_tell_narrow, num_points=num_points))
    return wide


def decode_maps(maps: list[Tensor],
                loss: TwoHotLocalizationLoss) -> list[Tensor]:
    """Coordinates of dense logits.

    Args:
        maps (list[Tensor]): A level each, shape (N, K * (n + 1), H, W), where
            the points of a coordinate are neighbours.
        loss (TwoHotLocalizationLoss): Has the grid.

    Returns:
        list[Tensor]: Shape (N, K, H, W) each, without gradient.
    """

    def decoded(logits: Tensor) -> Tensor:
        points = logits.detach().unflatten(1, (-1, loss.num_points))
        return loss.decode(points.movedim(2, -1))

    return [decoded(logits) for logits in maps]
