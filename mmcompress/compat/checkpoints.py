"""Checkpoints load as data, under torch's restricted unpickler.

Those with mmengine's message hub and numpy arrays in them do too. Whatever
else a file names is refused.
"""
import functools
import os
import pickle
import re
from contextlib import contextmanager
from types import FunctionType
from typing import Any, Callable, Iterator

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

# The next seven stand in for what a checkpoint names. They accept plain
# numbers and nothing else: numpy's own, fed with a crafted dtype, would read
# and write memory at will.


class _SavedDtype:

    def __init__(self, code: str, align: bool = False, copy: bool = True):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in 'biufcSU':
            raise pickle.UnpicklingError(f'GLOBAL numpy.dtype of {code!r}')

    def __setstate__(self, state: tuple) -> None:
        # of (version, byte order, subarray, names, fields, ...)
        self.dtype = self.dtype.newbyteorder(state[1])


class _SavedArray:

    array = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, saved, fortran, buffer = state
        flat = np.frombuffer(buffer, dtype=saved.dtype).copy()
        self.array = flat.reshape(shape, order='F' if fortran else 'C')


class _SavedHistoryBuffer:

    def __setstate__(self, state: dict) -> None:
        self._log_history = state['_log_history'].array
        self._count_history = state['_count_history'].array
        self.max_length = int(state['max_length'])
        self.__class__ = HistoryBuffer
        self._set_default_statistics()


def _reconstruct(cls: type, shape: tuple, code: Any) -> _SavedArray:
    return _SavedArray()


def _scalar(saved: _SavedDtype, buffer: bytes) -> np.generic:
    return np.frombuffer(buffer, dtype=saved.dtype)[0]


def _no_bytes() -> bytes:
    return b''


def _statistic(owner: type, name: str) -> Callable:
    statistics = ('min', 'max', 'mean', 'current')
    if owner is not _SavedHistoryBuffer or name not in statistics:
        raise pickle.UnpicklingError(f'GLOBAL builtins.getattr({name!r})')
    return getattr(HistoryBuffer, name)


def _named(path: str, stand_in: Callable) -> Callable:
    """Give a stand-in the name under which torch looks it up."""
    if not isinstance(stand_in, type):
        # one function per name
        stand_in = FunctionType(stand_in.__code__, globals())
    stand_in.__module__, _, name = path.rpartition('.')
    stand_in.__name__ = stand_in.__qualname__ = name
    return stand_in


# numpy 1 says numpy.core, numpy 2 says numpy._core
STAND_INS = [
    _named(path, stand_in) for path, stand_in in (
        ('mmengine.logging.history_buffer.HistoryBuffer', _SavedHistoryBuffer),
        ('builtins.getattr', _statistic),
        ('builtins.bytes', _no_bytes),
        ('numpy.dtype', _SavedDtype),
        ('numpy.ndarray', _SavedArray),
        ('numpy.core.multiarray._reconstruct', _reconstruct),
        ('numpy._core.multiarray._reconstruct', _reconstruct),
        ('numpy.core.multiarray.scalar', _scalar),
        ('numpy._core.multiarray.scalar', _scalar),
    )
]


def _to_numpy(value: Any) -> Any:
    """Replace the saved arrays in nested dicts, lists and tuples."""
    if isinstance(value, _SavedArray):
        return value.array
    if isinstance(value, dict):
        for key in value:
            value[key] = _to_numpy(value[key])
    elif isinstance(value, list):
        value[:] = map(_to_numpy, value)
    elif type(value) is tuple:
        return tuple(map(_to_numpy, value))
    return value


@contextmanager
def _restricted() -> Iterator[None]:
    """Let every ``torch.load`` admit data only, whatever its caller says."""
    key = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
    before = os.environ.get(key)
    os.environ[key] = '1'
    try:
        with torch.serialization.safe_globals(STAND_INS):
            yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def restricted(loader: Callable) -> Callable:
    """Make one of mmengine's checkpoint loaders restricted.

    Args:
        loader (Callable): Takes the file's name or URL first.

    Returns:
        Callable: Loads what torch's restricted loading admits, mmengine's
            ``HistoryBuffer`` and numpy arrays of numbers, and raises
            ``pickle.UnpicklingError`` for anything else, ``RuntimeError`` for
            a file that ends too early.
    """

    @functools.wraps(loader)
    def load(filename: str, *args, **kwargs) -> Any:
        # torch's own switch for files that one trusts
        if os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
            return loader(filename, *args, **kwargs)
        try:
            with _restricted():
                return _to_numpy(loader(filename, *args, **kwargs))
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(_refusal(filename, error)) from None
        except (EOFError, OSError, RuntimeError) as error:
            if not os.path.isfile(filename):
                raise
            raise RuntimeError(
                f'{filename} is damaged or incomplete: '
                f'{str(error) or "it ends too early"}') from error

    load.is_restricted = True
    return load


def _refusal(filename: str, error: Exception) -> str:
    name = re.search(r'GLOBAL ([^\s]+)', str(error))
    if name is None:
        return f'{filename} is not a checkpoint that torch can read: {error}'
    # torch leaves the module away where it is builtins
    name = name[1] if '.' in name[1] else f'builtins.{name[1]}'
    return (f'{filename} names {name}, which is not data: loading it could '
            'run any code. It was not loaded. If you trust the file, set '
            'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 in the environment.')


def restrict_checkpoint_loaders() -> None:
    """Register restricted versions of all of mmengine's loaders."""
    for prefix, loader in list(CheckpointLoader._schemes.items()):
        if not hasattr(loader, 'is_restricted'):
            CheckpointLoader.register_scheme(
                prefix, restricted(loader), force=True)
