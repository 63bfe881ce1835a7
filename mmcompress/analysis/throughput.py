"""Images per second, as token merging is measured officially."""
import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn as nn
from mmengine.config import Config

from mmcompress.model.inputs import noise_batch
from .complexity import count_macs
from .subject import build_subject

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


def side_by_side(cfg: Config, checkpoint: str | None,
                 size: Sequence[int] | None, num: int, device: str,
                 **options) -> tuple[list[int], dict]:
    """Operations and speed of a model, and of the same with all its tokens.

    Args:
        cfg (Config): Whole config.
        checkpoint (str | None): None for random weights.
        size (Sequence[int] | None): Of images; None for what the config
            tests on.
        num (int): Images in a batch.
        device (str): As for torch.
        **options: Of :func:`throughput`.

    Returns:
        tuple[list[int], dict]: Shape of the batch; by name, billions of
        multiply-accumulates of one image, and images per second.
    """
    costs = {}
    configs = {'as configured': cfg, 'with all tokens': without_merging(cfg)}
    for name, one in configs.items():
        if one is None:
            continue
        model = build_subject(one, checkpoint).to(device)
        batch = noise_batch(one, model, size, num)
        macs = sum(c.total() for c in count_macs(model, batch).values())
        costs[name] = macs / num / 1e9, throughput(model, batch, **options)
    return list(batch['inputs'].shape), costs
