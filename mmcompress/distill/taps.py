"""Taps: what modules of a model compute, recorded during one step.

A tap is one line of text that names what a loss looks at.
"""
import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

_TAP = re.compile(
    r'(?P<path>[A-Za-z_][\w.]*)(?P<input>@input)?'
    r'(\[(?P<start>(?:-?\d+)?)(?P<slice>:(?P<stop>(?:-?\d+)?))?\])?')


@dataclass(frozen=True)
class Tap:
    """A module of a model, and what of its calls is wanted.

    Attributes:
        text (str): As written: ``path``, ``path[i]``, ``path[a:b]``,
            ``path@input``.
        path (str): Name of the module, as in ``model.named_modules()``.
        of_input (bool): The module's first argument instead of its output.
        index (int | slice | None): What to take of a tuple.
    """
    text: str
    path: str
    of_input: bool
    index: int | slice | None

    def select(self, calls: list[tuple], owner: str = 'model') -> Any:
        """What the tap yields, given the calls of its module.

        Args:
            calls (list[tuple]): Pairs (input, output), one per call.
            owner (str): Whose module it is, for messages.

        Returns:
            Any: The value of the only call, or the list over several calls.
        """
        if not calls:
            raise RuntimeError(
                f'tap {self.text!r}: {self.path} of the {owner} was not '
                'called in this step')
        values = [call[0 if self.of_input else 1] for call in calls]
        if self.index is not None:
            values = [self._take(value) for value in values]
        return values[0] if len(values) == 1 else values

    def _take(self, value: Any) -> Any:
        if not isinstance(value, (tuple, list)):
            raise TypeError(f'tap {self.text!r}: {self.path} gave a '
                            f'{type(value).__name__}, which has no index')
        try:
            taken = value[self.index]
        except IndexError:
            taken = ()
        if isinstance(taken, (tuple, list)) and not taken:
            raise IndexError(f'tap {self.text!r}: {self.path} gave '
                             f'{len(value)} values')
        return taken


def parse_tap(text: str) -> Tap:
    """Read a tap.

    Raises:
        ValueError: If the text is not a tap.
    """
    match = _TAP.fullmatch(text) if isinstance(text, str) else None
    if match is None or match['start'] == '' and match['slice'] is None:
        raise ValueError(
            f"{text!r} is not a tap; write 'path', 'path[i]', 'path[a:b]' or "
            "'path@input', with a path of model.named_modules()")
    start = int(match['start']) if match['start'] else None
    index = start
    if match['slice']:
        index = slice(start, int(match['stop']) if match['stop'] else None)
    return Tap(text, match['path'], bool(match['input']), index)


def map_taps(spec: Any, function: Callable) -> Any:
    """Apply a function to the leaves of a tap, a list or a dict of taps."""
    if isinstance(spec, dict):
        return {key: map_taps(value, function) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [map_taps(value, function) for value in spec]
    return function(spec)


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


class _StopForward(BaseException):
    """Leaves a forward; not an Exception, so that no model catches it."""


class Taps:
    """Records what modules of a model compute during one step.

    Args:
        specs (dict): Name -> tap, list of taps or dict of taps.
        model (nn.Module): Checked to have all the modules; not kept.
        owner (str): Whose taps these are, for messages.

    Raises:
        ValueError: If a text is not a tap.
        KeyError: If the model lacks a module; names the closest paths.
    """

    def __init__(self, specs: dict, model: nn.Module, owner: str) -> None:
        self.specs = map_taps(specs, parse_tap)
        self.owner = owner
        self.paths: list[str] = []
        existing = [
            name for name, _ in model.named_modules(remove_duplicate=False)
            if name
        ]

        def check(tap: Tap) -> None:
            if tap.path not in existing:
                close = difflib.get_close_matches(tap.path, existing, 3, 0.3)
                raise KeyError(
                    f'the {owner} ({type(model).__name__}) has no module '
                    f'{tap.path!r} (tap {tap.text!r}); closest: '
                    f'{", ".join(close) or ", ".join(existing[:5])}; '
                    'tools/misc/list_taps.py lists all')
            if tap.path not in self.paths:
                self.paths.append(tap.path)

        map_taps(self.specs, check)

    @contextmanager
    def record(self,
               model: nn.Module,
               num_calls: dict[str, int] | None = None) -> Iterator[dict]:
        """Replace the tapped modules' forward, and put it back at the end.

        Forward hooks would not do: several mm models call
        ``head.forward(...)``, which bypasses them.

        Args:
            model (nn.Module): The model that is going to run.
            num_calls (dict[str, int] | None): Calls to expect by path. When
                all of them were seen, the model's forward is left, and the
                ``with`` block with it.

        Yields:
            dict[str, list[tuple]]: Calls by path, filled while the model
            runs; pairs of first argument and output.
        """
        calls: dict[str, list[tuple]] = {path: [] for path in self.paths}
        replaced: list[tuple[nn.Module, dict]] = []
        with_gradients = torch.is_grad_enabled()

        def recording(path: str, forward: Callable) -> Callable:

            def recorded(*args, **kwargs):
                if with_gradients and not torch.is_grad_enabled():
                    raise RuntimeError(
                        f'{path} of the {self.owner} runs without gradients, '
                        'probably under activation checkpointing, so that a '
                        'loss on it would train nothing; tap the module that '
                        'is checkpointed as a whole, or turn it off')
                output = forward(*args, **kwargs)
                first = next(iter((*args, *kwargs.values())), None)
                calls[path].append((first, output))
                if num_calls and all(
                        len(calls[p]) == n for p, n in num_calls.items()):
                    raise _StopForward
                return output

            return recorded

        try:
            for path in self.paths:
                module = model.get_submodule(path)
                own = {k: v for k, v in vars(module).items() if k == 'forward'}
                replaced.append((module, own))
                module.forward = recording(path, module.forward)
            yield calls
        except _StopForward:
            pass
        finally:
            for module, own in reversed(replaced):
                del module.forward
                vars(module).update(own)

    def select(self, calls: dict[str, list[tuple]]) -> dict:
        """What each named spec yields, in the shape it was written in."""
        return map_taps(self.specs,
                        lambda tap: tap.select(calls[tap.path], self.owner))
