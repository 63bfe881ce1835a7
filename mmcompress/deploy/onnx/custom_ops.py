"""The library of operators that packed models need in onnxruntime."""
from pathlib import Path

import mmcompress.ops
from .packages import needs

#: Domain of the operators, and its version.
DOMAIN, VERSION = 'mmcompress', 1
_FILE = Path(mmcompress.ops.__file__).with_name('libmmcompress_ort.so')


def custom_ops_library() -> str:
    """Where the operators of the domain ``mmcompress`` are.

    Returns:
        str: For ``SessionOptions.register_custom_ops_library``.

    Raises:
        FileNotFoundError: If it isn't built; says how to.
    """
    if not _FILE.exists():
        raise FileNotFoundError(
            f'{_FILE.name}, the operators of packed models for onnxruntime, '
            'is not built. In a checkout `make ops` builds it, see '
            'docs/ops.md')
    return str(_FILE)


def uses_custom_ops(model: bytes | str) -> bool:
    """Whether a file has operators of this library.

    Args:
        model (bytes | str): The file, or what is in it.
    """
    onnx = needs('onnx')
    proto = onnx.load_from_string(model) if isinstance(model, bytes) else \
        onnx.load(model, load_external_data=False)
    return any(entry.domain == DOMAIN for entry in proto.opset_import)
