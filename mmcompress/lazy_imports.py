"""Import a part of the package when it is asked for, and say what it lacks.

So a loss does without the library that some head of ours is made for.
"""
import linecache
import re
from importlib import import_module
from types import ModuleType
from typing import Any, Callable

# module -> distribution, where pip knows it by another name
_DISTRIBUTIONS = {
    'cv2': 'opencv-python-headless',
    'json_tricks': 'json-tricks',
    'mmseg': 'mmsegmentation',
    'PIL': 'pillow',
    'sklearn': 'scikit-learn'
}


class LibraryError(ImportError):
    """A part of the package needs a library whose import fails."""


def import_part(name: str, module: str) -> ModuleType:
    """Import a module of an mm library or of ours.

    Args:
        name (str): What is wanted of it, for messages.
        module (str): Its full name.

    Raises:
        LibraryError: If a library is missing or broken, whatever it raises.
    """
    try:
        return import_module(module)
    except LibraryError:
        raise
    except Exception as error:
        needs = _libraries(error)
        if not needs:
            raise
        raise LibraryError(_sentence(name, needs, error)) from error


def _libraries(error: Exception) -> list[str]:
    """What was being imported: by us, then what that imports, and so on."""
    needs, trace = [], error.__traceback__
    while trace is not None:
        line = linecache.getline(trace.tb_frame.f_code.co_filename,
                                 trace.tb_lineno)
        imported = re.match(r'\s*(?:from|import)\s+(\w+)', line)
        if imported and imported[1] != 'mmcompress':
            needs.append(imported[1])
        trace = trace.tb_next
    if needs and isinstance(error, ModuleNotFoundError) and error.name:
        needs.append(error.name.partition('.')[0])
    return list(dict.fromkeys(needs))


def _sentence(name: str, needs: list[str], error: Exception) -> str:
    """Which library fails, how, and the command that helps."""
    from .check_env import BUILD_MMCV, PACKAGES, install
    package = _DISTRIBUTIONS.get(needs[-1], needs[-1])
    command = f'pip install {package}'
    if package == 'mmcv':
        command = BUILD_MMCV
    elif package in PACKAGES:
        command = install(package)
    if not isinstance(error, ModuleNotFoundError) and package != 'mmcv':
        command = command.replace('install', 'install --force-reinstall')
    through = f' (it imports {needs[-1]})' if needs[1:] else ''
    return (f'{name} needs {needs[0]}, whose import fails{through}: '
            f'{type(error).__name__}: {error}. To repair it: `{command}`; '
            '`python -m mmcompress.check_env` checks the rest')


def lazy_exports(
    package: str, modules: dict[str, list[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make a package import what it offers when that is asked for (PEP 562).

    Args:
        package (str): Its ``__name__``.
        modules (dict[str, list[str]]): What it offers, by the module, below
            it, that has it.

    Returns:
        tuple: Its ``__getattr__``, ``__dir__`` and ``__all__``.
    """
    homes = {
        name: f'{package}.{module}'
        for module, names in modules.items()
        for name in names
    }

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f'module {package!r} has no attribute {name!r}')
        module = import_part(f'{package}.{name}', homes[name])
        return getattr(module, name)

    return get, lambda: sorted(homes), sorted(homes)
