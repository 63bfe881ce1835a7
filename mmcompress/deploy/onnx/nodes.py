"""Nodes of a written graph: what they are, whose, and their constants."""
import ast
from typing import TYPE_CHECKING

import numpy as np

from .packages import needs

if TYPE_CHECKING:
    import onnx_ir as ir

#: Convolutions, and where their weights have output channels.
CONVS = dict(Conv=0, ConvTranspose=1)
#: Packed layers, of our own domain.
PACKED = ('BinaryConv2d', 'BinaryConv2dBits', 'BinaryConv2dFused',
          'BinaryConv2dFusedBits', 'BinaryLinear', 'BinaryLinearBits',
          'BinaryLinearFused', 'BinaryLinearFusedBits')
#: Ends the names of codes of activations.
CODES = '.codes'
# of what the exporter notes of a node
_SCOPES = 'pkg.torch.onnx.name_scopes'


def constant(value: 'ir.Value | None') -> np.ndarray | None:
    """The array of a value that is one."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def add_constant(graph: 'ir.Graph', name: str,
                 array: np.ndarray) -> 'ir.Value':
    """A new constant of a graph."""
    ir = needs('onnx_ir')
    while name in graph.initializers:
        name += '_'
    array = np.asarray(array)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def replace_value(graph: 'ir.Graph', old: 'ir.Value', new: 'ir.Value') -> None:
    """Let all that reads a value read another, which takes its name."""
    new.shape, new.type = old.shape, old.type
    old.name, new.name = None, old.name
    for user, index in list(old.uses()):
        user.replace_input_with(index, new)
    for i, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[i] = new


def dequantizer(value: 'ir.Value | None', is_weight: bool) -> 'ir.Node | None':
    """The ``DequantizeLinear`` that a value comes from, if it does.

    Args:
        value (ir.Value | None): What a layer reads.
        is_weight (bool): Whether its codes are constant.
    """
    node = None if value is None else value.producer()
    if node is None or node.op_type != 'DequantizeLinear':
        return None
    is_constant = constant(node.inputs[0]) is not None
    return node if is_constant == is_weight else None


def is_quantized(node: 'ir.Node') -> bool:
    """Whether both factors of a layer, or of a product, have codes."""
    if node.op_type not in (*CONVS, 'MatMul'):
        return False
    first, second = node.inputs[:2]
    return dequantizer(first, False) is not None and (dequantizer(
        second, True) or dequantizer(second, False)) is not None


def name_nodes(graph: 'ir.Graph', prefix: str,
               first_names: dict[str, str]) -> dict[str, str]:
    """Name layers and codes by their modules, and forget how they came.

    What is called several times gets ``:2`` and so on. Codes of activations
    are values named as their quantizers, with ``.codes``.

    Args:
        graph (ir.Graph): Changed in place.
        prefix (str): Of module names, which is left out.
        first_names (dict[str, str]): Of modules that stand in several places,
            by all of their names.

    Returns:
        dict[str, str]: Modules by the names of nodes: layers, and products
        of activations.
    """
    graph.metadata_props.clear()
    modules = {}
    taken: set[str] = set()
    for node in graph:
        scopes = node.metadata_props.get(_SCOPES)
        node.metadata_props.clear()
        for output in node.outputs:
            output.metadata_props.clear()
        is_layer = node.op_type in (*CONVS, 'MatMul', 'Gemm', *PACKED)
        is_quantizer = dequantizer(node.outputs[0], False) is node
        if not scopes or not (is_layer or is_quantizer):
            continue
        # the last is the operator
        module = ast.literal_eval(scopes)[-2].removeprefix(f'{prefix}.')
        module = first_names.get(module, module)
        name, count = module, 1
        while name in taken:
            count += 1
            name = f'{module}:{count}'
        taken.add(name)
        if is_layer:
            node.name = name
            modules[name] = module
        else:
            node.inputs[0].name = f'{name}{CODES}'
    for name, value in list(graph.initializers.items()):
        value.name = name.removeprefix(f'{prefix}.')
    return modules


def codes_of(graph: 'ir.Graph') -> dict[str, 'ir.Value']:
    """Codes of activations by the names of their quantizers.

    Args:
        graph (ir.Graph): With the names of :func:`name_nodes`.
    """
    return {
        value.name.removesuffix(CODES): value
        for node in graph
        for value in node.outputs if value.name.endswith(CODES)
    }
