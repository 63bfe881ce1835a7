"""Which modules of a model the patterns of a config select."""
import difflib
from fnmatch import fnmatchcase

import torch.nn as nn


def selects(pattern: str, name: str) -> bool:
    """Whether a pattern selects a module.

    Args:
        pattern (str): Name of the module or of one above it, or its whole
            name with wildcards (``backbone.layer*.conv1``).
        name (str): As in ``model.named_modules()``.
    """
    return (name == pattern or name.startswith(f'{pattern}.')
            or fnmatchcase(name, pattern))


def match_modules(model: nn.Module,
                  kinds: type | tuple[type, ...],
                  include: list[str],
                  exclude: list[str],
                  key: str = 'include') -> list[str]:
    """Names of the modules of some kinds that patterns select.

    Args:
        model (nn.Module): The model.
        kinds (type | tuple[type, ...]): Classes of the modules.
        include (list[str]): Patterns of what is wanted, see :func:`selects`.
        exclude (list[str]): Patterns of what is left out.
        key (str): What the caller's option is called that ``include`` comes
            from, for messages.

    Raises:
        ValueError: If a pattern selects nothing.
    """
    names = [
        name for name, m in model.named_modules(remove_duplicate=False)
        if isinstance(m, kinds)
    ]
    classes = kinds if isinstance(kinds, tuple) else (kinds, )
    wanted_kind = ' or '.join(dict.fromkeys(k.__name__ for k in classes))
    # a pattern is often the name of something above
    others = {name: m for name, m in model.named_modules() if name}

    def hint(pattern: str) -> str:
        """What a pattern selects instead, or what is called alike."""
        leaves = {
            type(m).__name__
            for name, m in others.items()
            if selects(pattern, name) and not m._modules
        }
        if leaves:
            return f'what it selects is {", ".join(sorted(leaves))}'
        close = difflib.get_close_matches(pattern, others, 3, 0.3)
        return f'closest: {", ".join(close or names[:3]) or "it has none"}'

    def select(patterns: list[str], key: str) -> set[str]:
        selected = set()
        for pattern in patterns:
            found = {name for name in names if selects(pattern, name)}
            if not found:
                raise ValueError(
                    f'{key}: {pattern!r} selects no {wanted_kind} of '
                    f'{type(model).__name__}; {hint(pattern)}')
            selected |= found
        return selected

    wanted = select(include, key) - select(exclude, 'exclude')
    if not wanted:
        raise ValueError(f'exclude takes away everything that {key} selects')
    return [name for name in names if name in wanted]
