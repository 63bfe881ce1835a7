"""A LayerNorm and the packed linear layer that alone reads it."""
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import InferenceRule
from .integer_layers import PackedIntegerLinear


class PackedNormLinear(PackedIntegerLinear):
    """Linear layer of integers behind a LayerNorm, which hands it codes.

    See :func:`mmcompress.ops.layer_norm_codes`.

    Args:
        rule, scale, bias: As of :class:`PackedIntegerLinear`. The scale of
            the input is a constant, and it has no real offset.
        norm (nn.LayerNorm): Over the last dimension, with weight and bias.
    """

    def __init__(self, rule: InferenceRule, scale: Tensor, bias: Tensor | None,
                 norm: nn.LayerNorm) -> None:
        super().__init__(rule, scale, bias)
        self.eps = norm.eps
        for name in ('weight', 'bias'):
            vector = getattr(norm, name).detach().float().clone()
            self.register_buffer(f'norm_{name}', vector)

    def record(self) -> tuple:
        """What a file of another architecture differs in."""
        return (*super().record(), self.eps)

    def impossible(self, stored: dict[str, Tensor]) -> str | None:
        """Those of the linear layer, and a norm that is not finite."""
        for name in ('norm_weight', 'norm_bias'):
            if not stored[name].isfinite().all():
                return f'{name} has infinite values'
        return super().impossible(stored)

    def codes(self, x: Tensor) -> Tensor:
        """Normalize to what the linear layer takes.

        Args:
            x (Tensor): Real-valued, shape (..., C).

        Returns:
            Tensor: uint8, of the same shape.
        """
        own = self._buffers
        engine, _ = self.blob
        return engine.layer_norm_codes(x.float(), own['norm_weight'],
                                       own['norm_bias'], own['input_scale'],
                                       self.eps, self._grid)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize, and compute the layer.

        Args:
            x (Tensor): Real-valued, shape (..., C); or what :meth:`codes`
                returns.

        Returns:
            Tensor: Shape (..., K), in the dtype of ``x``; float32 for codes.
        """
        self.check_input(x)
        scale = self._buffers['input_scale']
        if x.dtype == torch.uint8:
            return self._multiply(x, scale)
        return self._multiply(self.codes(x), scale).to(x.dtype)
