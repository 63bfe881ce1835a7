"""Packed 1-bit layers as nodes of the domain ``mmcompress``.

Their kernels are those of :mod:`mmcompress.ops`, in a library for onnxruntime,
see :mod:`.custom_ops`. A node holds the weights as packed bits; what the
kernels want is made of them when a session begins.
"""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmcompress.ops import packed_bytes
from mmcompress.ops.arguments import conv_output_size
from ..integer_layers import PackedIntegerLayer
from ..packed_layers import ENGINES, PackedLayer
from ..roi_align import POOLS, ChannelsLastRoIAlign
from .custom_ops import DOMAIN, VERSION
from .nodes import PACKED
from .packages import needs

if TYPE_CHECKING:
    import onnx_ir as ir

# what a Transpose does that makes (N, C, H, W) of what a kernel gives
_TO_NCHW = [0, 3, 1, 2]
# by attribute, the input of whose layout it tells
_LAYOUTS = dict(channels_last=0, residual_channels_last=6)

_Outputs = Sequence[tuple[torch.dtype, Sequence[int]]]


def _node(kind: str, inputs: Sequence[Tensor | None], outputs: _Outputs,
          **attributes) -> list[Tensor]:
    """A node in the graph that is being traced."""
    dtypes, shapes = zip(*outputs)
    return list(
        torch.onnx.ops.symbolic_multi_out(
            f'{DOMAIN}::{kind}',
            inputs,
            attributes,
            dtypes=dtypes,
            shapes=shapes,
            version=VERSION))


def _images(x: Tensor, weight_shape: list[int], stride: list[int],
            padding: list[int], dilation: list[int], groups: int,
            pad_value: int) -> tuple[list[int], dict]:
    """Batch, height and width of outputs, and attributes of a convolution."""
    size = x.shape[1:3] if x.dtype == torch.uint8 else x.shape[2:]
    out = conv_output_size(size, weight_shape[2:], stride, padding, dilation)
    return [x.shape[0], *out], dict(
        channels=weight_shape[1],
        strides=stride,
        pads=padding,
        dilations=dilation,
        group=groups,
        pad_value=pad_value,
        channels_last=0)


def _nchw(y: Tensor) -> Tensor:
    return y.permute(_TO_NCHW)


def _prepack(weight_bits: Tensor, *args) -> Tensor:
    return weight_bits


def _pack(x: Tensor,
          threshold: Tensor | None = None,
          flip: Tensor | None = None) -> Tensor:
    num, channels, height, width = x.shape
    return _node(
        'BinaryPack', [x, threshold, flip],
        [(torch.uint8, (num, height, width, packed_bytes(channels)))],
        channels=channels,
        channels_last=0)[0]


def _conv2d(bits: Tensor, rows: Tensor, weight_shape: list[int],
            *conv) -> Tensor:
    size, attributes = _images(bits, weight_shape, *conv)
    return _nchw(
        _node('BinaryConv2d', [bits, rows],
              [(torch.int32, (*size, weight_shape[0]))], **attributes)[0])


def _conv2d_bits(bits: Tensor, rows: Tensor, limit: Tensor, flip: Tensor,
                 weight_shape: list[int], *conv) -> Tensor:
    size, attributes = _images(bits, weight_shape, *conv)
    shape = *size, packed_bytes(weight_shape[0])
    return _node('BinaryConv2dBits', [bits, rows, limit, flip],
                 [(torch.uint8, shape)], **attributes)[0]


def _fused(kind: str, inputs: list[Tensor | None], leading: Sequence[int],
           channels: int, bits_only: bool,
           attributes: dict) -> tuple[Tensor | None, Tensor | None]:
    """Real values and bits, None for what isn't wanted.

    Args:
        kind (str): Of the node.
        inputs (list[Tensor | None]): As of the operators, up to ``next_flip``.
        leading (Sequence[int]): Shape of the results but for channels.
        channels (int): Of the results.
        bits_only (bool): No real values.
        attributes (dict): Of the node.
    """
    wants_bits = inputs[10] is not None
    bits = torch.uint8, (*leading, packed_bytes(channels))
    if bits_only:
        return None, _node(f'{kind}Bits', inputs, [bits], **attributes)[0]
    outputs = [(torch.float32, (*leading, channels))]
    results = _node(kind, inputs, outputs + [bits] * wants_bits, **attributes)
    return results[0], results[1] if wants_bits else None


def _conv2d_fused(*args) -> tuple[Tensor | None, Tensor | None]:
    *inputs, bits_only = args
    inputs, (weight_shape, *conv) = inputs[:12], inputs[12:]
    size, attributes = _images(inputs[0], weight_shape, *conv)
    y, bits = _fused('BinaryConv2dFused', inputs, size, weight_shape[0],
                     bits_only, dict(attributes, residual_channels_last=0))
    return None if y is None else _nchw(y), bits


def _linear_pack(x: Tensor,
                 threshold: Tensor | None = None,
                 flip: Tensor | None = None) -> Tensor:
    channels = x.shape[-1]
    return _node(
        'BinaryLinearPack', [x, threshold, flip],
        [(torch.uint8, (*x.shape[:-1], packed_bytes(channels)))],
        channels=channels)[0]


