"""Bring quantizers right behind the convolutions that they follow.

Only then does onnxruntime compute a convolution in integers.
"""
from typing import TYPE_CHECKING

import numpy as np

from .nodes import add_constant, constant
from .operators import UINT8_MAX
from .packages import needs

if TYPE_CHECKING:
    import onnx_ir as ir


def _readers(value: 'ir.Value') -> list['ir.Node'] | None:
    """The quantizers that read a value; None if others do, too."""
    users = [user for user, _ in value.uses()]
    others = any(user.op_type != 'QuantizeLinear' for user in users)
    return None if others or value.is_graph_output() else users


def merge_quantizers(graph: 'ir.Graph') -> None:
    """Let equal quantizers of a value, those of its readers, be one.

    Args:
        graph (ir.Graph): Changed in place.
    """
    first: dict[tuple, ir.Node] = {}
    for node in list(graph):
        if node.op_type != 'QuantizeLinear':
            continue
        scale, zero = map(constant, node.inputs[1:3])
        key = id(node.inputs[0]), scale.tobytes(), zero.tobytes()
        same = first.setdefault(key, node)
        if same is not node:
            for user, index in list(node.outputs[0].uses()):
                user.replace_input_with(index, same.outputs[0])
            graph.remove(node, safe=True)


def _edges(node: 'ir.Node') -> tuple[float, float] | None:
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
    """Clip codes instead of the real values before; both give the same.

    Rounding is monotone. What clips must be read by quantizers only.

    Args:
        graph (ir.Graph): Changed in place.
    """
    for node in list(graph):
        edges = _edges(node)
        users = None if edges is None else _readers(node.outputs[0])
        if not users:
            continue
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
        add_constant(graph, f'{codes.name}.{name}', np.uint8(edge))
        for name, edge in (('low', low), ('high', high))
    ]
    clip = ir.Node('', 'Clip', [codes, *limits])
    graph.insert_after(quantizer, clip)
    clipped = clip.outputs[0]
    clipped.type, clipped.shape = codes.type, codes.shape
    codes.name, clipped.name = f'{codes.name}.before_clip', codes.name
    for user, index in users:
        user.replace_input_with(index, clipped)
