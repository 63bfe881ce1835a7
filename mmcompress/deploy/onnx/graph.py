"""Changes of a written graph: norms folded, names, integer convolutions."""
from typing import TYPE_CHECKING

import numpy as np

from .packages import needs

if TYPE_CHECKING:
    import onnx_ir as ir

_CONVS = dict(Conv=0, ConvTranspose=1)
# onnxruntime makes an int32 of a bias, in units of the two scales
_BIAS_LIMIT = 2.**30
_NAME_SCOPES = 'pkg.torch.onnx.name_scopes'


def constant(value: 'ir.Value | None') -> np.ndarray | None:
    """The array of a value that is one."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def _initializer(graph: 'ir.Graph', name: str,
                 array: np.ndarray) -> 'ir.Value':
    """A new constant of a graph, which keeps those of other nodes."""
    ir = needs('onnx_ir')
    while name in graph.initializers:
        name += '_'
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def quantized_weight(node: 'ir.Node') -> 'ir.Node | None':
    """The ``DequantizeLinear`` of a layer's int8 weight, if it has one."""
    if node.op_type not in (*_CONVS, 'MatMul'):
        return None
    source = node.inputs[1].producer()
    if source is None or source.op_type != 'DequantizeLinear':
        return None
    return None if constant(source.inputs[0]) is None else source


def quantized_input(node: 'ir.Node') -> 'ir.Node | None':
    """The ``DequantizeLinear`` of a layer's uint8 input, if it has one."""
    source = node.inputs[0].producer()
    is_quantized = source is not None and source.op_type == 'DequantizeLinear'
    return source if is_quantized else None


# ---- Names -----------------------------------------------------------------


def name_layers(graph: 'ir.Graph', prefix: str) -> dict[str, str]:
    """Name the nodes of layers by their modules, and forget how they came.

    Args:
        graph (ir.Graph): Changed in place.
        prefix (str): Of module names, which is left out.

    Returns:
        dict[str, str]: Modules by the names of nodes with int8 weights: one
        that is called several times has several.
    """
    layers = {}
    taken: set[str] = set()
    for node in graph:
        scopes = node.metadata_props.get(_NAME_SCOPES)
        node.metadata_props.clear()
        for output in node.outputs:
            output.metadata_props.clear()
        if node.op_type not in (*_CONVS, 'MatMul', 'Gemm') or not scopes:
            continue
        # a list of texts, the last of which is the operator
        module = eval(scopes, {'__builtins__': {}})[-2]
        module = module.removeprefix(f'{prefix}.')
        name, count = module, 1
        while name in taken:
            count += 1
            name = f'{module}:{count}'
        taken.add(name)
        node.name = name
        if quantized_weight(node) is not None:
            layers[name] = module
    return layers


# ---- Norms -----------------------------------------------------------------


def fold_norms(graph: 'ir.Graph') -> int:
    """Fold batch norms into the convolutions in front of them.

    Codes of weights stay; scales and biases change.

    Args:
        graph (ir.Graph): Changed in place.

    Returns:
        int: How many norms are left.
    """
    left = 0
    for node in list(graph):
        if node.op_type == 'BatchNormalization':
            left += not _fold_norm(graph, node)
    return left


def _fold_norm(graph: 'ir.Graph', norm: 'ir.Node') -> bool:
    conv = norm.inputs[0].producer()
    if (conv is None or conv.op_type not in _CONVS
            or len(norm.inputs[0].uses()) > 1
            or norm.inputs[0].is_graph_output()):
        return False
    axis = _CONVS[conv.op_type]
    groups = conv.attributes['group'].value if 'group' in conv.attributes else 1
    if axis and groups > 1:
        return False
    gamma, beta, mean, var = (
        constant(value).astype(np.float64) for value in norm.inputs[1:5])
    epsilon = norm.attributes['epsilon'].value
    gain = gamma / np.sqrt(var + epsilon)
    bias = 0.
    if len(conv.inputs) > 2 and conv.inputs[2] is not None:
        bias = constant(conv.inputs[2]).astype(np.float64)
    shift = (beta + (bias - mean) * gain).astype(np.float32)
    source = quantized_weight(conv)
    name = conv.name
    if source is None:
        weight = constant(conv.inputs[1])
        if weight is None:
            return False
        shape = [1] * weight.ndim
        shape[axis] = -1
        folded = (weight * gain.reshape(shape)).astype(np.float32)
        conv.replace_input_with(
            1, _initializer(graph, f'{name}.folded_weight', folded))
    else:
        # a weight that is used elsewhere keeps its scale there
        scale = constant(source.inputs[1]) * gain
        new = _initializer(graph, f'{name}.folded_scale',
                           scale.astype(np.float32))
        conv.replace_input_with(1, _dequantized(source, new))
    _set_bias(graph, conv, shift)
    out = norm.outputs[0]
    conv.outputs[0].name, out.name = out.name, conv.outputs[0].name
    for user, index in list(out.uses()):
        user.replace_input_with(index, conv.outputs[0])
    for i, output in enumerate(graph.outputs):
        if output is out:
            graph.outputs[i] = conv.outputs[0]
    graph.remove(norm, safe=True)
    return True


def _dequantized(source: 'ir.Node', scale: 'ir.Value',
                 codes: 'ir.Value | None' = None) -> 'ir.Value':
    """The weight of a ``DequantizeLinear`` with other constants."""
    ir = needs('onnx_ir')
    new = ir.Node(
        '',
        'DequantizeLinear', [codes or source.inputs[0], scale],
        attributes=list(source.attributes.values()))
    source.graph.insert_before(source, new)
    new.outputs[0].dtype = ir.DataType.FLOAT
    new.outputs[0].shape = source.outputs[0].shape
    return new.outputs[0]


def _set_bias(graph: 'ir.Graph', conv: 'ir.Node', bias: np.ndarray) -> None:
    conv.resize_inputs(3)
    conv.replace_input_with(2, _initializer(graph, f'{conv.name}.folded_bias',
                                            bias))


def keep_biases(graph: 'ir.Graph') -> None:
    """Let the bias of each convolution be an integer of its scales.

    Where a channel's scale is tiny beside its bias, as behind a norm whose
    gain is 0, it is raised, and the codes are divided by as much.

    Args:
        graph (ir.Graph): Changed in place.
    """
    for conv in list(graph):
        weight, data = None, None
        if conv.op_type in _CONVS and len(conv.inputs) > 2:
            weight, data = quantized_weight(conv), quantized_input(conv)
        if weight is None or data is None:
            continue
        bias, unit = constant(conv.inputs[2]), constant(data.inputs[1])
        scale = constant(weight.inputs[1])
        if bias is None or unit is None or unit.ndim:
            continue
        least = np.abs(bias) / unit / _BIAS_LIMIT
        # a channel of zeros without a bias
        least[(least == 0) & (scale == 0)] = 1
        small = np.abs(scale) < least
        if not small.any():
            continue
        raised = np.where(small, least, scale).astype(np.float32)
        codes = constant(weight.inputs[0])
        shape = [1] * codes.ndim
        shape[_CONVS[conv.op_type]] = -1
        factor = np.where(small, scale / raised, 1.).reshape(shape)
        codes = np.round(codes * factor).astype(np.int8)
        conv.replace_input_with(
            1,
            _dequantized(
                weight, _initializer(graph, f'{conv.name}.raised_scale',
                                     raised),
                _initializer(graph, f'{conv.name}.raised_codes', codes)))
