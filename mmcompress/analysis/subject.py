"""The model that an analysis is about: from its config, with an input."""
from collections.abc import Sequence
from dataclasses import replace

import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmcompress.model.checkpoint import fill, plain_weights, read_checkpoint
from mmcompress.model.config import build_untrained, read_config
from mmcompress.model.inputs import default_size, made_up_batch

__all__ = [
    'build_subject', 'image_size', 'load_weights', 'noise_batch',
    'read_config', 'test_pipeline'
]


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
            f'{type(model).__name__}: {fit}')
    return loaded


def build_subject(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build a config's model for inference.

    What a distillation config trains is its student; that is what is built.

    Args:
        cfg (Config): See :func:`read_config`.
        checkpoint (str | None): Its weights; None for random ones.
    """
    model = build_untrained(cfg)
    if checkpoint is not None:
        load_weights(model, checkpoint)
    return model.eval().requires_grad_(False)


def test_pipeline(cfg: Config) -> list[dict]:
    """Transforms of the dataset that a config tests on; none without one.

    Of datasets in each other, such as ``mmcompress.Rendered`` around a plain
    one, the innermost that has any decides.
    """
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    pipeline = dataset.get('pipeline', [])
    while 'dataset' in dataset:
        dataset = dataset['dataset']
        pipeline = dataset.get('pipeline', pipeline)
    return pipeline


def image_size(cfg: Config, model: nn.Module) -> tuple[int, int]:
    """Height and width of the images that a config tests on.

    It is what the test pipeline crops or resizes to; where images keep their
    ratio, the largest that comes out, lying. Of point clouds, it is
    coordinates and number of points.

    Args:
        cfg (Config): Whole config.
        model (nn.Module): Its model, asked where the pipeline doesn't say.
    """
    size = None
    for transform in test_pipeline(cfg):
        kind = transform['type'].rpartition('.')[2]
        if kind == 'CenterCrop':
            size = transform['crop_size']
        elif kind == 'LoadPoints':
            size = 3, transform['num_points']
        elif kind == 'Resize' and isinstance(transform.get('scale'), Sequence):
            width, height = transform['scale']
            size = height, width
            if transform.get('keep_ratio'):
                size = sorted(size)
    if size is None:
        return default_size(model, cfg.get('default_scope'))
    return (size, size) if isinstance(size, int) else tuple(size)


def noise_batch(cfg: Config,
                model: nn.Module,
                size: Sequence[int] | None = None,
                num: int = 1) -> dict:
    """Preprocessed noise, as ``model(**batch, mode=...)`` wants it.

    Args:
        cfg (Config): Whole config.
        model (nn.Module): Its model.
        size (Sequence[int] | None): Height and width; None for
            :func:`image_size`.
        num (int): Number of images.
    """
    scope = cfg.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        return made_up_batch(model, scope, size or image_size(cfg, model), num)
