"""What export needs beyond the package, or a sentence."""
from importlib import import_module
from types import ModuleType

# as in requirements/onnx.txt: known to work with torch 2.13 and numpy 1.26
PINS = ('onnx==1.23.2', 'onnxruntime==1.32.0', 'onnxscript==0.7.2',
        'onnx-ir==1.1.0', 'ml_dtypes>=0.5.4,<0.6')


def needs(name: str) -> ModuleType:
    """Import one of the optional packages.

    Args:
        name (str): A module of one of :data:`PINS`.

    Raises:
        ImportError: If its import fails; says how to install it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        pins = ' '.join(f'"{pin}"' for pin in PINS)
        raise ImportError(
            f'export to ONNX needs {name.partition(".")[0]}, whose import '
            f'fails: {error}. To install it: `pip install {pins}` (the extra '
            'mmcompress[onnx])') from error
