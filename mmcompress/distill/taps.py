"""Taps: what modules of a model compute, recorded during one step."""
import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn

from .tap_syntax import Tap, map_taps, parse_tap


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
