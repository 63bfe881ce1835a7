"""Words for what goes wrong in a loss."""
from typing import Any

from torch import Tensor


def describe(value: Any) -> str:
    """Shapes of nested lists, tuples and dicts of tensors, on one line."""
    if isinstance(value, Tensor):
        return 'x'.join(map(str, value.shape)) or 'scalar'
    if isinstance(value, dict):
        items = (f'{key}: {describe(v)}' for key, v in value.items())
        return f'{{{", ".join(items)}}}'
    if isinstance(value, (list, tuple)):
        return f'({", ".join(map(describe, value))})'
    return type(value).__name__


def _instead(tap: str, levels: list) -> str | None:
    """What to tap where levels are no tensors; None where all are."""
    odd = [level for level in levels if not isinstance(level, Tensor)]
    if not odd:
        return None
    if '[' in tap or not isinstance(odd[0], (list, tuple, dict)):
        return 'a module in it that gives one'
    if isinstance(odd[0], dict):
        return ' or '.join(f'"{tap}[{key!r}]"' for key in odd[0])
    return repr(f'{tap}[0]')


def hints(taps: dict[str, Any], tapped: dict[str, Any]) -> list[str]:
    """Sentences on taps that yield something else than tensors.

    Args:
        taps (dict): Tap, list or dict of taps by side.
        tapped (dict): What they yield.
    """
    sentences = []
    for side, spec in taps.items():
        value = tapped.get(side)
        if isinstance(spec, str):
            several = isinstance(value, (list, tuple))
            pairs = [(spec, value, value if several else [value])]
        elif isinstance(spec, (list, tuple)):
            pairs = [(tap, v, [v]) for tap, v in zip(spec, value)]
        else:
            # a loss that takes a dict says itself what it wants in it
            continue
        sentences += [
            f'The {side}\'s tap {tap!r} yields {describe(value)}; if the loss '
            f'wants a tensor, tap {instead}' for tap, value, levels in pairs
            if (instead := _instead(tap, levels))
        ]
    return sentences


def in_words(error: Exception, where: str, sentences: list[str]) -> Exception:
    """Say where an error arose, without hiding what it is.

    Args:
        error (Exception): Raised by a loss.
        where (str): Name of the loss, its type and its taps.
        sentences (list[str]): See :func:`hints`.

    Returns:
        Exception: The error itself with a longer message; where it has none
        that could be longer, a RuntimeError with this cause.
    """
    text = str(error.args[0]) if error.args else type(error).__name__
    message = '. '.join([f'{where}: {text}', *sentences])
    if error.args and not isinstance(error.args[0], str):
        wrapped = RuntimeError(message)
        wrapped.__cause__ = error
        return wrapped
    error.args = (message, *error.args[1:])
    return error
