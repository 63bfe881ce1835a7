"""What onnxruntime makes of the layers of a written network."""
import tempfile
from pathlib import Path
from typing import NamedTuple

from .nodes import PACKED
from .packages import needs
from .session import Session

_INTEGER = ('QLinearConv', 'ConvInteger', 'MatMulIntegerToFloat',
            'MatMulInteger', 'QLinearMatMul', 'QGemm', *PACKED)
_FLOAT = ('Conv', 'FusedConv', 'NhwcFusedConv', 'ConvTranspose', 'MatMul',
          'FusedMatMul', 'MatMulNBits', 'Gemm', 'FusedGemm')


class Found(NamedTuple):
    """Nodes of quantized layers, and what runs in their place.

    Attributes:
        integer (dict[str, str]): Operators that compute in integers.
        float (dict[str, str]): Those that don't.
    """
    integer: dict[str, str]
    float: dict[str, str]


def optimized(proto: bytes):
    """A file as onnxruntime computes it, an ``onnx.ModelProto``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'optimized.onnx'
        Session(proto, optimized=str(path))
        return needs('onnx').load(str(path))


def find_layers(proto: bytes, names: list[str]) -> Found:
    """Look for the layers of a file in what onnxruntime makes of it.

    Args:
        proto (bytes): What is in the file.
        names (list[str]): Of nodes.

    Raises:
        RuntimeError: If there is no operator for one. That is a defect.
    """
    found = Found({}, {})
    if not names:
        return found
    kinds = {**dict.fromkeys(_INTEGER, 0), **dict.fromkeys(_FLOAT, 1)}
    for node in optimized(proto).graph.node:
        name = _origin(node.name, set(names))
        if name is not None and node.op_type in kinds:
            found[kinds[node.op_type]][name] = node.op_type
    missing = set(names) - set(found.integer) - set(found.float)
    if missing:
        raise RuntimeError(f'onnxruntime has no operator for {min(missing)} '
                           f'and {len(missing) - 1} other layers')
    return found


def _origin(name: str, names: set[str]) -> str | None:
    """Which node a fused one was made of; its name begins with that's."""
    ends = range(len(name), 0, -1)
    return next((name[:end] for end in ends if name[:end] in names), None)
