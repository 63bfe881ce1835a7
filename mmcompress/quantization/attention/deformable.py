"""Attention of Deformable DETR, which samples values at points."""
import copy

import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import LowBitLayer, OperandBits
from mmcompress.precision import at_least_float32
from ..layers import Place, bits_of, build_quantizer
from ..spec import Spec
from .in_place import InPlace


class QuantDeformableAttention(InPlace, LowBitLayer):
    """mmcv's MultiScaleDeformableAttention, with quantized operands.

    There are no queries that are multiplied with keys: quantized are the
    values that are sampled, and the weights of the points. Both have one
    scale per head, at axis 2. Points are float.
    """

    @classmethod
    def swap(cls, attn: nn.Module, spec: Spec) -> None:
        """Turn a module into a quantized one, unless products stay float.

        Raises:
            ValueError: If queries or keys shall have a norm.
        """
        if spec.query_norm is not None or spec.key_norm is not None:
            raise ValueError(
                f'{type(attn).__name__} multiplies no queries with keys, so '
                'query_norm and key_norm have no place in it: set them to '
                'None for it')
        if spec.attention is not None or spec.softmax is not None:
            super().swap(attn, spec)

    def to_float(self) -> nn.Module:
        """The attention as it was, with the same parameters."""
        plain = copy.copy(self)
        plain.__class__ = self._made_of[1]
        plain._modules = dict(self._modules)
        del plain.sampled_quant, plain.points_quant
        return plain

    def operand_bits(self) -> OperandBits:
        """Of the points' weights and the values; it reads no weight."""
        return OperandBits(
            None, (bits_of(self.points_quant), bits_of(self.sampled_quant)))

    def macs(self, args: tuple, output: Tensor) -> int:
        """Each output is a sum over the points of all levels."""
        return output.numel() * self.num_levels * self.num_points

    def _attach(self, spec: Spec) -> None:
        softmax = spec.softmax
        if softmax is None:
            softmax = {**spec.attention, 'signed': False}
        place = Place()
        if spec.attention_granularity == 'head':
            place = Place(2, self.num_heads)
        weight = self.value_proj.weight
        self.sampled_quant = build_quantizer(spec.attention, place)
        self.points_quant = build_quantizer(softmax, place)
        for quantizer in (self.sampled_quant, self.points_quant):
            if quantizer is not None:
                quantizer.to(weight).train(self.training)
                quantizer.requires_grad_(weight.requires_grad)

    def forward(self,
                query: Tensor,
                key: Tensor | None = None,
                value: Tensor | None = None,
                identity: Tensor | None = None,
                query_pos: Tensor | None = None,
                key_padding_mask: Tensor | None = None,
                reference_points: Tensor | None = None,
                spatial_shapes: Tensor | None = None,
                level_start_index: Tensor | None = None,
                **kwargs) -> Tensor:
        """Attend to sampled points.

        Args:
            query (Tensor): Shape (B, N, C), or (N, B, C) unless
                ``batch_first``.
            key (Tensor | None): Not used.
            value (Tensor | None): Shape (B, M, C), or (M, B, C). Defaults to
                the query.
            identity (Tensor | None): Added to the result. Defaults to the
                query.
            query_pos (Tensor | None): Added to the query.
            key_padding_mask (Tensor | None): True for values that count as 0,
                shape (B, M).
            reference_points (Tensor): In [0, 1], shape (B, N, levels, 2), or
                (B, N, levels, 4) with width and height.
            spatial_shapes (Tensor): Height and width, shape (levels, 2).
            level_start_index (Tensor): Of each level among the M values.
            **kwargs: Not used.

        Returns:
            Tensor: Of the query's shape.
        """
        value = query if value is None else value
        identity = query if identity is None else identity
        if query_pos is not None:
            query = query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        value = self.value_proj(value)
        dtype = value.dtype
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0)
        points = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*points, 2))
        weights = self.attention_weights(query)
        weights = weights.unflatten(-1, (self.num_heads, -1)).softmax(-1)
        value = value.unflatten(-1, (self.num_heads, -1))
        if self.sampled_quant is not None:
            value = self.sampled_quant(value)
        value = at_least_float32(value)
        weights = self.points_quant(weights).unflatten(-1, points[1:])
        locations = _locations(reference_points, offsets, spatial_shapes)
        out = _sample(value, spatial_shapes, level_start_index, locations,
                      weights, self.im2col_step)
        out = self.output_proj(out.to(dtype))
        if not self.batch_first:
            out = out.transpose(0, 1)
        return self.dropout(out) + identity


def _locations(reference: Tensor, offsets: Tensor, shapes: Tensor) -> Tensor:
    """Where values are sampled, shape (B, N, H, levels, points, 2)."""
    reference = reference[:, :, None, :, None]
    if reference.shape[-1] == 2:
        return reference + offsets / shapes.flip(1)[:, None]
    if reference.shape[-1] == 4:
        scale = reference[..., 2:] * 0.5 / offsets.shape[-2]
        return reference[..., :2] + offsets * scale
    raise ValueError('reference_points must have 2 or 4 coordinates, got '
                     f'{reference.shape[-1]}')


def _sample(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
            weights: Tensor, step: int) -> Tensor:
    """Weighted sums of values at points, by mmcv's function for a device."""
    from mmcv.ops import multi_scale_deform_attn as mmcv
    locations = locations.to(value.dtype)
    if (mmcv.IS_CUDA_AVAILABLE and value.is_cuda) or (mmcv.IS_MLU_AVAILABLE
                                                      and value.is_mlu):
        return mmcv.MultiScaleDeformableAttnFunction.apply(
            value, shapes, starts, locations, weights, step)
    return mmcv.multi_scale_deformable_attn_pytorch(value, shapes, locations,
                                                    weights)