def _linear(bits: Tensor, rows: Tensor, num_outputs: int,
            channels: int) -> Tensor:
    return _node(
        'BinaryLinear', [bits, rows],
        [(torch.int32, (*bits.shape[:-1], num_outputs))],
        channels=channels)[0]


def _linear_bits(bits: Tensor, rows: Tensor, limit: Tensor, flip: Tensor,
                 num_outputs: int, channels: int) -> Tensor:
    return _node(
        'BinaryLinearBits', [bits, rows, limit, flip],
        [(torch.uint8, (*bits.shape[:-1], packed_bytes(num_outputs)))],
        channels=channels)[0]


def _linear_fused(*args) -> tuple[Tensor | None, Tensor | None]:
    *inputs, num_outputs, channels, bits_only = args
    return _fused('BinaryLinearFused', inputs, inputs[0].shape[:-1],
                  num_outputs, bits_only, dict(channels=channels))


def _roi_align(x: Tensor, rois: Tensor, output_size: Sequence[int],
               spatial_scale: float, sampling_ratio: int,
               aligned: bool) -> Tensor:
    return _node(
        'RoIAlign', [x, rois],
        [(torch.float32, (rois.shape[0], x.shape[1], *output_size))],
        output_size=list(output_size),
        spatial_scale=float(spatial_scale),
        sampling_ratio=sampling_ratio,
        aligned=int(aligned),
        channels_last=0)[0]


#: Called as ``torch.ops.mmcompress``; bits of weights stand for blobs.
NODES = SimpleNamespace(
    binary_prepack=_prepack,
    binary_pack=_pack,
    binary_conv2d=_conv2d,
    binary_conv2d_bits=_conv2d_bits,
    binary_conv2d_fused=_conv2d_fused,
    binary_linear_pack=_linear_pack,
    binary_linear=_linear,
    binary_linear_bits=_linear_bits,
    binary_linear_fused=_linear_fused)
ENGINES['onnx'] = NODES
POOLS['onnx'] = _roi_align


def packed_layers(model: nn.Module) -> dict[str, str]:
    """The packed 1-bit layers of a model by name, and bits of both factors.

    Raises:
        ValueError: If there are packed layers of more bits.
    """
    for name, module in model.named_modules():
        if isinstance(module, PackedIntegerLayer):
            raise ValueError(
                f'{name} ({type(module).__name__}) of {type(model).__name__} '
                'can not be exported: of packed layers only 1-bit ones have '
                'operators in onnxruntime. Export the quantized model that '
                'was packed: its layers become integers of onnxruntime')
    return {
        name: '1/1'
        for name, module in model.named_modules()
        if isinstance(module, PackedLayer)
    }


@contextmanager
def as_nodes(network: nn.Module) -> Iterator[None]:
    """Let packed layers write nodes while a network is traced."""
    twins = {
        module: module.twin
        for module in network.modules()
        if isinstance(module, (PackedLayer, ChannelsLastRoIAlign))
    }
    for module in twins:
        module.twin = 'onnx'
        if isinstance(module, PackedLayer):
            # now, so that it is a constant of the graph
            module.blob  # noqa: B018
    try:
        yield
    finally:
        for module, twin in twins.items():
            module.twin = twin
            if isinstance(module, PackedLayer):
                module._blobs.pop(('onnx', module.stored.device))


def is_packed(node: 'ir.Node') -> bool:
    """Whether a node is a packed layer."""
    return node.domain == DOMAIN and node.op_type in PACKED


def read_channels_last(graph: 'ir.Graph') -> None:
    """Let packed layers read each other's images without a Transpose.

    Args:
        graph (ir.Graph): Changed in place; Transposes that nothing reads
            stay.
    """
    ir = needs('onnx_ir')
    for node in graph:
        if node.domain != DOMAIN:
            continue
        for attribute, index in _LAYOUTS.items():
            if attribute not in node.attributes or index >= len(node.inputs):
                continue
            value = node.inputs[index]
            source = None if value is None else value.producer()
            if (source is not None and source.op_type == 'Transpose'
                    and list(source.attributes['perm'].as_ints()) == _TO_NCHW):
                node.replace_input_with(index, source.inputs[0])
                node.attributes[attribute] = ir.AttrInt64(attribute, 1)


def bits_of(graph: 'ir.Graph') -> dict[str, tuple['ir.Value', int]]:
    """Packed bits that nodes give, and the number of channels they are of.

    Args:
        graph (ir.Graph): In the order in which the network computes.
    """
    found = {}
    for node in graph:
        if node.domain != DOMAIN:
            continue
        for value in node.outputs:
            if value.dtype is not None and value.dtype.name == 'UINT8':
                channels = node.inputs[1].shape[0] if is_packed(node) else \
                    node.attributes['channels'].as_int()
                found[value.name] = value, channels
    return found


class CollectedBits(TorchDispatchMode):
    """Collects packed bits while a network computes, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Call an operator and look at what it gives."""
        results = func(*args, **(kwargs or {}))
        if func.namespace == 'mmcompress' and 'binary' in func.name():
            several = results if isinstance(results, tuple) else (results, )
            self.found += [
                y for y in several if y.dtype == torch.uint8 and y.numel()
            ]
        return results


def count_different(a: Tensor, b: Tensor) -> int:
    """In how many bits two tensors of bytes differ."""
    return int(np.unpackbits((a ^ b).numpy()).sum())
