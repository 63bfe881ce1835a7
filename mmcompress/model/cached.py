"""Which of the kept teachers of a name is that of a config."""
import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from mmengine.config import Config

from mmcompress.cache import cached_teacher
from .checkpoint import compare, plain_weights
from .config import inner_model
from .data import dataset_of

# where in a checkpoint's meta it says what it was trained with
IDENTITY = 'trained_with'
# what of a model says how it is trained or tested, not what it is
_NOT_THE_MODEL = ('init_cfg', 'pretrained', 'train_cfg', 'test_cfg', '_scope_',
                  'data_preprocessor')
# what of a data set says how its images are read, not which they are
_NOT_THE_DATA = ('pipeline', 'backend_args', 'lazy_init', 'serialize_data',
                 'max_refetch', 'test_mode', '_scope_', 'times')
# where the same data may lie
_PLACES = ('data_root', )


def _without(value: Any, names: tuple[str, ...]) -> Any:
    """Plain data without keys of some names, and without losses."""
    if isinstance(value, Mapping):
        return {
            str(key): _without(item, names)
            for key, item in sorted(value.items())
            if key not in names and not str(key).startswith('loss')
        }
    if isinstance(value, (list, tuple)):
        return [_without(item, names) for item in value]
    return value if isinstance(value, (int, float, str, type(None))) \
        else getattr(value, '__name__', str(value))


def identity(cfg: Config) -> dict[str, str]:
    """What a config's trained model is: its architecture and its data.

    Args:
        cfg (Config): Whole config, or only with a model.

    Returns:
        dict[str, str]: ``model``, and ``data`` and ``places`` where the
        config has data; as texts, so that any checkpoint can hold them.
    """
    model, steps = inner_model(cfg.model)
    texts = dict(model=_without([model, steps], _NOT_THE_MODEL))
    dataset = dataset_of(cfg, ['train_dataloader'])
    if dataset:
        texts.update(
            data=_without(dataset, (*_NOT_THE_DATA, *_PLACES)),
            places=_places(dataset))
    return {key: json.dumps(value) for key, value in texts.items()}


def _places(value: Any) -> list:
    if isinstance(value, Mapping):
        found = [str(value[key]) for key in _PLACES if key in value]
        return found + [p for v in value.values() for p in _places(v)]
    if isinstance(value, (list, tuple)):
        return [p for item in value for p in _places(item)]
    return []


def _agree(kept: Mapping | None, own: Mapping, keys: tuple[str, ...]) -> bool:
    """Whether nothing that both know differs."""
    return not kept or all(kept[key] == own[key] for key in keys
                           if key in kept and key in own)  # yapf: disable


def _read(path: Path) -> dict:
    """A kept teacher; empty if it is damaged, of which its reader tells."""
    try:
        return torch.load(
            path, map_location='cpu', weights_only=True, mmap=True)
    except (EOFError, LookupError, RuntimeError, ValueError,
            pickle.UnpicklingError):
        return {}


def _own_path(name: str, own: Mapping) -> Path:
    """Where a model goes if another one has the name already."""
    key = hashlib.sha256(json.dumps(own).encode()).hexdigest()[:8]
    path = Path(cached_teacher(name))
    return path.with_name(f'{path.stem}-{key}.pth')


def place_for(name: str, cfg: Config | None, model: nn.Module) -> Path:
    """Where to keep a trained model, so that no other one is overwritten.

    Args:
        name (str): Its name in the cache.
        cfg (Config | None): Of its training.
        model (nn.Module): The model, or its part that is kept.

    Returns:
        Path: ``NAME.pth``; or ``NAME-HASH.pth``, where that is the model of a
        config with another architecture or other data.
    """
    path = Path(cached_teacher(name))
    if cfg is None or not path.is_file():
        return path
    own, kept = identity(cfg), _read(path)
    if not kept:
        return path
    same = _agree(
        kept.get('meta', {}).get(IDENTITY), own, ('model', 'data', 'places'))
    fit = compare(plain_weights(model.state_dict()), plain_weights(kept))
    if same and not str(fit.but()):
        return path
    return _own_path(name, own)


def find_cached(name: str, cfg: Config) -> Path:
    """Where the kept model of a config is, or would be.

    Args:
        name (str): Its name in the cache, with or without ``cache://``.
        cfg (Config): Of its training, or only with a model.
    """
    path = Path(cached_teacher(name))
    own = identity(cfg)
    other = _own_path(name, own)
    if other.is_file() or not path.is_file():
        return other if other.is_file() else path
    # the same data may lie elsewhere
    kept = _read(path).get('meta', {}).get(IDENTITY)
    return path if _agree(kept, own, ('model', 'data')) else other
