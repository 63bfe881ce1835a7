"""Find ``mmcv._ext`` here where mmcv brings none and the user chose so.

``python -m mmcompress.light_ops.hook`` chooses for an environment: it writes
a line into a ``.pth`` file, which every interpreter of that environment reads
when it starts, so also the libraries' own tools, ``mim`` and the workers of
data loaders. ``MMCOMPRESS_LIGHT_OPS=1`` chooses for a process and those that
it starts, where our wheel or checkout is installed or ``mmcompress.compat``
is imported first; ``MMCOMPRESS_LIGHT_OPS=0`` overrules the file.

Our finder comes last, so a compiled ``mmcv._ext`` is always preferred, and
nothing happens before somebody imports ``mmcv.ops``.
"""
import importlib
import os
import sys
from importlib.machinery import ModuleSpec

NAME = 'mmcv._ext'
VARIABLE = 'MMCOMPRESS_LIGHT_OPS'
PTH = 'mmcompress-light-ops.pth'


class _Loader:
    """Fills the module with the operators."""

    def create_module(self, spec):
        return None

    def exec_module(self, module) -> None:
        operators = importlib.import_module('mmcompress.light_ops.ext')
        module.__doc__ = operators.__doc__
        module.__getattr__ = operators.find_operator
        for name in operators.__all__:
            setattr(module, name, getattr(operators, name))


class _Finder:
    """Finds ``mmcv._ext`` when nobody else does."""

    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        return ModuleSpec(name, _Loader(), origin='mmcompress.light_ops')


def install(chosen: bool = False) -> None:
    """Offer our operators to mmcv, if they are chosen.

    Args:
        chosen (bool): Whether the environment is set up for them. The
            environment variable overrules it.

    Raises:
        ValueError: If the environment variable is neither 0 nor 1.
    """
    value = os.environ.get(VARIABLE, '')
    if value not in ('', '0', '1'):
        raise ValueError(f'{VARIABLE}={value}: 1 offers mmcv the operators of '
                         'mmcompress.light_ops, 0 does not')
    if value == '1' or (chosen and value != '0'):
        if not any(isinstance(f, _Finder) for f in sys.meta_path):
            sys.meta_path.append(_Finder())


def in_use() -> bool:
    """Whether mmcv runs on our operators; imports ``mmcv._ext``."""
    spec = importlib.import_module(NAME).__spec__
    return isinstance(spec.loader, _Loader)


def main() -> None:
    """Choose our operators for this environment, unless mmcv has its own."""
    import sysconfig
    from pathlib import Path
    path = Path(sysconfig.get_path('purelib')) / PTH
    path.write_text('import mmcompress.light_ops.hook as _l; '
                    '_l.install(chosen=True)\n')
    print(f'wrote {path}; delete it to undo this')


if __name__ == '__main__':
    import argparse
    argparse.ArgumentParser(description=main.__doc__).parse_args()
    main()
