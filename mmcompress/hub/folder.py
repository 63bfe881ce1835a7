"""A model in a folder that can be moved anywhere: config, weights, card."""
import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import print_log

# makes checkpoints data, and configs stored in them
import mmcompress.compat  # noqa: F401
from mmcompress.compat.stored_config import check_stored_config
from mmcompress.deploy.file.config import inference_config
from mmcompress.model.checkpoint import classes_of, fill, plain_weights
from mmcompress.model.config import (build_model, teacher_of,
                                     without_distillation, without_pretrained)
from mmcompress.results.record import write_record
from .card import model_card
from .source import RECORD, find_source
from .weights import read_weights, write_weights

CONFIG = 'config.py'


def _without_local_paths(value: Any, found: list[str]) -> Any:
    """A config that names no place on this machine.

    Args:
        value (Any): A config or a part of one.
        found (list[str]): Gets what was replaced.
    """
    if isinstance(value, dict):
        return {k: _without_local_paths(v, found) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_local_paths(v, found) for v in value)
    if isinstance(value, str) and value.startswith(('/', '~')):
        found.append(value)
        end = '/' if value.endswith('/') else ''
        return f'data/{Path(value).name}{end}'
    return value


def shared_config(cfg: Config) -> Config:
    """The whole config of a model, as it can be used anywhere.

    Without bases, teacher, training, checkpoints to start from; absolute
    paths of data become ``data/NAME``, which is logged.

    Args:
        cfg (Config): Of the trained or packed model.
    """
    model = without_pretrained(without_distillation(cfg.model.to_dict()))
    shared = inference_config(cfg, model)
    found: list[str] = []
    content = _without_local_paths(shared.to_dict(), found)
    if found:
        print_log(
            'paths of this machine are shared as data/NAME: '
            f'{", ".join(sorted(set(found)))}', 'current')
    return Config(content)


def save_pretrained(run: str | Path,
                    folder: str | Path,
                    licence: str,
                    config: str | None = None,
                    checkpoint: str | None = None,
                    form: str | None = None,
                    name: str | None = None) -> Path:
    """Write what a hub shows and :func:`load_folder` loads.

    Args:
        run (str | Path): Folder of ``compress.py`` or of a training.
        folder (str | Path): What to write: ``config.py``, the weights,
            ``README.md`` and, if something was measured, ``record.json``.
        licence (str): Of the weights, as the hub names it (``apache-2.0``);
            data and teacher may decide about it.
        config (str | None): See :func:`.source.find_source`.
        checkpoint (str | None): Likewise.
        form (str | None): Likewise.
        name (str | None): Of the repository, for the card.

    Returns:
        Path: The folder.

    Raises:
        FileNotFoundError: If something that is named is not there.
        ValueError: If it isn't clear what is meant, or the config is more
            than plain data, which nobody could load.
    """
    if not licence or not licence.strip():
        raise ValueError('`licence` must say what others may do with the '
                         'weights, as "apache-2.0" or "other"')
    source = find_source(run, config, checkpoint, form)
    cfg = Config.fromfile(str(source.config))
    if 'model' not in cfg:
        raise ValueError(f'{source.config} is no config of a model')
    shared = shared_config(cfg)
    try:
        check_stored_config(shared.pretty_text)
    except ValueError as error:
        raise ValueError(f'{source.config} can not be shared: {error}') \
            from None
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    shared.dump(str(target / CONFIG))
    weights = write_weights(source.checkpoint, target)
    # a model that nobody can load is not shared
    model = load_folder(target)
    if source.record is not None:
        write_record(_public(source.record), target / RECORD)
    teacher = teacher_of(cfg.model.to_dict())
    card = model_card(name or target.name, licence, shared, model, weights,
                      source, teacher)
    (target / 'README.md').write_text(card, encoding='utf-8')
    return target


def _public(record: Any) -> Any:
    """A record without places on this machine."""
    forms = [
        replace(
            form,
            config=Path(form.config).name
            if form.config.startswith('/') else form.config,
            checkpoint=Path(form.checkpoint).name) for form in record.forms
    ]
    settings = _without_local_paths(copy.deepcopy(record.settings), [])
    name = Path(record.config).name
    return replace(
        record,
        forms=forms,
        settings=settings,
        log='',
        config=name if record.config.startswith('/') else record.config)


def load_folder(folder: str | Path, device: str = 'cpu') -> nn.Module:
    """Load a model that :func:`save_pretrained` wrote.

    Nothing of it is run as code: the config is checked to be plain data that
    names registered classes, the weights are read as data.

    Args:
        folder (str | Path): Of the model.
        device (str): Where it shall be.

    Returns:
        nn.Module: In eval mode, without gradients, with the attributes
            ``cfg`` and ``dataset_meta`` that mm's inferencers read.

    Raises:
        FileNotFoundError: If a file is missing.
        RuntimeError: If the weights are damaged or of another model.
        ValueError: If the config is more than data.
    """
    folder = Path(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f'{folder} has no {CONFIG}: not a model that '
                                'mmcompress shared')
    text = path.read_text(encoding='utf-8')
    try:
        check_stored_config(text)
    except ValueError as error:
        raise ValueError(f'{path} is not loaded: {error}') from None
    cfg = Config.fromstring(text, '.py')
    if 'model' not in cfg:
        raise ValueError(f'{path} has no key `model`')
    loaded = read_weights(folder)
    model = build_model(cfg)
    fit = replace(fill(model, plain_weights(loaded)).but(), left_over=[])
    if str(fit):
        raise RuntimeError(f'the weights in {folder} do not fit its config: '
                           f'{fit}')
    model.cfg = cfg
    model.dataset_meta = loaded.get('meta', {}).get('dataset_meta') or {}
    if not classes_of(loaded):
        print_log(
            f'{folder} does not say what its labels mean',
            'current',
            level=logging.WARNING)
    return model.to(device).eval().requires_grad_(False)
