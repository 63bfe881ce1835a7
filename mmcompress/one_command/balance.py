"""Weights of distillation losses, by the gradients at the start."""
import copy
import inspect
import os.path as osp
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from mmcompress.data_paths import check_data_paths
from mmcompress.distill.attached import distiller_of
from mmcompress.distill.distiller import Slot
from mmcompress.distill.taps import tensors_of
from mmcompress.model.checkpoint import (fill, is_plain, read_checkpoint,
                                         weights_of)
from mmcompress.model.data import training_data
from mmcompress.model.loader import build_loader
from mmcompress.registry import MODELS as OURS

# How hard a loss may pull, of what the task's own losses do: between these
# its default weights stay. On the mini RetinaNet, at the student's shared
# parameters before the first step, FGD's defaults pull 6 to 13 times as hard
# as the task, PKD's 0.5 to 0.8 times. What gained there pulled harder: PKD
# 8 times, FGD 60 times (docs/benchmarks/mini.md, weights times 10). On
# another data set of one class FGD gained with its defaults and lost with
# ten times these, so the task keeps a tenth.
LEAST, MOST = 1 / 3, 10.0
# factors up to this, or down to one by it, are left at 1
NEAR = 1.5


@dataclass(frozen=True)
class Balanced:
    """How hard a distillation loss pulls, beside the task's own losses.

    Attributes:
        loss (str): Its name.
        gradient (float): Norm of its gradient at the student's parameters
            that both it and the task reach; mean over batches. With a
            schedule, when its factor is largest.
        task_gradient (float): That of the student's own losses there.
        factor (float): What its weights are to be multiplied by; 1 leaves
            them.
        remark (str): Why the factor is 1 although the norms differ; empty
            where there is nothing to say.
    """
    loss: str
    gradient: float
    task_gradient: float
    factor: float
    remark: str = ''

    def sentence(self) -> str:
        """In words, for a log."""
        if self.remark:
            return f'{self.loss}: {self.remark}; its weight stays'
        ratio = self.gradient / self.task_gradient
        done = 'its weight stays'
        if self.factor != 1:
            done = (f'its weight times {self.factor:.2g}, so that it pulls '
                    f'{ratio * self.factor:.2g} times as hard')
        return (f'{self.loss} pulls {ratio:.2g} times as hard as the '
                f"student's own losses: {done}")


# ---- The model and its batches ---------------------------------------------


@contextmanager
def _kept_random_states() -> Iterator[None]:
    """Random numbers that are drawn inside are not missed outside."""
    states = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _seed(cfg: Config) -> int:
    seed = (cfg.get('randomness') or {}).get('seed') or 0
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed


def _build(cfg: Config, metainfo: Any, device: str) -> nn.Module:
    """The model as training would begin with it."""
    settings = copy.deepcopy(dict(cfg.model))
    if 'data_preprocessor' in cfg:
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(settings)
    distiller = distiller_of(model)
    if distiller is None:
        raise ValueError('balance: the config\'s model is '
                         f'{settings.get("type")}, and has no distillation '
                         'losses to weigh: give one of mmcompress.Distill')
    if distiller.teacher is not None:
        if cfg.filename:
            folder = osp.dirname(osp.abspath(cfg.filename))
            distiller.teacher.config_dir = folder
        distiller.teacher.student_data = training_data(cfg, metainfo)
    distiller.weight_check = None
    model.to(device)
    model.init_weights()
    if cfg.get('load_from'):
        fill(model, weights_of(read_checkpoint(cfg.load_from)))
    return model.train()


