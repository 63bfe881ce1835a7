"""Images per second, as token merging is measured officially."""
import copy
from collections.abc import Callable

import torch
import torch.nn as nn
from mmengine.config import Config

from .complexity import count_macs

RUNS, THROWN_OUT = 40, 0.25


@torch.no_grad()
def throughput(model: nn.Module,
               batch: dict,
               clock: Callable[[], float],
               runs: int = RUNS,
               dtype: torch.dtype = torch.float32) -> float:
    """Images per second of one batch that runs again and again.

    The first quarter of the runs does not count; the clock is read before and
    after the others, not in between.

    Source: Bolya et al., Token Merging (ICLR 2023), the utility of the
    official code.

    Args:
        model (nn.Module): A model of an mm library, in eval mode.
        batch (dict): Preprocessed; the model runs in mode ``'tensor'``.
        clock (Callable): Gives seconds; waits for the device first.
        runs (int): How many.
        dtype (torch.dtype): Half precision is autocast to.
    """
    first = int(runs * THROWN_OUT)
    with torch.autocast(batch['inputs'].device.type, dtype,
                        enabled=dtype != torch.float32):  # yapf: disable
        for i in range(runs):
            if i == first:
                start = clock()
            model(**batch, mode='tensor')
        seconds = clock() - start
    return (runs - first) * len(batch['inputs']) / seconds


def gmacs(model: nn.Module, batch: dict) -> float:
    """Billions of multiply-accumulates of one image."""
    macs = sum(counter.total()
               for counter in count_macs(model, batch).values())
    return macs / len(batch['inputs']) / 1e9


def without_merging(cfg: Config) -> Config | None:
    """The config of the same model with all of its tokens.

    Args:
        cfg (Config): Whole config.

    Returns:
        Config | None: None if nothing merges.
    """
    dense = copy.deepcopy(cfg)
    return dense if _drop(dense.model) else None


def _drop(model: dict) -> bool:
    """Drop steps that merge, in the model and in those within; if any."""
    dropped = False
    for key, value in model.items():
        if key == 'steps':
            kept = [s for s in value if not s['type'].endswith('MergeTokens')]
            dropped |= len(kept) < len(value)
            model[key] = kept
        elif isinstance(value, dict):
            dropped |= _drop(value)
    return dropped
