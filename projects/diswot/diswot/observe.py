"""What one batch shows of a network that was never trained."""
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.model.config import init_untrained
from .distances import fc_gradient

INITS = ('normal', 'config')
# of modules: their mode, and what mmengine's initialisation changes
_ATTRIBUTES = ('training', '_is_init', 'init_cfg')


@dataclass(frozen=True)
class Observation:
    """What distances are computed from.

    Attributes:
        features (tuple[Tensor, ...]): What the backbone yields, each of shape
            (N, ...); of a classifier the last one alone.
        gradient (Tensor | None): Of the mean cross entropy for the weight of
            the linear classifier, shape (K, C); None without one.
    """
    features: tuple[Tensor, ...]
    gradient: Tensor | None


def seed_of(*parts: object) -> int:
    """A seed that depends on all parts, and on nothing else."""
    text = '/'.join(map(str, parts))
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from a seed; those outside go on as they would have."""
    before = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Give a model back its weights, statistics and modes."""
    attributes = {
        module: {
            k: vars(module)[k]
            for k in _ATTRIBUTES if k in vars(module)
        }
        for module in model.modules()
    }
    values = {
        name: value.detach().clone()
        for name, value in (*model.named_parameters(), *model.named_buffers())
    }
    try:
        yield
    finally:
        for module, before in attributes.items():
            vars(module).update(before)
        with torch.no_grad():
            for name, value in (*model.named_parameters(),
                                *model.named_buffers()):
                value.copy_(values[name])


@torch.no_grad()
def initialize_normal(model: nn.Module, seed: int) -> None:
    """The paper's initialisation: convolutions and linear layers ~ N(0, 1).

    Biases are 0; batch norms scale by 1. Drawn on the CPU, so that a network
    is the same on each device.

    Args:
        model (nn.Module): Changed in place.
        seed (int): Of the numbers.
    """
    generator = torch.Generator().manual_seed(seed % 2**63)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = torch.randn(module.weight.shape, generator=generator)
            module.weight.copy_(weight)
            if module.bias is not None:
                module.bias.zero_()
    reset_norms(model)


@torch.no_grad()
def reset_norms(model: nn.Module) -> None:
    """Let batch norms scale by 1 and forget their statistics."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.reset_parameters()


def initialize_again(model: nn.Module, cfg: Config, seed: int) -> None:
    """The initialisation of the config, whatever the weights were before.

    Args:
        model (nn.Module): Changed in place.
        cfg (Config): Its config.
        seed (int): Of the numbers.
    """
    with seeded(seed):
        for module in model.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()
            if hasattr(module, '_is_init'):
                # mmengine would not do it a second time
                module._is_init = False
        init_untrained(model, cfg)


def _initialize(model: nn.Module, cfg: Config, init: str, seed: int) -> None:
    if init == 'normal':
        initialize_normal(model, seed)
    elif init == 'config':
        initialize_again(model, cfg, seed)
        # mmpretrain's and mmdet's ResNets begin with residual branches that
        # are multiplied by 0, so that depth would not show
        reset_norms(model)
    else:
        raise ValueError(f'init={init!r} is none of {", ".join(INITS)}')


def linear_classifier(model: nn.Module) -> nn.Linear | None:
    """The last layer of mmpretrain's linear heads and heads of ViTs."""
    head = getattr(model, 'head', None)
    for layer in (getattr(head, 'fc', None),
                  getattr(getattr(head, 'layers', None), 'head', None)):
        if isinstance(layer, nn.Linear) and hasattr(head, 'pre_logits'):
            return layer
    return None


def _forward(model: nn.Module, inputs: Tensor,
             labels: Tensor | None) -> Observation:
    features = model.backbone(inputs)
    if isinstance(features, Tensor):
        features = (features, )
    classifier = linear_classifier(model)
    if classifier is None:
        return Observation(tuple(features), None)
    if labels is None:
        return Observation((features[-1], ), None)
    neck = getattr(model, 'neck', None)
    pooled = model.head.pre_logits(
        features if neck is None else neck(features))
    gradient = None
    # heads with several class tokens yield a tuple
    if isinstance(pooled, Tensor):
        gradient = fc_gradient(pooled, classifier(pooled), labels)
    return Observation((features[-1], ), gradient)


def observe(model: nn.Module,
            cfg: Config,
            inputs: Tensor,
            labels: Tensor | None = None,
            init: str = 'normal',
            seed: int = 0) -> Observation:
    """Initialise a model anew, look at one batch, and put everything back.

    Batch norms use the statistics of the batch, also where the config freezes
    them. No gradient is computed, no hook registered, and no automatic mixed
    precision is used, in which weights ~ N(0, 1) would overflow.

    Args:
        model (nn.Module): Of an mm library, in float32.
        cfg (Config): Its config, for ``init='config'``.
        inputs (Tensor): Preprocessed, shape (N, 3, H, W).
        labels (Tensor | None): Classes, shape (N, ); None where there are
            none, as for detectors, or they are not this model's.
        init (str): ``'normal'``: see :func:`initialize_normal`;
            ``'config'``: the model's own, with batch norms that scale by 1.
        seed (int): Of the initialisation and of what is random in a forward.

    Raises:
        ValueError: If ``init`` is another word, or the model has no backbone.
        FloatingPointError: If features are not finite.
    """
    if is_model_wrapper(model) or not hasattr(model, 'backbone'):
        raise ValueError(f'{type(model).__name__} has no `backbone`, which '
                         'distances look at')
    with left_as_it_was(model), seeded(seed), torch.no_grad(), \
            torch.autocast(inputs.device.type, enabled=False):
        _initialize(model, cfg, init, seed)
        model.train()
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        seen = _forward(model, inputs, labels)
    if not all(f.isfinite().all() for f in seen.features):
        raise FloatingPointError(
            f'the features of {type(model.backbone).__name__} are not finite '
            f'with init={init!r}: weights ~ N(0, 1) suit only networks with '
            "batch norms; use init='config'")
    return seen
