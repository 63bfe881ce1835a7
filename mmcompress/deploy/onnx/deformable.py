"""Multi-scale deformable attention by operators that ONNX has."""
import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .postprocess.refusal import is_inherited

_NAME = 'MultiScaleDeformableAttention'


def _is_deformable(module: nn.Module) -> bool:
    cls = type(module)
    return cls.__name__ == _NAME and cls.__module__.startswith('mmcv.ops')


def sample_levels(value: Tensor, shapes: Sequence[tuple[int, int]],
                  places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear samples, as ``GridSample``.

    Args:
        value (Tensor): Shape (N, L, heads, D), L places of all levels.
        shapes (Sequence[tuple[int, int]]): Height and width of each level.
        places (Tensor): ``(x, y)`` in [0, 1], shape (N, Q, heads, levels,
            points, 2).
        weights (Tensor): Shape (N, Q, heads, levels, points).

    Returns:
        Tensor: Shape (N, Q, heads * D).
    """
    num, _, heads, width = value.shape
    num_queries = places.shape[1]
    levels = value.split([height * width for height, width in shapes], 1)
    sampled = []
    for i, (level, shape) in enumerate(zip(levels, shapes)):
        maps = level.permute(0, 2, 3, 1).reshape(num * heads, width, *shape)
        grid = 2 * places[:, :, :, i].transpose(1, 2).flatten(0, 1) - 1
        sampled.append(
            F.grid_sample(
                maps, grid, padding_mode='zeros', align_corners=False))
    weights = weights.transpose(1, 2).reshape(num * heads, 1, num_queries, -1)
    summed = (torch.cat(sampled, -1) * weights).sum(-1)
    return summed.view(num, heads * width, num_queries).transpose(1, 2)


class PlainDeformableAttention(nn.Module):
    """The attention of mmcv, for features whose sizes are known.

    Args:
        attention (nn.Module): Whose layers it shares.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        for name in ('sampling_offsets', 'attention_weights', 'value_proj',
                     'output_proj', 'dropout'):
            self.add_module(name, getattr(attention, name))
        for name in ('num_heads', 'num_levels', 'num_points', 'batch_first',
                     'embed_dims'):
            setattr(self, name, getattr(attention, name))

    def forward(self,
                query: Tensor,
                key: Tensor | None = None,
                value: Tensor | None = None,
                identity: Tensor | None = None,
                query_pos: Tensor | None = None,
                key_padding_mask: Tensor | None = None,
                reference_points: Tensor | None = None,
                spatial_shapes: Sequence[tuple[int, int]] = (),
                level_start_index: Tensor | None = None,
                **kwargs: Any) -> Tensor:
        """Attend; arguments and shapes are those of mmcv's."""
        value = query if value is None else value
        identity = query if identity is None else identity
        if query_pos is not None:
            query = query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        num, num_queries = query.shape[:2]
        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0.)
        value = value.unflatten(-1, (self.num_heads, -1))
        grid = num, num_queries, self.num_heads, self.num_levels, \
            self.num_points
        offsets = self.sampling_offsets(query).view(*grid, 2)
        weights = self.attention_weights(query).view(*grid[:3], -1)
        weights = weights.softmax(-1).view(grid)
        points = reference_points[:, :, None, :, None]
        if points.shape[-1] == 2:
            sides = offsets.new_tensor([(w, h) for h, w in spatial_shapes])
            places = points + offsets / sides[None, None, None, :, None]
        else:
            places = points[..., :2] + (
                offsets / self.num_points * points[..., 2:] * 0.5)
        attended = self.output_proj(
            sample_levels(value, spatial_shapes, places, weights))
        if not self.batch_first:
            attended = attended.transpose(0, 1)
        return self.dropout(attended) + identity


def _with_known_shapes(model: nn.Module) -> None:
    """Let a transformer hand on sizes of features as numbers.

    Images fill their batch, as in export, so that there are no masks.
    """

    def pre_transformer(features: Sequence[Tensor],
                        samples: list) -> tuple[dict, dict]:
        shapes = tuple(tuple(map(int, x.shape[-2:])) for x in features)
        positions = [
            model.positional_encoding(None, input=x).flatten(2).mT + embedding
            for x, embedding in zip(features, model.level_embed)
        ]
        shared = dict(
            spatial_shapes=shapes,
            level_start_index=None,
            valid_ratios=features[0].new_ones(
                len(features[0]), len(features), 2))
        encoder = dict(
            feat=torch.cat([x.flatten(2).mT for x in features], 1),
            feat_mask=None,
            feat_pos=torch.cat(positions, 1),
            **shared)
        return encoder, dict(memory_mask=None, **shared)

    model.pre_transformer = pre_transformer


def without_deformable_operators(model: nn.Module) -> nn.Module:
    """A detector whose deformable attention is made of plain operators.

    Args:
        model (nn.Module): Not changed.

    Returns:
        nn.Module: The model itself, if it is no DETR with such attention.
    """
    if not (is_inherited(model, 'pre_transformer', 'DeformableDETR')
            and any(map(_is_deformable, model.modules()))):
        return model
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if _is_deformable(child):
                setattr(module, name, PlainDeformableAttention(child))
    _with_known_shapes(model)
    model.eval()
    return model
