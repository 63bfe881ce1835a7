"""What export needs beyond the package, or a sentence."""
from importlib import import_module
from types import ModuleType

# known to work with torch 2.13 and numpy 1.26
TESTED = dict(onnx='1.23.2', onnxruntime='1.32.0', onnxscript='0.7.2')


def needs(name: str) -> ModuleType:
    """Import one of the optional packages.

    Args:
        name (str): Of :data:`TESTED`, or a module below one.

    Raises:
        ImportError: If its import fails; says how to install it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        pins = ' '.join(f'{key}=={value}' for key, value in TESTED.items())
        raise ImportError(
            f'export to ONNX needs {name.partition(".")[0]}, whose import '
            f'fails: {error}. `pip install mmcompress[onnx]`, or what that '
            f'asks for: `pip install {pins}`') from error
