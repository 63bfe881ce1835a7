"""Write the network of a model as ONNX."""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import torch.nn as nn

from mmcompress.ops import reference
from .activations import clip_codes, merge_quantizers
from .conversion import Converted, convert
from .custom_ops import custom_ops_library
from .deformable import without_deformable_operators
from .integer_convs import write_integer_convs
from .integers import Found, find_layers
from .metadata import as_texts
from .network import Network
from .nodes import is_quantized, name_nodes
from .norms import fold_norms, keep_biases, widen_biases
from .operators import translations
from .packages import needs
from .packed import as_nodes, is_packed, packed_layers, read_channels_last
from .postprocess import operators as predictions
from .postprocess.whole import WholeNetwork

if TYPE_CHECKING:
    import onnx_ir as ir

OPSET = 21


@dataclass
class Exported:
    """A written network.

    Attributes:
        proto (bytes): What is in the file.
        network (Network): The same in PyTorch, with the same quantizers.
        converted (Converted): Which layers have integers.
        modules (dict[str, str]): All layers, by the names of nodes.
        found (Found): What onnxruntime makes of those with integers.
    """
    proto: bytes
    network: Network
    converted: Converted
    modules: dict[str, str]
    found: Found

    def floats(self) -> dict[str, str]:
        """Low-bit layers that are computed in float, and why."""
        reasons = dict(self.converted.floats)
        for node, operator in self.found.float.items():
            reasons[self.modules[node]] = (
                f'onnxruntime has {operator} in float only')
        called = set(self.modules.values())
        known = {
            self.modules[node]
            for node in (*self.found.integer, *self.found.float)
        }
        for layer in self.converted.layers:
            if layer not in called:
                reasons[layer] = 'the exported network does not call it'
            elif layer not in known:
                reasons[layer] = ('something stands between its quantizers '
                                  'and its product')
        return reasons


def _where(error: BaseException, network: Network) -> str:
    """The innermost module of the network in the trace of an error."""
    names = {id(m): name for name, m in network.named_modules()}
    found, trace = '', error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get('self')
        found = names.get(id(owner), found)
        trace = trace.tb_next
    return found


def _of_operator(program: torch.export.ExportedProgram,
                 error: BaseException) -> str:
    """The module of the operator that the exporter fails at."""
    text = str(error)
    while error.__cause__ is not None:
        error = error.__cause__
        text += str(error)
    for node in program.graph.nodes:
        stack = node.meta.get('nn_module_stack')
        if node.op == 'call_function' and stack and str(node.target) in text:
            return list(stack.values())[-1][0]
    return ''


def _refuse(network: Network, module: str, error: Exception) -> NoReturn:
    """Say what can not go.

    Raises:
        ValueError: Names the module.
    """
    model = network.model
    name = module.removeprefix('model.')
    what = type(model).__name__
    if module.startswith('model.'):
        kind = type(model.get_submodule(name)).__name__
        what = f'{name} ({kind}) of {what}'
    lines = str(error).strip().splitlines() or ['']
    raise ValueError(f'{what} can not be exported: {type(error).__name__}: '
                     f'{lines[0]}') from error


