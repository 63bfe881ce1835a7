"""Give a module of a library another forward, and children, in place."""
from functools import cache

import torch.nn as nn
from torch import Tensor

from ..spec import Spec
from .dot_product import QuantDotProduct


@cache
def _derived(mixin: type, base: type[nn.Module]) -> type[nn.Module]:
    return type(
        f'Quant{base.__name__}', (mixin, base), {
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
    """

    @classmethod
    def swap(cls, attn: nn.Module, spec: Spec) -> None:
        """Turn a module into a quantized one, in place.

        Args:
            attn (nn.Module): Of a class with this one's forward, in float.
            spec (Spec): How it is quantized.
        """
        attn.__class__ = _derived(cls, type(attn))
        attn._attach(spec)

    def _attach(self, spec: Spec) -> None:
        """Add what the quantized forward needs."""
        self._add_products(spec, self.embed_dims // self.num_heads,
                           self.qkv.weight)

    def _add_products(self, spec: Spec, dims: int, like: Tensor) -> None:
        product = QuantDotProduct(spec, self.num_heads, dims, like)
        self.products = product.train(self.training)

    def __reduce__(self) -> tuple:
        # pickle looks for classes by their names
        return _new, self._made_of, self.__dict__
