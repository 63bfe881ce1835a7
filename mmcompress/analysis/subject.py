"""The model that an analysis is about: from its config, with an input."""
from collections.abc import Sequence

import torch.nn as nn
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from mmcompress.distill.listing import without_downloads
from mmcompress.distill.made_up_inputs import default_size, made_up_batch
from mmcompress.distill.teacher import build_model


def read_config(config: str, options: dict | None = None) -> Config:
    """Read a config of an mm library or of ours.

    Args:
        config (str): A path, or ``'mmdet::folder/name.py'``.
        options (dict | None): Keys to override.

    Raises:
        ValueError: If it has no model.
    """
    cfg = get_config(config) if '::' in config else Config.fromfile(config)
    cfg.merge_from_dict(options or {})
    if 'model' not in cfg:
        raise ValueError(f'{config} has no key `model`')
    return cfg


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
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    weights = loaded.get('state_dict', loaded)
    # what is left over belongs to a distillation
    missing = model.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise RuntimeError(
            f'{checkpoint} is not of this config: {len(missing)} weights of '
            f'{type(model).__name__} are missing in it, such as '
            f'{", ".join(missing[:3])}')
    return loaded


def build_subject(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build a config's model for inference.

    What a distillation config trains is its student; that is what is built.

    Args:
        cfg (Config): See :func:`read_config`.
        checkpoint (str | None): Its weights; None for random ones.
    """
    model = build_model(cfg)
    without_downloads(model)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model.init_weights()
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
