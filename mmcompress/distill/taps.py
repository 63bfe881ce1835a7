"""Taps: what modules of a model compute, recorded during one step.

A tap is one line of text that names what a loss looks at.
"""
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from mmcompress.tokens.tokens import Tokens
from .tap_paths import check_path

_TAP = re.compile(
    r'(?P<path>[A-Za-z_][\w.]*)(?P<input>@input)?'
    r"(\[(?:'(?P<key>[^']+)'|"
    r'(?P<start>(?:-?\d+)?)(?P<slice>:(?P<stop>(?:-?\d+)?))?)\])?')


@dataclass(frozen=True)
class Tap:
    """A module of a model, and what of its calls is wanted.

    Attributes:
        text (str): As written: ``path``, ``path[i]``, ``path[a:b]``,
            ``path['key']``, ``path@input``.
        path (str): Name of the module, as in ``model.named_modules()``.
        of_input (bool): The module's first argument instead of its output.
        index (int | slice | str | None): What to take of a tuple or a dict.
    """
    text: str
    path: str
    of_input: bool
    index: int | slice | str | None

    def select(self, values: list, owner: str = 'model') -> Any:
        """What the tap yields, given the calls of its module.

        Args:
            values (list): Input or output of each call.
            owner (str): Whose module it is, for messages.

        Returns:
            Any: The value of the only call, or the list over several calls.
        """
        if not values:
            raise RuntimeError(
                f'tap {self.text!r}: {self.path} of the {owner} was not '
                'called in this step')
        if self.index is not None:
            values = [self._take(value) for value in values]
        return values[0] if len(values) == 1 else values

    def _take(self, value: Any) -> Any:
        kind = dict if isinstance(self.index, str) else (tuple, list)
        if not isinstance(value, kind):
            raise TypeError(f'tap {self.text!r}: {self.path} gave a '
                            f'{type(value).__name__}, which has no '
                            f'{"keys" if kind is dict else "index"}')
        try:
            taken = value[self.index]
        except KeyError:
            raise KeyError(f'tap {self.text!r}: {self.path} gave a dict with '
                           f'the keys {", ".join(map(str, value))}') from None
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
            f"{text!r} is not a tap; write 'path', 'path[i]', 'path[a:b]', "
            "\"path['key']\" or 'path@input', with a path of "
            'model.named_modules()')
    start = int(match['start']) if match['start'] else None
    index = match['key'] or start
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


