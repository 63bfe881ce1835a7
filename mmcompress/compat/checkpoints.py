"""Checkpoints load as data, under torch's restricted unpickler.

Those with mmengine's message hub and numpy arrays in them do too. Whatever
else a file names is refused.
"""
import functools
import logging
import os
import pickle
import re
import struct
import threading
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader, checkpoint

from mmcompress.pruning.structure import PrunedTensor
from .stored_config import drop_unsafe_configs

# These stand in for what a checkpoint names. They accept plain
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


# By the path that a file names. numpy 1 says numpy.core, numpy 2 numpy._core.
STAND_INS = [
    (_SavedHistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_statistic, 'builtins.getattr'),
    (_no_bytes, 'builtins.bytes'),
    (_SavedDtype, 'numpy.dtype'),
    (_SavedArray, 'numpy.ndarray'),
    (_reconstruct, 'numpy.core.multiarray._reconstruct'),
    (_reconstruct, 'numpy._core.multiarray._reconstruct'),
    (_scalar, 'numpy.core.multiarray.scalar'),
    (_scalar, 'numpy._core.multiarray.scalar'),
    # a tensor with a name
    (PrunedTensor, 'mmcompress.pruning.structure.PrunedTensor'),
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


# Whether this thread loads a checkpoint. torch has an environment variable
# and a list of allowed names instead, both of the whole process: what one
# thread needs would change what another one's `torch.load` admits.
_thread = threading.local()


@contextmanager
def _restricted() -> Iterator[None]:
    """Let every ``torch.load`` of this thread admit data only."""
    before = _is_restricted()
    _thread.restricted = True
    try:
        yield
    finally:
        _thread.restricted = before


def _is_restricted() -> bool:
    return getattr(_thread, 'restricted', False)


def _refuse_compressed(file: Any) -> None:
    """Refuse an archive whose records unpack to more than it holds.

    torch stores records as they are, but would unpack others.

    Args:
        file (Any): Path, or a file that is open for reading.

    Raises:
        RuntimeError: If records are compressed or overlap.
    """
    start = None if isinstance(file, (str, os.PathLike)) else file.tell()
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            end = archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, OSError):
        # torch's own to read, or to complain about
        return
    finally:
        if start is not None:
            file.seek(start)
    packed = [r.filename for r in records if r.compress_type]
    if packed:
        raise RuntimeError(f'its record {packed[0]} is compressed, which '
                           'torch.save never does: it could unpack to any '
                           'size')
    if sum(record.file_size for record in records) > end:
        raise RuntimeError('its records overlap: they claim more bytes than '
                           'the file has')


def _restricting_load(load: Callable) -> Callable:
    """Make ``torch.load`` admit data only in threads that want that."""

    @functools.wraps(load)
    def torch_load(*args, **kwargs) -> Any:
        if _is_restricted():
            # torch.hub, among others, asks for more
            kwargs['weights_only'] = True
            _refuse_compressed(args[0] if args else kwargs['f'])
        return load(*args, **kwargs)

    torch_load.is_restricted = True
    return torch_load


def _admitting_stand_ins(allowed_globals: Callable) -> Callable:
    """Let torch's unpickler find them in threads that load a checkpoint."""

    @functools.wraps(allowed_globals)
    def allowed() -> dict:
        names = allowed_globals()
        if _is_restricted():
            # mmengine's continuation onedl-mmengine allows numpy's own
            for name in [n for n in names if n.startswith('numpy.')]:
                del names[name]
            names.update((path, stand_in) for stand_in, path in STAND_INS)
        return names

    allowed.is_restricted = True
    return allowed


def restrict_torch() -> None:
    """Teach torch to ask whether a thread loads a checkpoint.

    For all others nothing changes.
    """
    if not hasattr(torch.load, 'is_restricted'):
        torch.load = _restricting_load(torch.load)
        torch.serialization.load = torch.load
    unpickler = torch._weights_only_unpickler
    if not hasattr(unpickler._get_user_allowed_globals, 'is_restricted'):
        unpickler._get_user_allowed_globals = _admitting_stand_ins(
            unpickler._get_user_allowed_globals)


def _is_trusted() -> bool:
    """Torch's own switch for files that one trusts."""
    switch = os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '')
    return switch.lower() in ('1', 'y', 'yes', 'true')


def restricted(loader: Callable) -> Callable:
    """Make one of mmengine's checkpoint loaders restricted.

    Args:
        loader (Callable): Takes the file's name or URL first.

    Returns:
        Callable: Loads what torch's restricted loading admits, mmengine's
            ``HistoryBuffer`` and numpy arrays of numbers, and raises
            ``pickle.UnpicklingError`` for anything else, ``RuntimeError`` for
            a file that ends too early. A config in it that mmengine would run
            as code is taken out, with a warning.
    """

    @functools.wraps(loader)
    def load(filename: str, *args, **kwargs) -> Any:
        if _is_trusted():
            return loader(filename, *args, **kwargs)
        try:
            with _restricted():
                loaded = _to_numpy(loader(filename, *args, **kwargs))
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(_refusal(filename, error)) from None
        except (EOFError, OSError, RuntimeError) as error:
            if not os.path.isfile(filename):
                raise
            raise RuntimeError(
                f'{filename} is damaged or incomplete: '
                f'{str(error) or "it ends too early"}') from error
        except (AssertionError, AttributeError, LookupError, TypeError,
                ValueError, struct.error) as error:
            # of torch's unpickler, and of the stand-ins, where it is crafted
            if not os.path.isfile(filename):
                raise
            raise pickle.UnpicklingError(_refusal(filename, error)) from error
        for place, reason in drop_unsafe_configs(loaded).items():
            print_log(
                f'{filename}: the config in {place}, which mmengine would '
                f'run as code, is left out, since {reason}. Where it is '
                'needed, name a config file instead; if you trust this one, '
                'set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 in the environment.',
                'current', logging.WARNING)
        return _with_name(loaded, filename)

    load.is_restricted = True
    return load


def _with_name(loaded: Any, filename: str) -> Any:
    """Let what loads the weights know the file, for its messages."""
    if not isinstance(loaded, dict):
        return loaded
    weights = loaded.get('state_dict', loaded)
    if not isinstance(weights, dict):
        return loaded
    if not isinstance(weights, OrderedDict):
        # a plain dict takes no attributes
        weights = OrderedDict(weights)
    if not isinstance(getattr(weights, '_metadata', None), dict):
        weights._metadata = OrderedDict()
    own = weights._metadata.get('')
    weights._metadata[''] = {
        **(own if isinstance(own, dict) else {}), 'file': filename
    }
    if 'state_dict' not in loaded:
        return weights
    loaded['state_dict'] = weights
    return loaded


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
    restrict_torch()
    if hasattr(checkpoint, '_safe_torch_load'):
        # onedl-mmengine's: allows getattr in the whole process meanwhile, and
        # loads a file that is refused a second time, unrestricted
        checkpoint._safe_torch_load = _plain_torch_load
    for prefix, loader in list(CheckpointLoader._schemes.items()):
        if not hasattr(loader, 'is_restricted'):
            CheckpointLoader.register_scheme(
                prefix, restricted(loader), force=True)


def _plain_torch_load(file: Any,
                      map_location: Any = None,
                      weights_only: bool | None = None) -> Any:
    return torch.load(
        file, map_location=map_location, weights_only=weights_only)
