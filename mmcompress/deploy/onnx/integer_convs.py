"""Convolutions of integers with real outputs."""
from typing import TYPE_CHECKING

import numpy as np

from .nodes import add_constant, constant, dequantizer, replace_value
from .packages import needs

if TYPE_CHECKING:
    import onnx_ir as ir

# of int8, as uint8
_SHIFT = 128


def write_integer_convs(graph: 'ir.Graph', names: set[str]) -> bool:
    """Write quantized convolutions as ``ConvInteger``.

    onnxruntime computes a quantized convolution in float if no quantizer
    follows it. This is the definition of the other inference twins: a sum of
    integers, times the scales, plus a real bias. Weights are uint8 then, for
    which the kernel takes a fifth of the time.

    Args:
        graph (ir.Graph): Changed in place.
        names (set[str]): Of nodes; other operators stay.

    Returns:
        bool: Whether there were any.
    """
    convs = [n for n in graph if n.op_type == 'Conv' and n.name in names]
    for conv in convs:
        _write(graph, conv)
    return bool(convs)


def _write(graph: 'ir.Graph', conv: 'ir.Node') -> None:
    ir = needs('onnx_ir')
    data = dequantizer(conv.inputs[0], False)
    weight = dequantizer(conv.inputs[1], True)
    codes = constant(weight.inputs[0]).astype(np.int16) + _SHIFT

    def number(key: str, array: np.ndarray) -> 'ir.Value':
        return add_constant(graph, f'{conv.name}.{key}', array)

    def of_channels(key: str, vector: np.ndarray) -> 'ir.Value':
        return number(key, vector.reshape(1, -1, 1, 1).astype(np.float32))

    sums = ir.Node(
        '',
        'ConvInteger', [
            data.inputs[0],
            number('uint8_codes', codes.astype(np.uint8)), data.inputs[2],
            number('uint8_zero', np.uint8(_SHIFT))
        ],
        attributes=list(conv.attributes.values()),
        name=conv.name)
    real = ir.Node(
        '',
        'Cast',
        sums.outputs,
        attributes=[ir.AttrInt64('to', ir.DataType.FLOAT.value)])
    scale = constant(data.inputs[1]) * constant(weight.inputs[1])
    nodes = [
        sums, real,
        ir.Node(
            '', 'Mul',
            [real.outputs[0], of_channels('scales', scale)])
    ]
    if len(conv.inputs) > 2:
        bias = of_channels('real_bias', constant(conv.inputs[2]))
        nodes.append(ir.Node('', 'Add', [nodes[-1].outputs[0], bias]))
    graph.insert_before(conv, nodes)
    replace_value(graph, conv.outputs[0], nodes[-1].outputs[0])
    graph.remove(conv, safe=True)
