"""Let any tool read ``_base_ = 'mmcompress::folder/config.py'``.

mmengine has a table of the packages that may stand in front of ``::``, and
reads a config's bases before it imports anything for the config. So whoever
imports nothing of ours, as ``mim train mmdet`` and the libraries' own tools,
gets our entry from a line of a ``.pth`` file, which ``make`` and our wheel
put into the environment.

Nothing happens before somebody imports mmengine, so installing the hook is
cheap enough for every start of an interpreter.
"""
import sys
from importlib.util import find_spec

TABLE = 'mmengine.config.utils'


class _TableFinder:
    """Finds mmengine's table as others do, and adds to it when it is read."""

    def find_spec(self, name, path=None, target=None):
        if name != TABLE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module) -> None:
            execute(module)
            add_entry(module)

        spec.loader.exec_module = exec_module
        return spec


def add_entry(table) -> None:
    """Name the distribution of ours; one of that name, if any, stays."""
    table.MODULE2PACKAGE.setdefault('mmcompress', 'mmcompress')


def install() -> None:
    """Add our entry, now or when mmengine is imported."""
    if TABLE in sys.modules:
        add_entry(sys.modules[TABLE])
    elif not any(isinstance(f, _TableFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, _TableFinder())
