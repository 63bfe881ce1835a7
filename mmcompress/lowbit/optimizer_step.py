"""Call layers just before an optimizer uses their gradients.

Some 1-bit methods keep state from one optimizer step to the next, or add a
gradient that does not come from the loss. A forward or a backward is the
wrong moment for both: there are several per step under gradient accumulation
and activation checkpointing, and gradients are scaled under AMP and not yet
averaged under DDP. Right before the step, all that is settled.
"""
from functools import cache
from weakref import WeakSet

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim.optimizer import (Optimizer,
                                   register_optimizer_step_post_hook,
                                   register_optimizer_step_pre_hook)

_layers: WeakSet[nn.Module] = WeakSet()
# optimizers that wrap others step inside of a step
_stepping: WeakSet[Optimizer] = WeakSet()


@torch.no_grad()
def _before_step(optimizer: Optimizer, *args) -> None:
    nested = any(other is not optimizer for other in _stepping)
    # a fused optimizer unscales by itself, and skips infinite gradients
    if nested or getattr(optimizer, 'found_inf', None):
        return
    _stepping.add(optimizer)
    scale = getattr(optimizer, 'grad_scale', None)
    stepped = {
        id(parameter)
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    for layer in list(_layers):
        if id(layer.weight) not in stepped or layer.weight.grad is None:
            continue
        grads = [p.grad for p in layer.parameters() if p.grad is not None]
        if scale is not None:
            torch._foreach_div_(grads, scale)
        layer.before_step()
        if scale is not None:
            torch._foreach_mul_(grads, scale)


def _after_step(optimizer: Optimizer, *args) -> None:
    _stepping.discard(optimizer)


@cache
def _listen_to_optimizers() -> None:
    register_optimizer_step_pre_hook(_before_step)
    register_optimizer_step_post_hook(_after_step)


def call_before_step(layer: nn.Module) -> None:
    """Have ``layer.before_step()`` called before each step of its weight.

    It is called without autograd, by every optimizer of PyTorch that holds
    ``layer.weight``, when the gradients are final: accumulated, reduced over
    processes, unscaled and clipped. It is not called when AMP skips the step,
    nor when the weight has no gradient. Optimizers that hold something else
    than the layer's parameters, as those of FSDP and DeepSpeed, don't call it.

    The layer has to call this again in ``__setstate__``: copies and unpickled
    modules are not constructed.

    Args:
        layer (nn.Module): With a ``weight`` and a method ``before_step()``.
    """
    _listen_to_optimizers()
    _layers.add(layer)


def add_gradient(parameter: nn.Parameter, gradient: Tensor) -> None:
    """Add to the gradient of a parameter, unless it is not trained."""
    if parameter.grad is not None:
        parameter.grad += gradient