def _loader(cfg: Config, seed: int) -> Iterable:
    """Training batches, in one process."""
    loader = cfg.get('train_dataloader')
    if not loader:
        raise ValueError('balance: the config has no `train_dataloader`')
    check_data_paths(cfg, ['train_dataloader'])
    loader = dict(loader, num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    return build_loader(cfg, loader, seed)


# ---- Gradients -------------------------------------------------------------


def _total(losses: dict[str, Any]) -> Tensor | None:
    """Sum of what mmengine adds up and what has a gradient."""
    terms = [
        tensor.mean() for name, loss in losses.items() if 'loss' in name
        for tensor in tensors_of(loss) if tensor.requires_grad
    ]
    return sum(terms) if terms else None


def _gradients(losses: dict, parameters: list[Tensor]) -> list[Tensor | None]:
    total = _total(losses)
    if total is None:
        return [None] * len(parameters)
    return list(
        torch.autograd.grad(
            total, parameters, retain_graph=True, allow_unused=True))


def _norms(own: list, task: list) -> tuple[float, float]:
    """Norms of two gradients, over the parameters that both reach."""
    both = [(a, b) for a, b in zip(own, task)
            if a is not None and b is not None]
    sums = [
        sum(
            float(pair[side].detach().double().square().sum())
            for pair in both) for side in (0, 1)
    ]
    return sums[0]**0.5, sums[1]**0.5


def _of_slot(losses: dict, name: str) -> dict:
    return {
        key: value
        for key, value in losses.items()
        if key == name or key.startswith(f'{name}.')
    }


def _step(model: nn.Module, batch: dict,
          names: list[str]) -> dict[str, tuple[float, float]]:
    """Norms of each loss and of the task in one batch."""
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss')
    parameters = [
        p for name, p in model.named_parameters()
        if p.requires_grad and is_plain(name)
    ]
    own = {name: _of_slot(losses, name) for name in names}
    taken = {key for entries in own.values() for key in entries}
    task = _gradients({
        k: v
        for k, v in losses.items() if k not in taken
    }, parameters)
    return {
        name: _norms(_gradients(entries, parameters), task)
        for name, entries in own.items()
    }


def _peak(slot: Slot) -> float:
    """Largest factor of a loss's schedule."""
    points = getattr(slot.schedule, 'points', None)
    return max((factor for _, factor in points), default=1) if points else 1


def _balanced(name: str, norms: list[tuple[float, float]], peak: float,
              least: float, most: float) -> Balanced:
    own, task = (mean(values) for values in zip(*norms))
    own *= peak
    remark = ''
    if not (isfinite(own) and isfinite(task)):
        remark = 'its gradient, or that of the task, is not finite'
    elif not own:
        remark = ('it has no gradient at any parameter that the task trains '
                  'as well')
    elif not task:
        remark = "the student's own losses have no gradient where it pulls"
    if remark:
        return Balanced(name, own, task, 1.0, remark)
    ratio = own / task
    factor = min(max(ratio, least), most) / ratio
    if 1 / NEAR <= factor <= NEAR:
        factor = 1.0
    return Balanced(name, own, task, factor)


def balance(cfg: Config,
            batches: int = 4,
            progress: Callable[[Iterable], Iterable] = iter,
            least: float = LEAST,
            most: float = MOST,
            device: str = 'cpu') -> list[Balanced]:
    """Compare the gradients of distillation losses with the task's.

    The model is built and loaded as training would begin with it, sees some
    training batches, and is thrown away: nothing is trained, and random
    numbers go on as if nothing had been. Schedules of the losses count with
    their largest factor.

    Args:
        cfg (Config): Whole config, whose model is ``mmcompress.Distill``.
        batches (int): How many training batches to look at.
        progress (Callable): Wraps what is iterated over.
        least (float): What a loss is to pull at least, of what the task
            does. One that does less gets the factor that brings it there.
        most (float): What it may pull at most; likewise.
        device (str): Where to compute.

    Returns:
        list[Balanced]: One of each loss, in the config's order.

    Raises:
        ValueError: If there is no distillation or no training data, or
            ``batches`` is not positive or ``0 < least <= most`` is not so.
    """
    if batches < 1 or not 0 < least <= most:
        raise ValueError('balance: batches must be positive and 0 < least <= '
                         f'most, got {batches}, {least} and {most}')
    with _kept_random_states(), \
            DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        loader = _loader(cfg, _seed(cfg))
        metainfo = getattr(loader.dataset, 'metainfo', None)
        model = _build(cfg, metainfo, device)
        distiller = distiller_of(model)
        slots = {slot.name: slot for slot in distiller._slots}
        peaks = {name: _peak(slot) for name, slot in slots.items()}
        for slot in slots.values():
            slot.schedule = None
        steps = [
            _step(model, batch, list(slots))
            for batch in progress(list(islice(loader, batches)))
        ]
    if not steps:
        raise ValueError('balance: the training data gives no batch')
    return [
        _balanced(name, [step[name]
                         for step in steps], peaks[name], least, most)
        for name in slots
    ]


# ---- New weights -----------------------------------------------------------


def _weights(loss: dict) -> dict[str, float]:
    """Arguments that weigh a loss as a whole, with their values."""
    with OURS.switch_scope_and_registry('mmcompress') as registry:
        cls = registry.get(loss['type'])
    arguments = inspect.signature(cls).parameters
    return {
        name: loss.get(name, arguments[name].default)
        for name in cls.weight_names if name in arguments
    }


def _rounded(value: float) -> float:
    return float(f'{value:.3g}')


def _weighed(name: str, loss: dict, factor: float) -> dict:
    loss = copy.deepcopy(dict(loss))
    weights = _weights(loss)
    schedule = loss.get('schedule')
    if weights:
        loss.update({k: _rounded(v * factor) for k, v in weights.items()})
    elif not schedule:
        loss['schedule'] = dict(
            type='mmcompress.PiecewiseLinear', points=[[0, _rounded(factor)]])
    elif 'points' in schedule:
        schedule['points'] = [[at, _rounded(value * factor)]
                              for at, value in schedule['points']]
    else:
        raise ValueError(
            f'losses.{name}: {loss["type"]} has no weight, and its schedule '
            f'({schedule["type"]}) no points to multiply by {factor:.3g}')
    return loss


def apply(losses: dict[str, dict], balanced: list[Balanced]) -> dict:
    """Losses with their weights multiplied by the factors.

    A loss without a weight of its own gets a constant schedule.

    Args:
        losses (dict[str, dict]): As ``mmcompress.Distill`` takes them; not
            changed.
        balanced (list[Balanced]): What :func:`balance` gave.

    Raises:
        KeyError: If one is of no loss.
        ValueError: If nothing of a loss can be multiplied.
    """
    factors = {b.loss: b.factor for b in balanced}
    if unknown := set(factors) - set(losses):
        raise KeyError(f'no loss {", ".join(sorted(unknown))} among '
                       f'{", ".join(losses)}')
    return {
        name:
        copy.deepcopy(dict(loss)) if factors.get(name, 1.0) == 1.0 else
        _weighed(name, loss, factors[name])
        for name, loss in losses.items()
    }