def _without_match_merge(
        program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Merging of tokens by operators that ONNX has, instead of our own."""
    operator = torch.ops.mmcompress.match_merge.default
    if all(node.target != operator for node in program.graph.nodes):
        return program
    return program.run_decompositions({operator: reference.match_merge})


def _write(network: Network) -> 'ir.Model':
    """The graph of a network, as the exporter of PyTorch writes it."""
    try:
        with torch.no_grad(), as_nodes(network):
            program = torch.export.export(
                network,
                network.examples(),
                dynamic_shapes=network.dynamic_shapes(),
                strict=False)
            program = _without_match_merge(program)
    except Exception as error:
        _refuse(network, _where(error, network), error)
    try:
        written = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=network.input_names(),
            output_names=network.output_names(),
            custom_translation_table={
                **translations(),
                **predictions.translations()
            },
            verbose=False)
    except Exception as error:
        _refuse(network, _of_operator(program, error), error)
    return written.model


def _bytes(written: 'ir.Model') -> bytes:
    needs('onnx_ir.passes.common').RemoveUnusedNodesPass()(written)
    return needs('onnx_ir').to_proto(written).SerializeToString()


def _all_names(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules with all of their names, heads of several levels share some."""
    return list(model.named_modules(remove_duplicate=False))


def _give_defaults(graph: 'ir.Graph', network: Network) -> None:
    """Let all inputs behind the images be optional."""
    ir = needs('onnx_ir')
    for value, example in zip(graph.inputs[1:], network.examples()[1:]):
        value.const_value = ir.tensor(example.numpy(), name=value.name)
        graph.register_initializer(value)


def export(model: nn.Module,
           size: tuple[int, int],
           metadata: dict[str, Any] | None = None,
           *,
           postprocess: bool = False,
           preprocessing: bool = False,
           flip_indices: Sequence[int] | None = None) -> Exported:
    """Write the network of a model, float, quantized or packed, as ONNX.

    Norms are folded into convolutions. Layers with quantizers are written so
    that onnxruntime computes them in integers; packed 1-bit layers as
    operators of :func:`~.custom_ops.custom_ops_library`.

    Args:
        model (nn.Module): A model of an mm library, in eval mode; not
            changed.
        size (tuple[int, int]): Height and width of images.
        metadata (dict[str, Any] | None): Kept in the file, see
            :func:`~.metadata.metadata_of`, with the bits of layers and what
            is not exported.
        postprocess (bool): Whether to write what the model predicts of what
            its network returns, too: decoding, suppression, scores.
        preprocessing (bool): With ``postprocess``, whether to write what the
            data preprocessor does, too; images are uint8 then, as the
            pipeline gives them, with channels behind.
        flip_indices (Sequence[int] | None): Of keypoints, for pose estimators
            that also look at the flipped image.

    Raises:
        FileNotFoundError: If the model is packed and the library of its
            operators is not built.
        NoPostprocess: If predictions of the model are not known; names the
            module.
        ImportError: If ``mmcompress[onnx]`` is not installed.
        RuntimeError: If a quantizer has no scales yet.
        ValueError: If something of the network can not be exported; names
            the module.
    """
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        needs(package)
    packed = packed_layers(model)
    if packed:
        custom_ops_library()
    make = Network
    if postprocess:
        make = partial(
            WholeNetwork,
            flip_indices=flip_indices,
            preprocessing=preprocessing)
    elif preprocessing:
        raise ValueError('preprocessing is written together with the '
                         'predictions: postprocess=True (--postprocess)')
    model = without_deformable_operators(model)
    # runs it: one that has no scales, and gets more than zeros, says so
    make(model, size)
    converted = convert(model)
    converted.layers.update(packed)
    network = make(converted.model, size)
    network.eval()
    written = _write(network)
    graph = written.graph
    names = {m: name for name, m in reversed(_all_names(network.model))}
    modules = name_nodes(graph, 'model', {
        name: names[m]
        for name, m in _all_names(network.model)
    })
    fold_norms(graph)
    merge_quantizers(graph)
    clip_codes(graph)
    keep_biases(graph)
    widen_biases(graph)
    read_channels_last(graph)
    nodes = [
        node.name for node in graph if is_quantized(node) or is_packed(node)
    ]
    found = find_layers(_bytes(written), nodes)
    if write_integer_convs(graph, set(found.float)):
        found = find_layers(_bytes(written), nodes)
    _give_defaults(graph, network)
    written.producer_name = 'mmcompress'
    written.metadata_props.clear()
    written.metadata_props.update(
        as_texts(
            dict(
                metadata or {},
                bits=converted.layers,
                left_out=network.left_out)))
    return Exported(_bytes(written), network, converted, modules, found)
