"""Recompute the statistics of batch norms with the weights as they are."""
from collections.abc import Iterable

import torch
import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm


def norm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """The batch norms of a model that keep statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    }


@torch.no_grad()
def reestimate_statistics(model: nn.Module,
                          batches: Iterable[dict]) -> list[str]:
    """Replace running means and variances by averages over batches.

    A batch norm's running statistics lag behind the weights, and belong to
    none where weights were averaged or rounded to signs. Here every batch
    counts alike, and the weights stand still.

    Only the batch norms normalise by the batch, as in training; everything
    else is in eval mode, so nothing but their statistics changes. Layers that
    are not called keep theirs.

    Args:
        model (nn.Module): A model of an mm library; in eval mode afterwards.
        batches (Iterable[dict]): As a data loader gives them.

    Returns:
        list[str]: Names of the layers that were called.

    Raises:
        ValueError: If there is no batch norm, or no batch.
    """
    layers = norm_layers(model)
    if not layers:
        raise ValueError(f'{type(model).__name__} has no batch norm with '
                         'statistics, there is nothing to re-estimate')
    before = {
        name: ({
            k: v.clone()
            for k, v in layer.named_buffers()
        }, layer.momentum)
        for name, layer in layers.items()
    }
    model.eval()
    for layer in layers.values():
        layer.reset_running_stats()
        # the average over all batches
        layer.momentum = None
        layer.train()
    try:
        for batch in batches:
            # neither mixed images nor random sizes
            batch = model.data_preprocessor(batch, False)
            model(**batch, mode='tensor')
    finally:
        called = []
        for name, layer in layers.items():
            buffers, layer.momentum = before[name]
            layer.eval()
            if layer.num_batches_tracked > 0:
                called.append(name)
            else:
                layer.load_state_dict(buffers, strict=False)
    if not called:
        raise ValueError('no batch norm was called: there are no batches')
    return called
