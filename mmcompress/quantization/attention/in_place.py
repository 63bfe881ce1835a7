"""Quantize an attention of a library in place."""
import torch.nn as nn
from torch import Tensor

from mmcompress.in_place import InPlace as _InPlace
from ..spec import Spec
from .dot_product import QuantDotProduct


class InPlace(_InPlace):
    """Base of the forwards of quantized attentions."""
    prefix = 'Quant'

    @classmethod
    def swap(cls, attn: nn.Module, spec: Spec) -> None:
        """Turn a module into a quantized one, in place.

        Args:
            attn (nn.Module): Of a class with this one's forward, in float.
            spec (Spec): How it is quantized.
        """
        cls.become(attn)
        attn._attach(spec)

    def _attach(self, spec: Spec) -> None:
        """Add what the quantized forward needs."""
        # pruned, heads are smaller than the embedding says
        rows = len(self.qkv.weight)
        self._add_products(spec, rows // (3 * self.num_heads), self.qkv.weight)

    def _add_products(self, spec: Spec, dims: int, like: Tensor) -> None:
        product = QuantDotProduct(spec, self.num_heads, dims, like)
        self.products = product.train(self.training)
