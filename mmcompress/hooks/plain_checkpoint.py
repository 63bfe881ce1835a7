"""Checkpoints that every tool can load under torch's restricted loading."""
import logging
from collections import OrderedDict
from pathlib import PurePath
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmcompress.pruning.structure import mark_pruned
from mmcompress.registry import HOOKS
from .resume_point import choose_resume_point
from .safe_checkpoint import take_over

# weights: plain by nature, and a copy would lose their `_metadata`
_WEIGHTS = ('state_dict', 'ema_state_dict')
_PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype,
          torch.device, torch.Size)
_LEFT_OUT = object()
# of an element of an array; a string has four to a letter
_MOST_BYTES = 2**16

# path to a value, what it was, and its numpy type
Record = List[Tuple[tuple, str, str]]


def to_plain(value: Any, path: tuple, record: Record) -> Any:
    """Copy nested data, so that nothing but plain types is in it.

    numpy's arrays become tensors (lists, where torch has no such type), its
    numbers Python's, and a ``HistoryBuffer`` a dict of tensors. What cannot
    be expressed is left out, with a warning.

    Args:
        value (Any): Not changed.
        path (tuple): The keys that lead to ``value``.
        record (list[tuple]): Gets an entry for each value that
            :func:`from_plain` has to turn back.

    Returns:
        Any: Only dicts, lists, tuples, strings, numbers and tensors.
    """
    if type(value) in _PLAIN or isinstance(value, Tensor):
        return value
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        record.append((path, 'history', ''))
        return dict(
            log=to_plain(log, path + ('log', ), record),
            count=to_plain(count, path + ('count', ), record),
            max_length=value.max_length)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biufcSUO':
        record.append((path, 'array', value.dtype.str))
        try:
            return torch.from_numpy(value.copy(order='C'))
        except (TypeError, ValueError):
            return to_plain(value.tolist(), path, [])
    if isinstance(value, np.generic) and value.dtype.kind in 'biufcSU':
        record.append((path, 'number', value.dtype.str))
        return value.item()
    if isinstance(value, dict):
        items = [(k, to_plain(v, path + (k, ), record))
                 for k, v in value.items()]
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((k, v) for k, v in items if v is not _LEFT_OUT)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [
            to_plain(v, path + (i, ), record) for i, v in enumerate(value)
        ]
        items = [None if v is _LEFT_OUT else v for v in items]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, (str, PurePath)):
        return str(value)
    print_log(
        f'{"/".join(map(str, path))} is left out of the checkpoint: it is a '
        f'{type(value).__module__}.{type(value).__qualname__}, not plain data',
        'current', logging.WARNING)
    return _LEFT_OUT


def _dtype(name: str) -> np.dtype:
    """A type that :func:`to_plain` records."""
    dtype = np.dtype(name)
    if dtype.kind not in 'biufcSUO' or dtype.itemsize > _MOST_BYTES:
        raise ValueError(f'{name!r} is no type of plain data')
    return dtype


def from_plain(value: Any, path: tuple, kinds: Dict[tuple, tuple]) -> Any:
    """Undo :func:`to_plain`.

    Args:
        value (Any): What it returned; not changed.
        path (tuple): The keys that lead to ``value``.
        kinds (dict): The record: path -> (kind, dtype).

    Returns:
        Any: The value with its arrays, numbers and histories.
    """
    if isinstance(value, dict):
        value = type(value)(
            (k, from_plain(v, path + (k, ), kinds)) for k, v in value.items())
    elif type(value) in (list, tuple):
        value = type(value)(from_plain(v, path + (i, ), kinds)
                            for i, v in enumerate(value))
    kind, dtype = kinds.get(path, ('', ''))
    if kind == 'history':
        return HistoryBuffer(value['log'], value['count'], value['max_length'])
    if kind == 'array':
        value = value.cpu() if isinstance(value, Tensor) else value
        return np.array(value, dtype=_dtype(dtype))
    if kind == 'number':
        return _dtype(dtype).type(value)
    return value


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Write checkpoints that load everywhere, and resume with everything.

    mmengine puts its message hub (``HistoryBuffer``) and the dataset's
    metadata (numpy arrays) into training checkpoints, which
    ``torch.load(weights_only=True)``, the default since torch 2.6, refuses.
    This hook writes both as tensors, lists, strings and numbers, so mm tools
    that know nothing of mmcompress load, test and infer from the file. A run
    with this hook gets the original types back when it loads one; what runs
    keeps in memory is never changed.

    mmengine's ``CheckpointHook`` is replaced by :class:`SafeCheckpointHook`,
    which has the same settings and never leaves a run without a checkpoint.

    Weights of a pruned model are marked, so that the dense model's config
    refuses them.

    An mmengine without this hook resumes the file too. It then starts the
    smoothed values of its log afresh, and says so; nothing else is lost.
    """

    # after every hook that adds something to the checkpoint
    priority = 'LOWEST'

    def before_run(self, runner: Runner) -> None:
        """Called before anything is loaded."""
        take_over(runner)
        choose_resume_point(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace everything but the weights by a plain copy."""
        record: Record = []
        for key in list(checkpoint):
            if key not in _WEIGHTS:
                plain = to_plain(checkpoint.pop(key), (key, ), record)
                if plain is not _LEFT_OUT:
                    checkpoint[key] = plain
        checkpoint['plain_record'] = record
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        mark_pruned(model, checkpoint['state_dict'])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Turn back what this hook replaced."""
        try:
            kinds = {
                tuple(path): (kind, dtype)
                for path, kind, dtype in checkpoint.pop('plain_record', ())
            }
            for key in {path[0] for path in kinds}:
                checkpoint[key] = from_plain(checkpoint[key], (key, ), kinds)
        except (LookupError, TypeError, ValueError) as error:
            raise RuntimeError(
                f'{runner._load_from}: its plain_record is damaged '
                f'({type(error).__name__}: {error})') from error
