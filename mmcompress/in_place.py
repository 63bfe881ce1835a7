"""Give a module of a library another forward, in place."""
from functools import cache

import torch.nn as nn


@cache
def _derived(mixin: type, base: type[nn.Module]) -> type[nn.Module]:
    return type(
        f'{mixin.prefix}{base.__name__}', (mixin, base), {
            '__module__': mixin.__module__,
            '__doc__': mixin.__doc__,
            '_made_of': (mixin, base)
        })


def _new(mixin: type, base: type[nn.Module]) -> nn.Module:
    cls = _derived(mixin, base)
    return cls.__new__(cls)


class InPlace:
    """Base of forwards that stand before those of a library's class.

    mm libraries have copies of the same attention, and need not be installed.
    So the class of a swapped module, which derives from a subclass of this
    and from the module's own class, is made when it is swapped: what asks for
    the library's class still finds it, and names of parameters, hooks and
    whatever refers to the module stay.

    Attributes:
        prefix (str): Of the names of such classes.
    """
    prefix: str

    @classmethod
    def become(cls, module: nn.Module) -> None:
        """Put this forward before that of a module.

        Args:
            module (nn.Module): Of a library's class. If it has another one of
                these forwards, this one takes its place.
        """
        base = type(module)
        if issubclass(base, InPlace):
            base = base._made_of[1]
        module.__class__ = _derived(cls, base)

    def __reduce__(self) -> tuple:
        # pickle looks for classes by their names
        return _new, self._made_of, self.__dict__
