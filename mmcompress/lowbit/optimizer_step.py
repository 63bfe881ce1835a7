"""Call layers just before an optimizer uses their gradients.

Some 1-bit methods keep state from one optimizer step to the next, or add a
gradient that does not come from the loss. A forward or a backward is the
wrong moment for both: there are several per step under gradient accumulation
and activation checkpointing, and gradients are scaled under AMP and not yet
averaged under DDP. Right before the step, all that is settled.
"""
import sys
from functools import cache
from types import FrameType
from weakref import WeakSet

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

_layers: WeakSet[nn.Module] = WeakSet()


def _is_nested(step: FrameType) -> bool:
    """Whether a step is part of another one.

    Optimizers that wrap others step inside of a step. Only the stack knows
    for sure: a step that is interrupted never says that it ended.

    Args:
        step (FrameType): The frame of torch's wrapper around a step.
    """
    frame = step.f_back
    while frame is not None and frame.f_code is not step.f_code:
        frame = frame.f_back
    return frame is not None


def _before_step(optimizer: Optimizer, *args) -> None:
    # a fused optimizer unscales by itself, and skips infinite gradients
    if getattr(optimizer, 'found_inf', None) or _is_nested(sys._getframe(1)):
        return
    stepped = {
        id(parameter)
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    for layer in list(_layers):
        if id(layer.weight) in stepped and layer.weight.grad is not None:
            _call(layer, getattr(optimizer, 'grad_scale', None))


@torch.no_grad()
def _call(layer: nn.Module, scale: Tensor | None) -> None:
    """Call a layer while its gradients are divided by the scale."""
    if scale is None:
        layer.before_step()
        return
    grads = [p.grad for p in layer.parameters() if p.grad is not None]
    torch._foreach_div_(grads, scale)
    try:
        layer.before_step()
    finally:
        torch._foreach_mul_(grads, scale)


@cache
def _listen_to_optimizers() -> None:
    register_optimizer_step_pre_hook(_before_step)


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
        layer (nn.Module): With a ``weight`` and a method ``before_step()``; or
            another object with these and ``parameters()``, which is what is
            unscaled meanwhile, if need be.
    """
    _listen_to_optimizers()
    _layers.add(layer)


def add_gradient(parameter: nn.Parameter, gradient: Tensor) -> None:
    """Add to the gradient of a parameter, unless it is not trained."""
    if parameter.grad is not None:
        parameter.grad += gradient
