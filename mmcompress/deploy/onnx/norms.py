"""Fold batch norms into the convolutions of a written graph."""
from typing import TYPE_CHECKING

import numpy as np

from .nodes import (CONVS, add_constant, constant, dequantizer, is_quantized,
                    replace_value)
from .packages import needs

if TYPE_CHECKING:
    import onnx_ir as ir

# onnxruntime makes an int32 of a bias, in units of the two scales
_BIAS_LIMIT = 2.**30


def fold_norms(graph: 'ir.Graph') -> None:
    """Fold batch norms into the convolutions in front of them.

    Codes of weights stay; scales and biases change. Constants are computed in
    float64 and rounded once.

    Args:
        graph (ir.Graph): Changed in place.
    """
    for norm in list(graph):
        if norm.op_type != 'BatchNormalization':
            continue
        conv = norm.inputs[0].producer()
        if conv is not None and _can_fold(conv):
            _fold(graph, conv, norm)
            replace_value(graph, norm.outputs[0], conv.outputs[0])
            graph.remove(norm, safe=True)


def _can_fold(conv: 'ir.Node') -> bool:
    """Whether a norm behind a node is its only reader and can be in it."""
    if conv.op_type not in CONVS or conv.outputs[0].is_graph_output():
        return False
    groups = conv.attributes.get('group')
    if conv.op_type == 'ConvTranspose' and groups and groups.value > 1:
        return False
    known = constant(conv.inputs[1]) is not None
    bias = len(conv.inputs) < 3 or constant(conv.inputs[2]) is not None
    return (len(conv.outputs[0].uses()) == 1 and bias
            and (known or dequantizer(conv.inputs[1], True) is not None))


def _fold(graph: 'ir.Graph', conv: 'ir.Node', norm: 'ir.Node') -> None:
    gamma, beta, mean, variance = (
        constant(value).astype(np.float64) for value in norm.inputs[1:5])
    gain = gamma / np.sqrt(variance + norm.attributes['epsilon'].value)
    bias = 0.
    if len(conv.inputs) > 2:
        bias = constant(conv.inputs[2]).astype(np.float64)
    shift = beta + (bias - mean) * gain
    source = dequantizer(conv.inputs[1], True)
    if source is None:
        weight = constant(conv.inputs[1])
        folded = weight * _along(gain, weight, conv)
        conv.replace_input_with(
            1, _float(graph, f'{conv.name}.folded_weight', folded))
    else:
        scale = _float(graph, f'{conv.name}.folded_scale',
                       constant(source.inputs[1]) * gain)
        conv.replace_input_with(1, _dequantized(graph, source, scale))
    conv.resize_inputs(3)
    conv.replace_input_with(2, _float(graph, f'{conv.name}.folded_bias',
                                      shift))


def _float(graph: 'ir.Graph', name: str, array: np.ndarray) -> 'ir.Value':
    return add_constant(graph, name, array.astype(np.float32))


def _along(vector: np.ndarray, weight: np.ndarray,
           conv: 'ir.Node') -> np.ndarray:
    """One number for each output channel."""
    shape = [1] * weight.ndim
    shape[CONVS[conv.op_type]] = -1
    return vector.reshape(shape)


def _dequantized(graph: 'ir.Graph',
                 source: 'ir.Node',
                 scale: 'ir.Value',
                 codes: 'ir.Value | None' = None) -> 'ir.Value':
    """A weight with other constants; what else reads it keeps its own."""
    ir = needs('onnx_ir')
    new = ir.Node(
        '',
        'DequantizeLinear', [codes or source.inputs[0], scale],
        attributes=list(source.attributes.values()))
    graph.insert_before(source, new)
    new.outputs[0].dtype = ir.DataType.FLOAT
    new.outputs[0].shape = source.outputs[0].shape
    return new.outputs[0]


def keep_biases(graph: 'ir.Graph') -> None:
    """Let the bias of each convolution be an integer in units of its scales.

    Where a channel's scale is tiny beside its bias, as behind a norm whose
    gain is 0, it is raised, and the codes are divided by as much.

    Args:
        graph (ir.Graph): Changed in place.
    """
    for conv in list(graph):
        if conv.op_type != 'Conv' or len(conv.inputs) < 3:
            continue
        weight = dequantizer(conv.inputs[1], True)
        data = dequantizer(conv.inputs[0], False)
        if weight is not None and data is not None:
            _raise_scales(graph, conv, weight, data)


def _raise_scales(graph: 'ir.Graph', conv: 'ir.Node', weight: 'ir.Node',
                  data: 'ir.Node') -> None:
    bias, scale = constant(conv.inputs[2]), constant(weight.inputs[1])
    unit = constant(data.inputs[1])
    least = np.abs(bias) / unit / _BIAS_LIMIT
    # a channel of zeros without a bias
    least[(least == 0) & (scale == 0)] = 1
    small = np.abs(scale) < least
    if not small.any():
        return
    raised = np.where(small, least, scale).astype(np.float32)
    codes = constant(weight.inputs[0])
    factor = np.where(small, scale / raised, 1.)
    codes = np.round(codes * _along(factor, codes, conv)).astype(np.int8)
    conv.replace_input_with(
        1,
        _dequantized(graph, weight,
                     _float(graph, f'{conv.name}.raised_scale', raised),
                     add_constant(graph, f'{conv.name}.raised_codes', codes)))


def widen_biases(graph: 'ir.Graph') -> None:
    """Give what is added to a quantized product three dimensions.

    onnxruntime takes a product and a bias of one dimension for a float layer
    before it looks for integers.

    Args:
        graph (ir.Graph): Changed in place.
    """
    for node in list(graph):
        if node.op_type != 'Add':
            continue
        for index, other in ((0, 1), (1, 0)):
            bias, product = node.inputs[index], node.inputs[other].producer()
            array = constant(bias)
            if (product is not None and product.op_type == 'MatMul'
                    and is_quantized(product) and array is not None
                    and array.ndim == 1):
                wide = add_constant(graph, f'{product.name}.bias',
                                    array.reshape(1, 1, -1))
                node.replace_input_with(index, wide)
