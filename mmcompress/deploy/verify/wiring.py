"""Is what a packed layer keeps to itself read by nobody else?

Folding knows in which order the modules of a row run. It can't know whether a
model also reads a value in between, as where it goes through the layers of an
``nn.Sequential`` one by one and keeps some outputs.
"""
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import torch.nn as nn
from mmengine.model import BaseModel
from torch import Tensor

from ..attention import PackedProjections
from ..fold import Trace
from .model import VerificationError, part_outputs, predict, same_bits


class _Inside:
    """The values between the first module of a packed layer and its end.

    The end is the input of the next low-bit layer, where only bits or codes
    are handed on, or the output of the last module that is folded.

    Args:
        trained (nn.Module): The model that was folded.
        trace (Trace): Of the packed layer.

    Attributes:
        values (list[Tensor | None]): At the end, for each call of the first
            module; None where the call led to another end, or to none.
    """

    def __init__(self, trained: nn.Module, trace: Trace) -> None:
        self.trace = trace
        self.start = trained.get_submodule(trace.source)
        self.end_name = trace.following or trace.output
        self.end = trained.get_submodule(self.end_name)
        self.values: list[Tensor | None] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing lies between."""
        return not self.trace.following and self.start is self.end

    @contextmanager
    def _watched(self, at_start: Callable, at_end: Callable) -> Iterator[None]:
        """Call functions with values, which they may replace.

        An end that runs without the start, such as a ReLU of several places,
        is that of something else.
        """
        is_inside = False

        def on_start(module: nn.Module, args: tuple, y: Tensor) -> Any:
            nonlocal is_inside
            is_inside = True
            return at_start(y)

        def on_end(value: Tensor) -> Any:
            nonlocal is_inside
            was_inside, is_inside = is_inside, False
            return at_end(value) if was_inside else None

        handles = [self.start.register_forward_hook(on_start)]
        if self.trace.following:
            handles.append(
                self.end.register_forward_pre_hook(
                    lambda module, args: on_end(args[0])))
        else:
            handles.append(
                self.end.register_forward_hook(
                    lambda module, args, y: on_end(y)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def kept(self):
        """A context in which the values at the end are kept."""
        self.values = []

        def keep(y: Tensor) -> None:
            # activations in place may overwrite it
            self.values[-1] = y.clone()

        return self._watched(lambda y: self.values.append(None), keep)

    def spoilt(self):
        """A context in which all between is changed."""
        values = iter(self.values)
        value = None

        def spoil(y: Tensor) -> Tensor | None:
            nonlocal value
            value = next(values)
            return None if value is None else y + y.abs().sum() + 1

        return self._watched(spoil, lambda y: value)


def _results(trained: nn.Module, batch: Any, parts: set[str],
             contexts: list) -> list[Tensor]:
    """Predictions and the outputs of some children, in contexts."""
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        found = stack.enter_context(part_outputs(trained))
        predictions = predict(trained, batch)
    outputs = [t for name in sorted(parts) for t in found.get(name, [])]
    return outputs + predictions


def _whole_parts(trained: nn.Module, insides: list[_Inside]) -> set[str]:
    """Children whose outputs lie inside of no packed layer."""
    if not isinstance(trained, BaseModel):
        return set()
    parts = {name for name, _ in trained.named_children()}
    for inside in insides:
        part, _, is_below = inside.trace.source.partition('.')
        if not is_below or inside.end_name.partition('.')[0] != part:
            parts.discard(part)
    return parts


def _refuse(inside: _Inside) -> NoReturn:
    raise VerificationError(
        f'{inside.trace.conv}: packed, it runs together with what follows, up '
        f'to {inside.end_name}, but the model also reads a value in between, '
        'as where it calls the layers of an nn.Sequential one by one. Put '
        'those that always run together into an nn.Sequential of their own')


def _check_calls(insides: list[_Inside]) -> None:
    """Each call of a low-bit layer must lead to the end of a packed one."""
    for inside in insides:
        if inside.trace.source != inside.trace.conv:
            continue
        same = [i.values for i in insides if i.start is inside.start]
        if any(all(v is None for v in call) for call in zip(*same)):
            _refuse(inside)


def check_wiring(trained: nn.Module, traces: list[Trace], batch: Any) -> None:
    """Check that nothing else reads what packed layers keep to themselves.

    All of that is spoilt in a second run of the trained model, and put right
    where the packed layers end: results must not change.

    Args:
        trained (nn.Module): The model that was folded, in eval mode.
        traces (list[Trace]): From :class:`mmcompress.deploy.fold.Folding`.
        batch (Any): Input, see :func:`predict`.

    Raises:
        VerificationError: If a value is read elsewhere; names the layer.
    """
    insides = [
        _Inside(trained, trace) for trace in traces
        if not isinstance(trace.layer, PackedProjections)
    ]
    parts = _whole_parts(trained, insides)
    wanted = _results(trained, batch, parts, [i.kept() for i in insides])
    _check_calls(insides)

    def changes(some: list[_Inside]) -> bool:
        found = _results(trained, batch, parts, [i.spoilt() for i in some])
        return len(found) != len(wanted) or not all(
            map(same_bits, found, wanted))

    insides = [inside for inside in insides if not inside.is_empty]
    if changes(insides):
        for inside in insides:
            if changes([inside]):
                _refuse(inside)
