"""Let onnxruntime find integer convolutions, or write them."""
from typing import TYPE_CHECKING

import numpy as np

from .graph import (_initializer, constant, quantized_input,
                    quantized_weight)
from .operators import UINT8_MAX
from .packages import needs

if TYPE_CHECKING:
    import onnx_ir as ir

# of int8, as uint8
_SHIFT = 128


# ---- Activations between a layer and the quantizer of the next -------------


def _range_of(node: 'ir.Node') -> tuple[float, float] | None:
    """Between what a node clips; None if it doesn't clip by constants."""
    if node.op_type == 'Relu':
        return 0., np.inf
    if node.op_type != 'Clip':
        return None
    edges = [-np.inf, np.inf]
    for i, value in enumerate(node.inputs[1:]):
        if value is not None:
            edge = constant(value)
            if edge is None:
                return None
            edges[i] = float(edge)
    return edges[0], edges[1]


def clip_codes(graph: 'ir.Graph') -> None:
    """Move what clips real values behind the quantizer that reads them.

    Rounding is monotone, so the codes are the same. onnxruntime computes a
    convolution in integers if a quantizer follows it at once.

    Args:
        graph (ir.Graph): Changed in place.
    """
    for node in list(graph):
        edges = _range_of(node)
        users = [user for user, _ in node.outputs[0].uses()]
        if (edges is None or node.outputs[0].is_graph_output() or not users
                or any(user.op_type != 'QuantizeLinear' for user in users)):
            continue
        for quantizer in users:
            scale, zero = map(constant, quantizer.inputs[1:3])
            if scale is None or scale.ndim or zero.dtype != np.uint8:
                break
        else:
            for quantizer in users:
                _clip_behind(graph, quantizer, edges)
                quantizer.replace_input_with(0, node.inputs[0])
            graph.remove(node, safe=True)


def _clip_behind(graph: 'ir.Graph', quantizer: 'ir.Node',
                 edges: tuple[float, float]) -> None:
    ir = needs('onnx_ir')
    scale, zero = map(constant, quantizer.inputs[1:3])
    low, high = (
        int(np.clip(np.round(np.float32(edge) / scale) + zero, 0, UINT8_MAX))
        for edge in edges)
    if (low, high) == (0, UINT8_MAX):
        return
    codes = quantizer.outputs[0]
    users = list(codes.uses())
    limits = [
        _initializer(graph, f'{codes.name}.{name}', np.uint8(edge))
        for name, edge in (('low', low), ('high', high))
    ]
    clip = ir.Node('', 'Clip', [codes, *limits])
    clip.outputs[0].dtype = codes.dtype
    clip.outputs[0].shape = codes.shape
    graph.insert_after(quantizer, clip)
    for user, index in users:
        user.replace_input_with(index, clip.outputs[0])


# ---- Convolutions with real outputs ----------------------------------------


def write_integer_convs(graph: 'ir.Graph', names: set[str]) -> set[str]:
    """Write quantized convolutions as ``ConvInteger``.

    For those whose output is real, which onnxruntime computes in float
    otherwise. With the definition of the other twins: a sum of integers, times
    the scales, plus a real bias. Weights are uint8 then, for which its kernels
    are several times as fast.

    Args:
        graph (ir.Graph): Changed in place.
        names (set[str]): Of nodes.

    Returns:
        set[str]: Names of those that were.
    """
    written = set()
    for conv in list(graph):
        if conv.name not in names or conv.op_type != 'Conv':
            continue
        weight, data = quantized_weight(conv), quantized_input(conv)
        scale = None if data is None else constant(data.inputs[1])
        if weight is not None and scale is not None and not scale.ndim:
            _write(graph, conv, weight, data)
            written.add(conv.name)
    return written


def _write(graph: 'ir.Graph', conv: 'ir.Node', weight: 'ir.Node',
           data: 'ir.Node') -> None:
    ir = needs('onnx_ir')
    name = conv.name
    codes = constant(weight.inputs[0]).astype(np.int16) + _SHIFT
    scale = constant(data.inputs[1]) * constant(weight.inputs[1])
    zero_point = data.inputs[2]

    def row(key: str, array: np.ndarray) -> 'ir.Value':
        return _initializer(graph, f'{name}.{key}',
                            array.reshape(1, -1, 1, 1).astype(np.float32))

    def node(op_type: str, inputs: list, attributes: list = ()) -> 'ir.Node':
        return ir.Node('', op_type, inputs, attributes=attributes)

    sums = node('ConvInteger', [
        data.inputs[0],
        _initializer(graph, f'{name}.uint8_codes', codes.astype(np.uint8)),
        zero_point,
        _initializer(graph, f'{name}.uint8_zero', np.uint8(_SHIFT))
    ], list(conv.attributes.values()))
    sums.name = name
    real = node('Cast', sums.outputs,
                [ir.AttrInt64('to', ir.DataType.FLOAT.value)])
    scaled = node('Mul', [real.outputs[0], row('scales', scale)])
    nodes = [sums, real, scaled]
    if len(conv.inputs) > 2 and conv.inputs[2] is not None:
        bias = row('real_bias', constant(conv.inputs[2]))
        nodes.append(node('Add', [scaled.outputs[0], bias]))
    conv.name = ''
    graph.insert_before(conv, nodes)
    old, new = conv.outputs[0], nodes[-1].outputs[0]
    new.shape, new.dtype = old.shape, old.dtype
    new.name, old.name = old.name, None
    for user, index in list(old.uses()):
        user.replace_input_with(index, new)
    for i, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[i] = new
    graph.remove(conv, safe=True)
