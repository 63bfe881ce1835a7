"""The language of taps: one line of text names what a loss looks at."""
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
