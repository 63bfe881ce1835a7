"""Checkpoints of the official code of 1-bit methods, under our names."""
import logging
import re
from collections.abc import Mapping

import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from mmcompress.lowbit import LowBitLayer
from mmcompress.model.checkpoint import is_plain, weights_of

# (pattern, replacement) pairs, applied in turn; None: of the training only
_RESNET = [
    (r'fc\.', 'head.fc.'),
    (r'(conv1|bn1|layer\d)\.', r'backbone.\1.'),
    (r'(.+)\.binary_conv\.weights', r'\1.conv.weight'),
    (r'(.+)\.binary_conv\.', r'\1.conv.'),
]
KEY_MAPS = dict(
    # the network in network of the PyTorch port by jiecaoyu
    xnor=[(r'xnor\.', 'backbone.xnor.')],
    bireal=_RESNET,
    react=_RESNET,
    rebnn=_RESNET,
    rbonn=_RESNET,
    # a fork of mmdet 2.0, whose names mmdet 3 kept
    ida_det=[(r'(neck_adapt|entropy_loss)\.', None)])

# what the official code doesn't keep; its initial value serves
_OPTIONAL = ('num_batches_tracked', 'prev_sign', 'prev_grad')


def official_weights(checkpoint: Mapping) -> dict[str, Tensor]:
    """The weights in a checkpoint, however it wraps them.

    Args:
        checkpoint (Mapping): See
            :func:`mmcompress.model.checkpoint.weights_of`.

    Raises:
        ValueError: If it holds no weights.
    """
    weights = weights_of(checkpoint)
    if not weights:
        raise ValueError('the checkpoint has no weights, but the keys '
                         f'{", ".join(map(str, list(checkpoint)[:5]))}')
    return weights


def rename(key: str, method: str) -> str | None:
    """Our name of an official weight.

    Args:
        key (str): The official name.
        method (str): One of :data:`KEY_MAPS`.

    Returns:
        str | None: None if inference does without it.
    """
    for pattern, replacement in KEY_MAPS[method]:
        if re.match(pattern, key):
            if replacement is None:
                return None
            key = re.sub(f'^{pattern}', replacement, key)
    return key


def _complaints(renamed: dict[str, tuple[str, Tensor]],
                wanted: dict[str, Tensor]) -> list[str]:
    """What doesn't fit, a line each."""
    lines = [
        f'{official}: the model has no {key}'
        for key, (official, _) in renamed.items() if key not in wanted
    ]
    lines += [
        f'{key}: not in the checkpoint' for key in wanted
        if key not in renamed and key.split('.')[-1] not in _OPTIONAL
    ]
    lines += [
        f'{official}: {value.numel()} numbers of shape {tuple(value.shape)}, '
        f'the model wants {tuple(wanted[key].shape)}'
        for key, (official, value) in renamed.items()
        if key in wanted and value.numel() != wanted[key].numel()
    ]
    return lines


def convert_official(method: str, checkpoint: Mapping,
                     model: nn.Module) -> dict[str, Tensor]:
    """Turn an official checkpoint into one of ours.

    Args:
        method (str): One of :data:`KEY_MAPS`.
        checkpoint (Mapping): See :func:`official_weights`.
        model (nn.Module): Of a config of ours, with the same network. Not
            changed.

    Returns:
        dict[str, Tensor]: State dict of the model, in its order and shapes;
        official code that keeps weights flat has them as a column. What it
        doesn't keep is as in ``model``.

    Raises:
        ValueError: On an unknown method, or if a weight of the checkpoint or
            of the model has no counterpart; names all of them.
    """
    if method not in KEY_MAPS:
        raise ValueError(f'method must be one of {", ".join(KEY_MAPS)}, got '
                         f'{method!r}')
    official = official_weights(checkpoint)
    renamed = {
        rename(key, method): (key, value)
        for key, value in official.items()
    }
    renamed.pop(None, None)
    wanted = {
        key: value
        for key, value in model.state_dict().items() if is_plain(key)
    }
    complaints = _complaints(renamed, wanted)
    if complaints:
        raise ValueError(
            f'the checkpoint does not fit {type(model).__name__} as the '
            f'official code of {method}:\n' + '\n'.join(complaints))
    state = {
        key: renamed[key][1].reshape(value.shape) if key in renamed else value
        for key, value in wanted.items()
    }
    _warn_of_zeros(model, state)
    return state


def _warn_of_zeros(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Official code gives the sign 0 to what is exactly 0."""
    zeros = {
        name: int((state[f'{name}.weight'] == 0).sum())
        for name, module in model.named_modules()
        if isinstance(module, LowBitLayer)
    }
    layers = [name for name, count in zeros.items() if count]
    if layers:
        print_log(
            f'{sum(zeros.values())} latent weights are exactly 0, in '
            f'{", ".join(layers)}. In the official code they take no part, '
            "here they are -1; zero_as='zero' in conv_cfg keeps them out",
            'current', logging.WARNING)
