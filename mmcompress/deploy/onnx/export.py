"""Write the network of a model as ONNX."""
from dataclasses import dataclass, field

import torch
import torch.nn as nn

from .convert import convert
from .graph import fold_norms, keep_biases, name_layers
from .integer_nodes import clip_codes, write_integer_convs
from .integers import Found, find_layers
from .network import Network
from .operators import translations
from .packages import needs

OPSET = 21


@dataclass
class Exported:
    """A written network.

    Attributes:
        proto (bytes): What is in the file.
        network (Network): The same in PyTorch, whose quantizers are those of
            the file.
        layers (dict[str, str]): Bits of the quantized layers.
        found (Found): What onnxruntime makes of their nodes.
        modules (dict[str, str]): Layers by the names of nodes.
        floats (dict[str, str]): Low-bit layers and products that stay float,
            and why.
    """
    proto: bytes
    network: Network
    layers: dict[str, str]
    found: Found
    modules: dict[str, str]
    floats: dict[str, str] = field(default_factory=dict)


def _where(error: BaseException, network: nn.Module) -> str:
    """The innermost module of the network in the trace of an error."""
    names = {id(m): name for name, m in network.named_modules()}
    found, trace = '', error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get('self')
        found = names.get(id(owner), found)
        trace = trace.tb_next
    return found.removeprefix('model.')


def _refuse(network: Network, where: str, error: Exception) -> None:
    kind = ''
    if where:
        kind = type(network.model.get_submodule(where)).__name__
        kind = f'{where} ({kind}) of '
    reason = str(error).strip().partition('\n')[0]
    raise ValueError(
        f'{kind}{type(network.model).__name__} can not be exported: '
        f'{type(error).__name__}: {reason}') from error


def _without_translation(program, error: Exception) -> str:
    """The module of the first operator that the exporter can't write."""
    text = str(error) + str(error.__cause__)
    for node in program.graph.nodes:
        if node.op != 'call_function' or str(node.target) not in text:
            continue
        stack = node.meta.get('nn_module_stack') or {}
        paths = [path for path, _ in stack.values()]
        if paths:
            return paths[-1].removeprefix('model.')
    return ''


def _write(network: Network):
    """The graph of a network, as the exporter of PyTorch gives it."""
    needs('onnxscript')
    with torch.no_grad():
        try:
            program = torch.export.export(
                network, (network.example(), ), strict=False)
        except Exception as error:
            _refuse(network, _where(error, network), error)
        try:
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=['images'],
                output_names=network.output_names(),
                custom_translation_table=translations(),
                optimize=True,
                verbose=False)
        except Exception as error:
            _refuse(network, _without_translation(program, error), error)
    return written.model


def export(model: nn.Module,
           size: tuple[int, int],
           attention: str = 'as trained',
           metadata: dict[str, str] | None = None) -> Exported:
    """Write the network of a model, float or quantized, as ONNX.

    Norms are folded into convolutions. Layers with quantizers are written so
    that onnxruntime computes them in integers.

    Args:
        model (nn.Module): A model of an mm library, in eval mode; not
            changed.
        size (tuple[int, int]): Height and width of images.
        attention (str): As of :func:`~.convert.convert`.
        metadata (dict[str, str] | None): Kept in the file.

    Raises:
        ImportError: If ``mmcompress[onnx]`` is not installed.
        ValueError: If something of the network can not be exported; names
            the module.
    """
    ir = needs('onnx_ir')
    converted = convert(model, attention)
    network = Network(converted.model, size).eval()
    written = _write(network)
    graph = written.graph
    modules = name_layers(graph, 'model')
    fold_norms(graph)
    clip_codes(graph)
    keep_biases(graph)
    _drop_unused(written)
    found = Found({}, {})
    if modules:
        found = find_layers(_bytes(written), list(modules))
        if write_integer_convs(graph, set(found.float)):
            _drop_unused(written)
            found = find_layers(_bytes(written), list(modules))
    written.metadata_props.update(metadata or {})
    written.producer_name = 'mmcompress'
    del ir
    return Exported(
        _bytes(written), network, converted.layers, found, modules,
        converted.floats)


def _bytes(written) -> bytes:
    return needs('onnx_ir').to_proto(written).SerializeToString()


def _drop_unused(written) -> None:
    passes = needs('onnx_ir.passes.common')
    passes.RemoveUnusedNodesPass()(written)