def each_tap(spec: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of a tap and what it yields.

    Args:
        spec (Any): Tap, list or dict of taps.
        value (Any): What :meth:`Taps.select` gave for it.
    """
    if isinstance(spec, dict):
        for key in spec:
            yield from each_tap(spec[key], value[key])
    elif isinstance(spec, (list, tuple)):
        for item, part in zip(spec, value):
            yield from each_tap(item, part)
    else:
        yield spec, value


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples and dicts; of tokens, all."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Tokens):
        return [value.full()]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Nested lists, tuples and dicts anew; of merged tokens, all of them."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Tokens):
        return function(value.full())
    if isinstance(value, dict):
        mapped = copy(value)
        for key, item in value.items():
            mapped[key] = map_tensors(item, function)
        return mapped
    if isinstance(value, (list, tuple)):
        items = [map_tensors(item, function) for item in value]
        named = hasattr(value, '_fields')
        return type(value)(*items) if named else type(value)(items)
    return value


def _copy(tensor: Tensor) -> Tensor:
    """Copy a tensor that is going to be overwritten."""
    copied = tensor.clone()
    if tensor.requires_grad:
        # the gradients of all losses meet there, not at the copy
        copied.origin = get_gradient_edge(tensor)
    return copied


class _Value:
    """What a module got or gave, as it was at that moment.

    Args:
        value (Any): Tensors in nested lists, tuples and dicts, which are
            built anew: a list may be changed later, as well.
        copied (bool): Whether to copy the tensors.
    """

    def __init__(self, value: Any, copied: bool) -> None:
        self.value = map_tensors(value, lambda tensor: tensor)
        self.copy = map_tensors(value, _copy) if copied else None
        self._versions = self._count()

    def _count(self) -> list[int]:
        return [
            0 if tensor.is_inference() else tensor._version
            for tensor in tensors_of(self.value)
        ]

    def overwritten(self) -> bool:
        """Whether a tensor was changed in place since."""
        return self._count() != self._versions


class _StopForward(BaseException):
    """Leaves a forward; not an Exception, so that no model catches it."""


class Taps:
    """Records what modules of a model compute during one step.

    A tap yields what the module gave, also where something changes it in
    place afterwards, such as ``ReLU(inplace=True)``. The first step copies
    all that is tapped and notes what is overwritten; later steps copy that
    alone.

    Args:
        specs (dict): Name -> tap, list of taps or dict of taps.
        model (nn.Module): Checked to have all the modules; not kept.
        owner (str): Whose taps these are, for messages.

    Raises:
        ValueError: If a text is not a tap, or the module is never called.
        KeyError: If the model lacks a module; names the closest paths.
    """

    def __init__(self, specs: dict, model: nn.Module, owner: str) -> None:
        self.specs = map_taps(specs, parse_tap)
        self.owner = owner
        self.paths: list[str] = []
        # pairs of path and whether its input is meant
        self._wanted: set[tuple[str, bool]] = set()
        self._overwritten: set[tuple[str, bool]] | None = None
        existing = dict(model.named_modules(remove_duplicate=False))

        def note(tap: Tap) -> None:
            check_path(tap.text, tap.path, existing, owner)
            if tap.path not in self.paths:
                self.paths.append(tap.path)
            self._wanted.add((tap.path, tap.of_input))

        map_taps(self.specs, note)

    @contextmanager
    def record(self,
               model: nn.Module,
               num_calls: dict[str, int] | None = None,
               copies: bool = True) -> Iterator[dict]:
        """Replace the tapped modules' forward, and put it back at the end.

        Forward hooks would not do: several mm models call
        ``head.forward(...)``, which bypasses them.

        Args:
            model (nn.Module): The model that is going to run.
            num_calls (dict[str, int] | None): Calls to expect by path. When
                all of them were seen, the model's forward is left, and the
                ``with`` block with it.
            copies (bool): Whether to copy what is overwritten, as
                :meth:`select` needs it.

        Yields:
            dict[str, list[dict]]: Calls by path, filled while the model
            runs; by ``tap.of_input`` the first argument and the output, each
            a :class:`_Value`, or None where no tap asks for it.
        """
        calls: dict[str, list[dict]] = {path: [] for path in self.paths}
        replaced: list[tuple[nn.Module, dict]] = []
        with_gradients = torch.is_grad_enabled()

        def keep(path: str, of_input: bool, value: Any) -> _Value | None:
            key = path, of_input
            if key not in self._wanted:
                return None
            return _Value(
                value, copies
                and (self._overwritten is None or key in self._overwritten))

        def recording(path: str, forward: Callable) -> Callable:

            def recorded(*args, **kwargs):
                if with_gradients and not torch.is_grad_enabled():
                    raise RuntimeError(
                        f'{path} of the {self.owner} runs without gradients, '
                        'probably under activation checkpointing or '
                        'torch.no_grad, so that a loss on it would train '
                        'nothing; tap the module that is checkpointed as a '
                        'whole, or turn it off')
                first = next(iter((*args, *kwargs.values())), None)
                # before the module runs, which may work in place
                first = keep(path, True, first)
                output = forward(*args, **kwargs)
                calls[path].append({
                    True: first,
                    False: keep(path, False, output)
                })
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

    def select(self, calls: dict[str, list[dict]]) -> dict:
        """What each named spec yields, in the shape it was written in.

        Raises:
            RuntimeError: If a tapped module was not called, or its output was
                overwritten and, since that is new, not copied.
        """
        overwritten = {(path, of_input)
                       for path, of_input in self._wanted
                       if any(call[of_input].overwritten()
                              for call in calls[path])}
        if self._overwritten is None:
            self._overwritten = overwritten
        if lost := overwritten - self._overwritten:
            names = [f'{path}{"@input" * given}' for path, given in lost]
            raise RuntimeError(
                f'what {", ".join(sorted(names))} of the {self.owner} gave '
                'was changed in place afterwards, which did not happen in the '
                'first step, so its value is lost; tap the module behind it '
                'that changes it, or make that one work out of place')

        def values_of(tap: Tap) -> Any:
            seen = [call[tap.of_input] for call in calls[tap.path]]
            copied = (tap.path, tap.of_input) in self._overwritten
            return tap.select([v.copy if copied else v.value for v in seen],
                              self.owner)

        return map_taps(self.specs, values_of)
