"""Walk through the strings and the dicts of a config."""
from collections.abc import Callable, Iterator
from typing import Any


def strings(value: Any, key: str = '') -> Iterator[tuple[str, str]]:
    """All strings below a value, with their dotted keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from strings(inner, f'{key}.{name}' if key else str(name))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from strings(inner, f'{key}.{i}')


def replace_strings(value: Any, new: Callable[[str], str]) -> Any:
    """The same with other strings."""
    if isinstance(value, str):
        return new(value)
    if isinstance(value, dict):
        return {k: replace_strings(v, new) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(replace_strings(v, new) for v in value)
    return value


def dicts(value: Any) -> Iterator[dict]:
    """All dicts below a value, the outer first."""
    if isinstance(value, dict):
        yield value
        for inner in list(value.values()):
            yield from dicts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from dicts(inner)


def kind(value: Any) -> str:
    """The type that a config names, without its scope."""
    return str(value.get('type', '')).split('.')[-1]
