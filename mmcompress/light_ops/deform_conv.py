"""Deformable convolution, plain and modulated, forward and backward.

Each output position reads its kernel's cells at learnt offsets. As in mmcv,
one image after the other, which bounds the memory.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .bilinear import corner_weights


@dataclass
class _Geometry:
    """Vertical and horizontal settings of a convolution.

    Attributes:
        kernel (tuple[int, int]): Height and width.
        stride (tuple[int, int]): In cells.
        padding (tuple[int, int]): In cells.
        dilation (tuple[int, int]): In cells.
        groups (int): Of the convolution.
        deform_groups (int): Groups of channels with offsets of their own.
    """
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    deform_groups: int

    def output_size(self, size: tuple[int, int]) -> list[int]:
        """Height and width of the output for those of the input."""
        return [(length + 2 * p - d * (k - 1) - 1) // s + 1
                for length, k, s, p, d in zip(size, self.kernel, self.stride,
                                              self.padding, self.dilation)]

    def check(self, input: Tensor, weight: Tensor, offset: Tensor,
              mask: Tensor | None) -> None:
        """Refuse shapes that do not belong together.

        Raises:
            ValueError: Names the shapes.
        """
        if tuple(weight.shape[2:]) != self.kernel or input.size(
                1) != weight.size(1) * self.groups:
            raise ValueError(
                f'weight {tuple(weight.shape)} does not fit input '
                f'{tuple(input.shape)}, kernel {self.kernel} and '
                f'{self.groups} group(s)')
        size = self.output_size(tuple(input.shape[2:]))
        cells = self.kernel[0] * self.kernel[1] * self.deform_groups
        for name, tensor, channels in (('offset', offset, 2 * cells),
                                       ('mask', mask, cells)):
            wanted = (input.size(0), channels, *size)
            if tensor is not None and tuple(tensor.shape) != wanted:
                raise ValueError(f'{name} {tuple(tensor.shape)} should be '
                                 f'{wanted} for input {tuple(input.shape)}')


def _positions(offset: Tensor, geometry: _Geometry, axis: int) -> Tensor:
    """Where an image's outputs read, along one axis.

    Args:
        offset (Tensor): Shape (G, K, H, W), K cells of the kernel.
        geometry (_Geometry): Of the convolution.
        axis (int): 0 for rows, 1 for columns.

    Returns:
        Tensor: Shape (H, W, G, K).
    """
    height, width = geometry.kernel
    cells = torch.arange(height * width, device=offset.device)
    cell = cells // width if axis == 0 else cells % width
    outputs = torch.arange(offset.size(2 + axis), device=offset.device)
    start = outputs * geometry.stride[axis] - geometry.padding[axis]
    start = start[:, None] if axis == 0 else start[None]
    grid = start + (cell * geometry.dilation[axis])[:, None, None]
    return (grid.to(offset) + offset).permute(2, 3, 0, 1)


def _convolve(input: Tensor, weight: Tensor, offset: Tensor,
              mask: Tensor | None, geometry: _Geometry) -> Tensor:
    """Deformable convolution of one image, differentiable.

    Args:
        input (Tensor): Shape (C, H, W).
        weight (Tensor): Shape (O, C / groups, kernel height, its width).
        offset (Tensor): Shape (2 * G * K, H', W'), rows and columns in turn.
        mask (Tensor | None): Shape (G * K, H', W').
        geometry (_Geometry): Of the convolution.

    Returns:
        Tensor: Shape (O, H', W').
    """
    channels, height, width = input.shape
    out_height, out_width = offset.shape[1:]
    deform_groups, groups = geometry.deform_groups, geometry.groups
    offset = offset.view(deform_groups, -1, 2, out_height, out_width)
    index, share = corner_weights(
        _positions(offset[:, :, 0], geometry, 0),
        _positions(offset[:, :, 1], geometry, 1), height, width)
    if mask is not None:
        mask = mask.view(deform_groups, -1, out_height, out_width)
        share = share * mask.permute(2, 3, 0, 1)[..., None]
    # a row of the table for each cell and deformable group
    table = input.view(deform_groups, -1, height * width).permute(2, 0, 1)
    group = torch.arange(deform_groups, device=input.device)[:, None, None]
    columns = F.embedding_bag(
        (index * deform_groups + group).view(-1, 4),
        table.reshape(height * width * deform_groups, -1),
        per_sample_weights=share.reshape(-1, 4),
        mode='sum')
    # (H' * W', G, K, C / G) to (groups, H' * W', C / groups * K)
    columns = columns.view(out_height * out_width, deform_groups, -1,
                           channels // deform_groups).transpose(2, 3)
    columns = columns.reshape(out_height * out_width, groups, -1)
    output = torch.bmm(
        weight.view(groups,
                    weight.size(0) // groups, -1), columns.permute(1, 2, 0))
    return output.view(-1, out_height, out_width)


def _forward(input: Tensor, weight: Tensor, offset: Tensor,
             mask: Tensor | None, geometry: _Geometry, output: Tensor) -> None:
    """Convolve all images into ``output``."""
    geometry.check(input, weight, offset, mask)
    with torch.no_grad(), torch.autocast(input.device.type, enabled=False):
        for i in range(len(input)):
            output[i] = _convolve(input[i], weight, offset[i],
                                  None if mask is None else mask[i], geometry)


def _add_gradients(tensors: list[Tensor | None],
                   grads: list[Tensor | None],
                   grad_output: Tensor,
                   geometry: _Geometry,
                   scale: float = 1.0) -> None:
    """Add the gradients that are asked for.

    Args:
        tensors (list[Tensor | None]): Input, weight, offset and mask.
        grads (list[Tensor | None]): For each what receives its gradient, or
            None.
        grad_output (Tensor): Shape (N, O, H', W').
        geometry (_Geometry): Of the convolution.
        scale (float): Factor.
    """
    geometry.check(*tensors)
    for i in range(len(grad_output)):
        # the weight belongs to all images
        leaves = [
            None if t is None else
            (t if place == 1 else t[i]).detach().requires_grad_(
                grads[place] is not None) for place, t in enumerate(tensors)
        ]
        wanted = [place for place, g in enumerate(grads) if g is not None]
        with torch.enable_grad(), torch.autocast(
                grad_output.device.type, enabled=False):
            output = _convolve(*leaves, geometry)
            found = torch.autograd.grad(output,
                                        [leaves[place] for place in wanted],
                                        grad_output[i])
        for place, grad in zip(wanted, found):
            target = grads[place] if place == 1 else grads[place][i]
            target.add_(grad, alpha=scale)


def deform_conv_forward(input: Tensor, weight: Tensor, offset: Tensor,
                        output: Tensor, columns: Tensor, ones: Tensor, kW: int,
                        kH: int, dW: int, dH: int, padW: int, padH: int,
                        dilationW: int, dilationH: int, group: int,
                        deformable_group: int, im2col_step: int) -> None:
    """Write the convolution into ``output``; shapes as in mmcv."""
    geometry = _Geometry((kH, kW), (dH, dW), (padH, padW),
                         (dilationH, dilationW), group, deformable_group)
    _forward(input, weight, offset, None, geometry, output)


def deform_conv_backward_input(input: Tensor, offset: Tensor,
                               gradOutput: Tensor, gradInput: Tensor,
                               gradOffset: Tensor, weight: Tensor,
                               columns: Tensor, kW: int, kH: int, dW: int,
                               dH: int, padW: int, padH: int, dilationW: int,
                               dilationH: int, group: int,
                               deformable_group: int,
                               im2col_step: int) -> None:
    """Add the gradients of the input and the offset to zeros."""
    geometry = _Geometry((kH, kW), (dH, dW), (padH, padW),
                         (dilationH, dilationW), group, deformable_group)
    _add_gradients([input, weight, offset, None],
                   [gradInput, None, gradOffset, None], gradOutput, geometry)


def deform_conv_backward_parameters(input: Tensor, offset: Tensor,
                                    gradOutput: Tensor, gradWeight: Tensor,
                                    columns: Tensor, ones: Tensor, kW: int,
                                    kH: int, dW: int, dH: int, padW: int,
                                    padH: int, dilationW: int, dilationH: int,
                                    group: int, deformable_group: int,
                                    scale: float, im2col_step: int) -> None:
    """Add the gradient of the weight, times ``scale``."""
    geometry = _Geometry((kH, kW), (dH, dW), (padH, padW),
                         (dilationH, dilationW), group, deformable_group)
    # the gradient depends on the weight's shape alone
    _add_gradients([input, gradWeight.clone(), offset, None],
                   [None, gradWeight, None, None], gradOutput, geometry, scale)


def modulated_deform_conv_forward(input: Tensor, weight: Tensor, bias: Tensor,
                                  ones: Tensor, offset: Tensor, mask: Tensor,
                                  output: Tensor, columns: Tensor,
                                  kernel_h: int, kernel_w: int, stride_h: int,
                                  stride_w: int, pad_h: int, pad_w: int,
                                  dilation_h: int, dilation_w: int, group: int,
                                  deformable_group: int,
                                  with_bias: bool) -> None:
    """Write the convolution into ``output``; shapes as in mmcv."""
    geometry = _Geometry((kernel_h, kernel_w), (stride_h, stride_w),
                         (pad_h, pad_w), (dilation_h, dilation_w), group,
                         deformable_group)
    _forward(input, weight, offset, mask, geometry, output)
    if with_bias:
        output += bias.view(1, -1, 1, 1)


def modulated_deform_conv_backward(input: Tensor, weight: Tensor, bias: Tensor,
                                   ones: Tensor, offset: Tensor, mask: Tensor,
                                   columns: Tensor, grad_input: Tensor,
                                   grad_weight: Tensor, grad_bias: Tensor,
                                   grad_offset: Tensor, grad_mask: Tensor,
                                   grad_output: Tensor, kernel_h: int,
                                   kernel_w: int, stride_h: int, stride_w: int,
                                   pad_h: int, pad_w: int, dilation_h: int,
                                   dilation_w: int, group: int,
                                   deformable_group: int,
                                   with_bias: bool) -> None:
    """Add all gradients to zeros; shapes as in mmcv."""
    geometry = _Geometry((kernel_h, kernel_w), (stride_h, stride_w),
                         (pad_h, pad_w), (dilation_h, dilation_w), group,
                         deformable_group)
    _add_gradients([input, weight, offset, mask],
                   [grad_input, grad_weight, grad_offset, grad_mask],
                   grad_output, geometry)
    if with_bias:
        grad_bias += grad_output.sum((0, 2, 3))
