"""What onnxruntime makes of the layers of a written network."""
import tempfile
from pathlib import Path
from typing import NamedTuple

from .packages import needs
from .session import Session

# compute in integers, of constants at these places
_INTEGER = {
    'QLinearConv': 3,
    'ConvInteger': 1,
    'MatMulIntegerToFloat': 1,
    'DynamicQuantizeMatMul': 1,
    'QLinearMatMul': 3,
    'MatMulInteger': 1,
    'QGemm': 3
}
_FLOAT = ('Conv', 'ConvTranspose', 'MatMul', 'Gemm', 'FusedConv',
          'FusedMatMul', 'NhwcFusedConv', 'MatMulNBits')


class Found(NamedTuple):
    """The layers of an optimized graph.

    Attributes:
        integer (dict[str, str]): Operators that compute in integers, by the
            names of nodes as they were written.
        float (dict[str, str]): Those of quantized layers that don't.
    """
    integer: dict[str, str]
    float: dict[str, str]


def optimized_graph(model: bytes):
    """The graph of a model as onnxruntime computes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'optimized.onnx'
        Session(model, optimized=str(path))
        return needs('onnx').load(str(path)).graph


def find_layers(model: bytes, names: list[str]) -> Found:
    """Look for the layers of a written network in what onnxruntime runs.

    Args:
        model (bytes): As of a file.
        names (list[str]): Of nodes of layers with int8 weights.
    """
    graph = optimized_graph(model)
    wanted = set(names)
    integer, floats = {}, {}
    for node in graph.node:
        # a fused node keeps the name of what it was made of, with more
        name = next((n for n in _stems(node.name) if n in wanted), None)
        if name is None:
            continue
        if node.op_type in _INTEGER:
            integer[name] = node.op_type
        elif node.op_type in _FLOAT:
            floats[name] = node.op_type
    missing = wanted - set(integer) - set(floats)
    floats.update((name, 'not found') for name in missing)
    return Found(integer, floats)


def _stems(name: str) -> list[str]:
    """A name, and what it may be made of."""
    return [name[:end] for end in range(len(name), 0, -1)]
