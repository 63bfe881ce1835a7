"""Weights as safetensors, where that keeps all of them, else as torch does.

A packed file stays as it is: what it says about itself is checked when it is
loaded. Marks of pruned weights, which keep them out of other models, have no
place in safetensors.
"""
import json
import shutil
from collections import OrderedDict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mmcompress.model.checkpoint import is_plain, read_checkpoint

SAFETENSORS = 'model.safetensors'
TORCH = 'model.pth'
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16,
           torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
           torch.bool)


def need(module: str) -> ModuleType:
    """Import an optional library.

    Raises:
        ImportError: With the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'sharing models needs {module.split(".")[0]}: '
                          'pip install "mmcompress[hub]"') from error


def _is_ordinary(value: Any) -> bool:
    return (type(value) in (Tensor, torch.nn.Parameter)
            and value.layout == torch.strided and value.dtype in _DTYPES)


def _plain_meta(meta: Any) -> dict:
    """What of a checkpoint's notes a model needs: its classes."""
    data = meta.get('dataset_meta') if isinstance(meta, dict) else None
    try:
        return dict(dataset_meta=json.loads(json.dumps(data)))
    except TypeError:
        # arrays, as mmpose's; torch's format keeps them
        return {}


def write_weights(checkpoint: Path, folder: Path) -> Path:
    """Write the weights of a checkpoint, and nothing of its training.

    Args:
        checkpoint (Path): Of a run, or packed.
        folder (Path): Where to write.

    Returns:
        Path: ``model.safetensors`` or ``model.pth``.
    """
    loaded = read_checkpoint(str(checkpoint))
    state = loaded.get('state_dict', loaded)
    if 'packed_version' in state:
        return Path(shutil.copyfile(checkpoint, folder / TORCH))
    kept = OrderedDict((k, v) for k, v in state.items() if is_plain(k))
    meta, notes = loaded.get('meta'), _plain_meta(loaded.get('meta'))
    versions = {
        module: {
            k: v
            for k, v in values.items() if k == 'version'
        }
        for module, values in getattr(state, '_metadata', {}).items()
    }
    if notes and all(map(_is_ordinary, kept.values())):
        # each in memory of its own
        tensors = {
            k: v.detach().clone(memory_format=torch.contiguous_format)
            for k, v in kept.items()
        }
        content = dict(notes, versions=versions)
        need('safetensors.torch').save_file(
            tensors,
            str(folder / SAFETENSORS),
            metadata=dict(format='pt', mmcompress=json.dumps(content)))
        return folder / SAFETENSORS
    kept._metadata = OrderedDict(versions)
    data = meta.get('dataset_meta') if isinstance(meta, dict) else None
    torch.save(
        dict(meta=dict(dataset_meta=data), state_dict=kept), folder / TORCH)
    return folder / TORCH


def read_weights(folder: Path) -> dict:
    """Read what :func:`write_weights` wrote, as data.

    Args:
        folder (Path): Of a repository.

    Returns:
        dict: A checkpoint, with ``state_dict`` and ``meta``.

    Raises:
        FileNotFoundError: If there are no weights.
        RuntimeError: If the file is damaged.
    """
    path = folder / SAFETENSORS
    if not path.is_file():
        if not (folder / TORCH).is_file():
            raise FileNotFoundError(f'{folder} has neither {SAFETENSORS} nor '
                                    f'{TORCH}')
        return read_checkpoint(str(folder / TORCH))
    safetensors = need('safetensors')
    state: OrderedDict = OrderedDict()
    try:
        with safetensors.safe_open(str(path), framework='pt') as opened:
            for key in opened.keys():
                state[key] = opened.get_tensor(key)
            notes = json.loads((opened.metadata()
                                or {}).get('mmcompress', '{}'))
    except (safetensors.SafetensorError, ValueError) as error:
        raise RuntimeError(f'{path} is damaged: {error}') from error
    state._metadata = OrderedDict(notes.get('versions') or {})
    return dict(
        meta=dict(dataset_meta=notes.get('dataset_meta')), state_dict=state)
