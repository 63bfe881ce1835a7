"""Where a teacher comes from: its config and its checkpoint."""
import logging
import os.path as osp
import sys
from glob import glob

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import print_log

from mmcompress.cache import CACHE_SCHEME, cached_teacher
from mmcompress.model import config
from mmcompress.model.cached import find_cached
from mmcompress.model.checkpoint import (classes_of, fill, plain_weights,
                                         read_checkpoint)


def read_config(cfg: dict | str, config_dir: str | None = None) -> Config:
    """Config of a teacher, from what the user wrote.

    Args:
        cfg (dict | str): See :func:`mmcompress.model.config.read_config`.
        config_dir (str | None): Where the training's own config lies;
            relative paths start there.
    """
    return config.read_config(cfg, folder=config_dir, key='teacher.cfg')


def find_checkpoint(cfg: dict | str,
                    checkpoint: str,
                    config_dir: str | None = None) -> str:
    """Where a teacher's weights are.

    Args:
        cfg (dict | str): See :func:`read_config`.
        checkpoint (str): Path, URL, or ``'cache://name'``.
        config_dir (str | None): See :func:`read_config`.

    Returns:
        str: Absolute path or URL.

    Raises:
        FileNotFoundError: If there is no such file; says how to make it.
    """
    if checkpoint.startswith(CACHE_SCHEME):
        path = named = cached_teacher(checkpoint)
        if glob(f'{osp.splitext(named)[0]}*.pth'):
            path = str(find_cached(checkpoint, read_config(cfg, config_dir)))
        if not osp.isfile(path):
            other = (f'; {named} is of another model or of other data'
                     if osp.isfile(named) else '')
            raise FileNotFoundError(
                f'teacher.checkpoint: {path} does not exist yet{other}; '
                f'train the teacher once: `{_training(cfg)}`')
        return path
    if '://' in checkpoint:
        return checkpoint
    return config.find_file(
        'teacher.checkpoint', checkpoint, config_dir,
        '. Train the teacher first, with `tools/train.py` and its config,'
        ' or name another checkpoint with --cfg-options '
        'model.teacher.checkpoint=PATH')


def _training(cfg: dict | str) -> str:
    """The command that trains a teacher."""
    return f'python tools/train.py {cfg if isinstance(cfg, str) else "CONFIG"}'


def load_strictly(model: nn.Module, checkpoint: str,
                  ignore: list[str]) -> dict:
    """Fill a whole model from a checkpoint.

    Args:
        model (nn.Module): What to fill.
        checkpoint (str): Absolute path or URL.
        ignore (list[str]): Regular expressions; keys that one of them
            matches from their start may be missing or left over.

    Returns:
        dict: The checkpoint as it was read.

    Raises:
        RuntimeError: If keys are missing or left over, or shapes differ.
    """
    loaded = read_checkpoint(checkpoint)
    fit = fill(model, plain_weights(loaded)).but(ignore)
    if str(fit):
        raise RuntimeError(
            f'teacher.checkpoint {checkpoint} does not fit '
            f'{type(model).__name__} of teacher.cfg: {fit}. '
            'It is of another architecture, or name what may differ in '
            '`teacher.ignore` (regular expressions)')
    return loaded


def load_teacher(model: nn.Module, cfg: dict | str, checkpoint: str,
                 ignore: list[str],
                 config_dir: str | None) -> list[str] | None:
    """Fill the model of a teacher's config.

    Args:
        model (nn.Module): What to fill.
        cfg (dict | str): See :func:`read_config`.
        checkpoint (str): See :func:`find_checkpoint`.
        ignore (list[str]): See :func:`load_strictly`.
        config_dir (str | None): See :func:`read_config`.

    Returns:
        list[str] | None: What its labels mean, if its checkpoint says it.

    Raises:
        FileNotFoundError: If there is no checkpoint; says how to make it.
        RuntimeError: If the checkpoint doesn't fit.
    """
    path = find_checkpoint(cfg, checkpoint, config_dir)
    try:
        loaded = load_strictly(model, path, ignore)
    except RuntimeError as error:
        if not checkpoint.startswith(CACHE_SCHEME):
            raise
        raise RuntimeError(
            f'{error}. The cache may have kept it from another config: '
            f'remove {path} and train the teacher of teacher.cfg: '
            f'`{_training(cfg)}`') from error
    return classes_of(loaded)


@torch.no_grad()
def warn_of_deit3(model: nn.Module) -> None:
    """Warn if a model has mmpretrain's DeiT-III layers that leave out a norm.

    Args:
        model (nn.Module): Any model.
    """
    # not imported yet, it is in no model
    deit3 = sys.modules.get('mmpretrain.models.backbones.deit3')
    if deit3 is None:
        return
    for layer in model.modules():
        if isinstance(layer, deit3.DeiT3TransformerEncoderLayer):
            called = []
            handle = layer.ln2.register_forward_hook(
                lambda *_: called.append(True))
            layer(layer.ln2.weight[None, None])
            handle.remove()
            if not called:
                print_log(
                    'The teacher computes wrong features: the installed '
                    'mmpretrain\'s DeiT3 applies ln1 where ln2 belongs. Use '
                    "backbone=dict(type='mmcompress.DeiT3', ...), which loads "
                    'the same checkpoint.',
                    logger='current',
                    level=logging.WARNING)
            return
