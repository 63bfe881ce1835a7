"""Where a student and a teacher can be compared: shapes on one batch."""
from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from torch import Tensor

from mmcompress.distill.tap_paths import has_forward
from mmcompress.distill.taps import Taps
from mmcompress.model.inputs import default_size, made_up_batch


class Mismatch(ValueError):
    """Two models don't meet as a loss wants it; says why."""


def shapes_of(value: Any) -> Any:
    """Shapes of tensors as tuples, in lists for lists; None for others."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, (list, tuple)):
        return [shapes_of(item) for item in value]
    return None


def noise_for(student: nn.Module, cfg: Config) -> dict:
    """Two made-up images with labels, which the student can take.

    Args:
        student (nn.Module): Its preprocessor is left as it was.
        cfg (Config): Its whole config.
    """
    scope = cfg.get('default_scope')
    preprocessor = student.data_preprocessor
    kept = {
        key: getattr(preprocessor, key)
        for key in ('batch_augments', 'size') if hasattr(preprocessor, key)
    }
    was_training = preprocessor.training
    try:
        with DefaultScope.overwrite_default_scope(scope):
            size = default_size(student, scope)
            return made_up_batch(student, scope, size)
    finally:
        preprocessor.train(was_training)
        for key in ('batch_augments', 'size'):
            if key in kept:
                setattr(preprocessor, key, kept[key])
            elif key in vars(preprocessor):
                delattr(preprocessor, key)


def outputs_of(model: nn.Module, cfg: Config, batch: dict,
               paths: Sequence[str]) -> dict[str, list]:
    """Shapes of what modules give in a forward without gradients.

    Args:
        model (nn.Module): Runs in eval mode, and is in its own afterwards.
        cfg (Config): Its whole config.
        batch (dict): See :func:`noise_for`.
        paths (Sequence[str]): Modules; those that the model lacks are left
            out.

    Returns:
        dict[str, list]: By path, of each call: see :func:`shapes_of`.
    """
    modules = dict(model.named_modules())
    paths = [p for p in paths if p in modules and has_forward(modules[p])]
    taps = Taps(dict(zip(paths, paths)), model, 'model')
    modes = {module: module.training for module in model.modules()}
    # some heads ask for it
    MessageHub.get_current_instance().update_info('epoch', 0)
    device = next(model.parameters()).device
    inputs = batch['inputs'].to(device)
    samples = [sample.to(device) for sample in batch['data_samples']]
    model.eval()
    try:
        scope = cfg.get('default_scope')
        with torch.random.fork_rng(devices=[]), torch.no_grad(), \
                DefaultScope.overwrite_default_scope(scope), \
                taps.record(model, copies=False) as calls:
            model(inputs, samples, mode='tensor')
    finally:
        for module, mode in modes.items():
            module.training = mode
    return {
        path: [shapes_of(call[False].value) for call in calls[path]]
        for path in paths if calls[path]
    }


def only_call(side: str, path: str, outputs: dict[str, list]) -> Any:
    """Shapes of a module's only call.

    Raises:
        Mismatch: If it is called several times.
    """
    calls = outputs[path]
    if len(calls) > 1:
        raise Mismatch(f'{path} of the {side} runs {len(calls)} times')
    return calls[0]


def first_path(side: str, candidates: Sequence[str],
               outputs: dict[str, list]) -> str:
    """The first of several modules that runs.

    Raises:
        Mismatch: If none does.
    """
    for path in candidates:
        if path in outputs:
            return path
    raise Mismatch(f'the {side} has no {" and no ".join(candidates)} that '
                   'runs')


def maps_in(side: str, path: str, shape: Any) -> list[tuple]:
    """Shapes (N, C, H, W) of levels.

    Raises:
        Mismatch: If something else is there.
    """
    levels = shape if isinstance(shape, list) else [shape]
    if not levels or any(not isinstance(level, tuple) or len(level) != 4
                         for level in levels):
        raise Mismatch(f'{path} of the {side} gives {shape}, which are no '
                       'maps (N, C, H, W)')
    return levels


def common_run(ours: list[tuple], theirs: list[tuple]) -> tuple[int, int, int]:
    """The longest run of levels of equal height and width.

    Args:
        ours (list[tuple]): Shapes of the student's levels.
        theirs (list[tuple]): Of the teacher's.

    Returns:
        tuple[int, int, int]: Where it begins on both sides, and its length,
        which is 0 if no levels agree.
    """
    best = (0, 0, 0)
    for i in range(len(ours)):
        for j in range(len(theirs)):
            length = 0
            while (i + length < len(ours) and j + length < len(theirs)
                   and ours[i + length][2:] == theirs[j + length][2:]):
                length += 1
            if length > best[2]:
                best = (i, j, length)
    return best


def slice_tap(path: str, shape: Any, start: int, length: int) -> str:
    """A tap of some of the levels that a module gives."""
    if not isinstance(shape, list):
        return path
    if length == 1:
        return f'{path}[{start if start < len(shape) - 1 else -1}]'
    if length == len(shape):
        return path
    return f'{path}[{start}:{start + length}]'


def extra_tokens(side: str, shape: tuple) -> tuple[int, int]:
    """Side of the grid of patches, and the tokens before them.

    Raises:
        Mismatch: If these are no tokens (N, L, C) of a square of patches.
    """
    if not isinstance(shape, tuple) or len(shape) != 3:
        raise Mismatch(f'a layer of the {side} gives {shape}, which are no '
                       'tokens (N, L, C)')
    grid = isqrt(shape[1])
    extra = shape[1] - grid**2
    if extra > 2:
        raise Mismatch(f'{shape[1]} tokens of the {side} are no square of '
                       'patches with one or two tokens before it')
    return grid, extra
