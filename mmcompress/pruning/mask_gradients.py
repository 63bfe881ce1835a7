"""Gradients of masks, from those of the parameters that they multiply."""
from itertools import chain

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import call_before_step
from .masks import UnitMask, masked_units


class MaskGradients:
    """Sums the gradients of all masks of a model, step by step.

    ``mask * (W x + b)`` is homogeneous, so the derivative with respect to a
    mask is ``(<W, dL/dW> + b dL/db) / mask``, summed over the rows that share
    it. Right before an optimizer's step the parameters' gradients are those
    of the whole batch: accumulated, averaged over processes, unscaled. So
    masks need no gradients of their own, and take part in nothing that deals
    with gradients.

    A mask of 0 gets none. A step with gradients that aren't finite counts for
    no mask.

    Args:
        model (nn.Module): With masks.

    Attributes:
        num_steps (int): That were seen.
    """

    def __init__(self, model: nn.Module) -> None:
        self._rows: dict[UnitMask, list[tuple[nn.Module, str]]] = {}
        for units, mask in masked_units(model):
            self._rows.setdefault(mask, []).extend(
                (layer, key) for layer, key, dim, _ in units.slots(model)
                if dim == 0)
        self._derived = None
        self.num_steps = 0
        self._num_dropped = 0
        call_before_step(self)

    def parameters(self) -> list[nn.Parameter]:
        """All that masks multiply."""
        return [
            layer._parameters[key]
            for layer, key in chain.from_iterable(self._rows.values())
        ]

    @property
    def weight(self) -> nn.Parameter:
        """One whose optimizer counts the steps."""
        parameters = self.parameters()
        return next((p for p in parameters if p.grad is not None),
                    parameters[0])

    @property
    def num_dropped(self) -> int:
        """Steps whose gradients were not finite."""
        return int(self._num_dropped)

    @torch.no_grad()
    def derive(self) -> None:
        """Take the gradients as they are now for those of the next step.

        To be called before they are clipped.
        """
        self._derived = [
            self._derivative(mask, rows) for mask, rows in self._rows.items()
        ]

    def before_step(self) -> None:
        """Add the gradients to the sums."""
        if self._derived is None:
            self.derive()
        finite = torch.cat(self._derived).isfinite().all()
        for mask, gradient in zip(self._rows, self._derived):
            mask.gradient += torch.where(finite, gradient, 0)
        self._derived = None
        self.num_steps += 1
        self._num_dropped = self._num_dropped + ~finite

    def _derivative(self, mask: UnitMask, rows: list[tuple[nn.Module,
                                                           str]]) -> Tensor:
        """Derivative with respect to a mask, shape (number of units, )."""
        total = torch.zeros_like(mask.value)
        for layer, key in rows:
            parameter = layer._parameters[key]
            if parameter.grad is not None:
                product = parameter.to(total) * parameter.grad.to(total)
                total.index_add_(
                    0, getattr(layer, f'{key}_unit'),
                    product.flatten(1).sum(1)
                    if product.dim() > 1 else product)
        return torch.where(mask.value > 0, total / mask.value, 0)
