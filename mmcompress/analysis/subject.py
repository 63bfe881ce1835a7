"""The model that an analysis is about: from its config, with an input."""
from dataclasses import replace

import torch.nn as nn
from mmengine.config import Config

from mmcompress.model.checkpoint import fill, plain_weights, read_checkpoint
from mmcompress.model.config import build_untrained
from mmcompress.quantization.quantizer import pass_uninitialized


def load_weights(model: nn.Module, checkpoint: str) -> dict:
    """Fill a model from a checkpoint that has all of its weights.

    Args:
        model (nn.Module): What to fill.
        checkpoint (str): Path or URL.

    Returns:
        dict: The checkpoint as it was read.

    Raises:
        RuntimeError: If weights are missing, or shapes differ.
    """
    loaded = read_checkpoint(checkpoint)
    # what is left over belongs to a distillation
    fit = replace(fill(model, plain_weights(loaded)).but(), left_over=[])
    if str(fit):
        raise RuntimeError(
            f'{checkpoint} is not of this config: it does not fit '
            f'{type(model).__name__}, of which weights are missing in it or '
            f'have other shapes: {fit}')
    return loaded


def build_subject(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build a config's model for inference.

    What a distillation config trains is its student; that is what is built.

    Args:
        cfg (Config): See :func:`mmcompress.model.config.read_config`.
        checkpoint (str | None): Its weights; None for random ones.
    """
    model = build_untrained(cfg)
    if checkpoint is None:
        pass_uninitialized(model)
    else:
        load_weights(model, checkpoint)
    return model.eval().requires_grad_(False)
