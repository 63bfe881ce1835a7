"""How one part of a model is quantized: bits and methods of its operands."""
from dataclasses import dataclass

import torch.nn as nn

from .layers import Place, Product, build_quantizer


@dataclass(frozen=True)
class Spec:
    """Configs of quantizers for a layer, or for an attention and its layers.

    Attributes:
        weight (dict | None): Of weights, one scale per output channel unless
            it says ``per='tensor'``; None: they stay float.
        activation (dict | None): Of what layers multiply with weights.
        attention (dict | None): Of queries, keys and values, as they are
            multiplied with each other; None: an attention's products stay
            float.
        softmax (dict | None): Of attention maps. None: as ``attention``,
            unsigned.
        query_norm (dict | None): Config of a module that queries pass before
            they are quantized, built with ``dims``, the size of a head.
        key_norm (dict | None): The same of keys.
        act_granularity (str): ``'tensor'`` or ``'channel'``, see
            :class:`~mmcompress.quantization.QuantLayer`.
        attention_granularity (str): ``'head'``: each head of an attention has
            scales of its own. ``'tensor'``: they share one, for export.
    """
    weight: dict | None = None
    activation: dict | None = None
    attention: dict | None = None
    softmax: dict | None = None
    query_norm: dict | None = None
    key_norm: dict | None = None
    act_granularity: str = 'tensor'
    attention_granularity: str = 'head'

    def check(self) -> None:
        """Build each quantizer once.

        Raises:
            TypeError, ValueError: If one can not be built.
        """
        for cfg in (self.weight, self.activation, self.attention,
                    self.softmax):
            build_quantizer(cfg, Place())

    def products(self, heads: int) -> tuple[Product, Product]:
        """Of queries and keys, and of the attention map and values.

        Args:
            heads (int): Heads of the attention.
        """
        softmax = self.softmax
        if softmax is None and self.attention is not None:
            softmax = {**self.attention, 'signed': False}
        scales = heads if self.attention_granularity == 'head' else None
        return (Product(self.attention, self.attention,
                        scales), Product(softmax, self.attention, scales))

    def swap(self, layer: nn.Module) -> None:
        """Turn a float layer into a quantized one, in place.

        Args:
            layer (nn.Module): Linear layer or convolution.

        Raises:
            TypeError: If there is no quantized class for it.
        """
        from .swap import quantized_class
        quantized_class(layer).swap(layer, self.weight, self.activation,
                                    self.act_granularity)
