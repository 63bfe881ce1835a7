"""What folding has to know of modules, told beside their classes.

A block says in the file of its method how its layers follow each other; what
packs them is in :mod:`mmcompress.deploy`, which is not needed for training.
"""
from collections.abc import Callable

import torch.nn as nn


class Rules:
    """Functions of modules, by their class.

    A function also serves subclasses that have none of their own and inherit
    ``forward``.

    Args:
        what (str): Of them, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._rules: dict[type | str, Callable] = {}

    def __call__(self, *classes: type | str) -> Callable[[Callable], Callable]:
        """Register a function, as a decorator.

        Args:
            *classes (type | str): Classes of modules. Those of other
                libraries, which need not be installed, by import path.

        Raises:
            KeyError: If a class has a function already.
        """

        def register(rule: Callable) -> Callable:
            for cls in classes:
                if cls in self._rules:
                    raise KeyError(f'{cls} has a {self.what} already')
                self._rules[cls] = rule
            return rule

        return register

    def find(self, module: nn.Module) -> Callable | None:
        """The function that serves a module."""
        for cls in type(module).__mro__:
            path = f'{cls.__module__}.{cls.__qualname__}'
            rule = self._rules.get(cls) or self._rules.get(path)
            if rule is not None:
                return rule
            if 'forward' in vars(cls):
                # what follows computes something else
                return None
        return None

    @property
    def paths(self) -> list[str]:
        """Classes that are known by their import path."""
        return [cls for cls in self._rules if isinstance(cls, str)]


#: ``rule(module, folding)`` returns what stands in for the module in a packed
#: model, or None if it has nothing to fold; then the modules inside are
#: looked at. ``folding`` is a :class:`mmcompress.deploy.fold.Folding`.
folds = Rules('fold rule')
#: ``rule(module)`` lists the modules that a module runs in a row.
row_of = Rules('row')
