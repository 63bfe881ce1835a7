"""Multi-scale deformable attention, forward and backward.

The compiled mmcv has these operators for GPUs only; on a CPU its layer calls
a function of torch's instead, and so it does with ours.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from .bilinear import corner_weights


def _attend(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
            attention: Tensor) -> Tensor:
    """The weighted sum of what the points read, differentiable.

    Args:
        value (Tensor): N images, S cells of all levels, M heads and D
            channels each, shape (N, S, M, D).
        shapes (Tensor): Height and width of the levels, shape (L, 2).
        starts (Tensor): First cell of each level, shape (L, ).
        locations (Tensor): x, y in [0, 1] of the map, shape
            (N, Q, M, L, P, 2) for Q queries and P points.
        attention (Tensor): Shape (N, Q, M, L, P).

    Returns:
        Tensor: Shape (N, Q, M * D).
    """
    num_images, num_cells, num_heads, _ = value.shape
    height, width = shapes.view(-1, 1, 2).unbind(-1)
    x = locations[..., 0] * width.to(locations) - 0.5
    y = locations[..., 1] * height.to(locations) - 0.5
    cell, share = corner_weights(y, x, height, width)
    cell = cell + starts.view(-1, 1, 1)
    image = torch.arange(num_images, device=value.device)
    cell = cell + (image * num_cells).view(-1, 1, 1, 1, 1, 1)
    head = torch.arange(num_heads, device=value.device).view(-1, 1, 1, 1)
    index = (cell * num_heads + head).flatten(0, 2).flatten(1)
    weights = (share * attention[..., None]).flatten(0, 2).flatten(1)
    output = F.embedding_bag(
        index,
        value.reshape(-1, value.size(3)),
        per_sample_weights=weights,
        mode='sum')
    return output.view(num_images, locations.size(1), -1)


@torch.no_grad()
def ms_deform_attn_forward(value: Tensor, value_spatial_shapes: Tensor,
                           value_level_start_index: Tensor,
                           sampling_locations: Tensor,
                           attention_weights: Tensor,
                           im2col_step: int) -> Tensor:
    """See :func:`_attend`; ``im2col_step`` is without effect."""
    return _attend(value, value_spatial_shapes, value_level_start_index,
                   sampling_locations, attention_weights)


def ms_deform_attn_backward(value: Tensor, value_spatial_shapes: Tensor,
                            value_level_start_index: Tensor,
                            sampling_locations: Tensor,
                            attention_weights: Tensor, grad_output: Tensor,
                            grad_value: Tensor, grad_sampling_loc: Tensor,
                            grad_attn_weight: Tensor,
                            im2col_step: int) -> None:
    """Write the three gradients; shapes are those of the tensors."""
    leaves = [
        tensor.detach().requires_grad_()
        for tensor in (value, sampling_locations, attention_weights)
    ]
    with torch.enable_grad():
        output = _attend(leaves[0], value_spatial_shapes,
                         value_level_start_index, *leaves[1:])
        grads = torch.autograd.grad(output, leaves,
                                    grad_output.view_as(output))
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight),
                            grads):
        target.copy_(grad)
