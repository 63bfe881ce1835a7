"""What optimizers do to the parameters of quantizers: no decay, no sign.

Both are asked for where every optimizer of PyTorch passes, so that they hold
whatever tool trains.
"""
from functools import cache
from weakref import WeakSet

import torch
import torch.nn as nn
from torch.optim.optimizer import (Optimizer,
                                   register_optimizer_step_post_hook,
                                   register_optimizer_step_pre_hook)

# scales stay above it
EPS = 1e-8
NO_DECAY = ("optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"
            "'_quant': dict(decay_mult=0.)}))")

_quantizers: WeakSet[nn.Module] = WeakSet()
_checked: WeakSet[Optimizer] = WeakSet()


def _refuse_decay(optimizer: Optimizer, *args) -> None:
    if optimizer in _checked:
        return
    decayed = {
        id(parameter)
        for group in optimizer.param_groups if group.get('weight_decay')
        for parameter in group['params']
    }
    names = [
        f'{quantizer}.{name}' for quantizer in list(_quantizers)
        for name, parameter in quantizer.named_parameters(recurse=False)
        if id(parameter) in decayed
    ]
    if names:
        raise ValueError(
            f'weight decay would shrink {len(names)} parameters of quantizers,'
            f' such as {names[0]}, which have no reason to be small. Write\n  '
            f'{NO_DECAY}\nbeside the weight_decay of the optimizer, or '
            "inherit 'mmcompress::_base_/quantization.py', whose `no_decay` "
            'outdoes shorter keys, such as `backbone`')
    _checked.add(optimizer)


@torch.no_grad()
def _keep_positive(optimizer: Optimizer, *args) -> None:
    stepped = {
        id(parameter)
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    scales = [
        scale for quantizer in list(_quantizers)
        for scale in quantizer.after_step() if id(scale) in stepped
    ]
    if scales:
        torch._foreach_clamp_min_(scales, EPS)


@cache
def _listen_to_optimizers() -> None:
    register_optimizer_step_pre_hook(_refuse_decay)
    register_optimizer_step_post_hook(_keep_positive)


def watch_optimizers(quantizer: nn.Module) -> None:
    """Keep a quantizer's parameters from decay, and its scales positive.

    An optimizer that would decay them raises a ``ValueError`` in its first
    step. Copies and unpickled quantizers have to call this again.

    Args:
        quantizer (nn.Module): Its ``after_step()`` names its scales.
    """
    _listen_to_optimizers()
    _quantizers.add(quantizer)
