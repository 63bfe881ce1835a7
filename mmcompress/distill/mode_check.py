"""Whether the teacher's taps mean in eval mode what they mean in training.

The teacher runs in eval mode and the student in training mode. Some heads
compute something else there: FCOS multiplies its boxes by the stride.
"""
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from .tap_paths import has_forward
from .taps import Taps, each_tap, map_taps, tensors_of


def training_twin(model: nn.Module, tapped: set[str],
                  still: set[str]) -> nn.Module:
    """Copy a model, and let the copy compute as in training.

    Norms, dropout and the like stay in eval mode: all modules of torch, those
    with running statistics, and what has neither parameters nor parts, such
    as a drop path.

    Args:
        model (nn.Module): In eval mode.
        tapped (set[str]): Modules that are tapped, which count in any case
            unless they are torch's.
        still (set[str]): More modules to leave in eval mode.
    """
    twin = deepcopy(model)
    for path, module in twin.named_modules():
        # whoever watches the model sees its own forwards alone
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        own = {name for name, _ in module.named_buffers(recurse=False)}
        plain = next(module.parameters(), None) is None and \
            next(module.children(), None) is None
        module.training = not (type(module).__module__.startswith('torch.')
                               or path in still or 'running_mean' in own
                               or plain and path not in tapped)
    return twin


def same(evaluated: Any, trained: Any) -> bool:
    """Whether values agree, as far as there are both.

    Args:
        evaluated (Any): Tensors in nested lists, tuples and dicts.
        trained (Any): The same in training, where items may be added.
    """
    if isinstance(evaluated, Tensor):
        if isinstance(trained, (list, tuple)):
            return len(trained) > 0 and same(evaluated, trained[0])
        return isinstance(trained, Tensor) and _close(evaluated, trained)
    if isinstance(evaluated, dict) and isinstance(trained, dict):
        return all(
            same(value, trained[key]) for key, value in evaluated.items()
            if key in trained)
    if isinstance(evaluated, (list, tuple)):
        return isinstance(trained, (list, tuple)) and all(
            same(a, b) for a, b in zip(evaluated, trained))
    return type(evaluated) is type(trained)


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal up to what another order of the sums makes of it."""
    if a.shape != b.shape or not a.numel():
        return a.shape == b.shape
    a, b = a.double(), b.double()
    size = a.nan_to_num(0, 0, 0).abs().mean().item()
    return torch.allclose(a, b, rtol=1e-2, atol=1e-2 * size, equal_nan=True)


@contextmanager
def _other_draws(attempt: int, device: torch.device) -> Iterator[None]:
    """Draw as in the first forward, or from a seed; leave no trace of it."""
    states = random.getstate(), np.random.get_state()
    devices = [device] if device.type == 'cuda' else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        if attempt:
            torch.manual_seed(attempt)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _updated(twin: nn.Module, model: nn.Module) -> set[str]:
    """Modules that changed what they hold, as running statistics are."""
    before = model.state_dict()
    return {
        key.rpartition('.')[0]
        for key, value in twin.state_dict().items()
        if not torch.equal(value, before[key])
    }


def _differences(taps: Taps, values: dict, seen: dict) -> dict:
    """What differs: tap, evaluated and trained value by loss and tap."""
    found = {}
    for name, spec in taps.specs.items():
        for (tap, a), (_, b) in zip(
                each_tap(spec, values[name]), each_tap(spec, seen[name])):
            if not same(a, b):
                found[name, tap.text] = tap, a, b
    return found


def check_modes(model: nn.Module, taps: Taps, values: dict,
                run: Callable[[nn.Module], Any], num_calls: dict[str,
                                                                 int]) -> None:
    """Refuse taps that yield something else in training than in eval mode.

    It costs one forward and, while it lasts, a copy of the model. Only what
    differs is looked at again, for it may be random.

    Args:
        model (nn.Module): The teacher, in eval mode. It is left untouched.
        taps (Taps): Its taps.
        values (dict): What they yield in eval mode, by name of the loss.
        run (Callable): Runs a model on the batch that gave the values.
        num_calls (dict[str, int]): Calls of the tapped modules by path.

    Raises:
        ValueError: If taps differ; names them and what to tap instead.
    """
    device = next(model.parameters()).device
    texts = map_taps(taps.specs, lambda tap: tap.text)
    still: set[str] = set()
    before: dict = {}
    for attempt in range(4):
        try:
            twin = training_twin(model, set(taps.paths), still)
            twin_taps = Taps(texts, twin, 'teacher')
            with _other_draws(attempt, device), \
                    twin_taps.record(twin, num_calls) as calls:
                run(twin)
            seen = twin_taps.select(calls)
        except Exception as error:
            print_log(
                'What the teacher gives in training mode could not be '
                f'compared: {type(error).__name__}: {error}',
                logger='current')
            return
        differ = _differences(taps, values, seen)
        if not differ:
            return
        for key in before.keys() & differ.keys():
            # not random, since other draws gave the same
            if same(before[key][2], differ[key][2]):
                tap, value, _ = differ[key]
                raise ValueError(
                    _message(key[0], tap, model) +
                    _instead(tap, value, model, twin, run, device))
        updated = _updated(twin, model) - still
        if before and not updated:
            break
        # what updates its statistics does in training as a norm does
        still |= updated
        before = {} if updated else differ
    print_log(
        'What the teacher gives in training mode is random and was not '
        'compared with what it gives in eval mode',
        logger='current')


def _message(name: str, tap: Any, model: nn.Module) -> str:
    kind = type(model.get_submodule(tap.path)).__name__
    return (f'losses.{name}: {tap.path} ({kind}) of the teacher computes '
            'something else in eval mode, in which the teacher runs, than in '
            f'training mode, in which the student runs, so that {tap.text!r} '
            'means different things. ')


def _instead(tap: Any, value: Any, model: nn.Module, twin: nn.Module,
             run: Callable, device: torch.device) -> str:
    """What can be tapped in place of a tap that differs."""
    paths = [f'{tap.path}@input'] + [
        f'{tap.path}.{name}'
        for name, module in model.get_submodule(tap.path).named_modules()
        if name and has_forward(module)
    ]
    seen = []
    for net in (model, twin):
        taps = Taps(dict(enumerate(paths)), net, 'teacher')
        with _other_draws(0, device), taps.record(net) as calls:
            run(net)
        seen.append({
            path: [call[path.endswith('@input')].copy
                   for call in calls[path.removesuffix('@input')]]
            for path in paths
        })  # yapf: disable
    equal = [path for path in paths if seen[0][path] and same(*(
        side[path] for side in seen))]  # yapf: disable
    shapes = [t.shape for t in tensors_of(value)]
    alike = [
        path for path in equal
        if [t.shape for t in tensors_of(seen[0][path])] == shapes
    ]
    hint = 'Tap a module that comes before it'
    if alike or equal:
        hint = (f'Tap {(alike or equal)[-1]!r}, which gives the same in both')
    return (f'{hint}; or, if the loss takes care of it, set '
            'teacher.check_modes=False')
