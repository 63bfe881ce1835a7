"""Turn what taps yield, and preprocessed images, into what one can look at."""
import copy
import os.path as osp
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from torch import Tensor

from mmcompress.distill.distiller import distiller_of
from mmcompress.distill.preprocessing import normalization_of
from mmcompress.model.data import dataset_of, pipeline_of, training_data
from mmcompress.registry import MODELS


def build_distilled(cfg: Config) -> nn.Module:
    """Build a config's student and its teacher, as training does.

    Args:
        cfg (Config): Whole config.

    Raises:
        ValueError: If the config distills nothing.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = MODELS.build(cfg.model)
        distiller = distiller_of(model)
        if distiller is None:
            raise ValueError('the config has no distillation: its model is '
                             f'{cfg.model["type"]}, not mmcompress.Distill')
        if distiller.teacher is not None:
            distiller.teacher.config_dir = osp.dirname(
                osp.abspath(cfg.filename))
            distiller.teacher.student_data = training_data(cfg)
        model.init_weights()
    return model.eval()


def image_batch(cfg: Config, model: nn.Module, image: str) -> dict:
    """Preprocess an image file as the config's test pipeline does.

    Args:
        cfg (Config): Whole config.
        model (nn.Module): Its model.
        image (str): Path of an image.

    Returns:
        dict: ``inputs``, a tensor of shape (1, 3, H, W), and ``data_samples``.
    """
    pipeline = [
        copy.deepcopy(step)
        for step in pipeline_of(dataset_of(cfg, ['test_dataloader']))
        if 'Annotation' not in step['type']
    ]
    data = dict(img_path=image, img_id=0, id=0)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        if cfg.get('default_scope') == 'mmpose':
            data.update(_whole_image_as_person(image))
        return preprocess(model, [Compose(pipeline)(data)])


def _whole_image_as_person(image: str) -> dict:
    from mmcv import imread
    height, width = imread(image).shape[:2]
    return dict(
        bbox=np.array([[0, 0, width, height]], dtype=np.float32),
        bbox_score=np.ones(1, dtype=np.float32))


def preprocess(model: nn.Module, items: list) -> dict:
    """Collate items of a dataset and preprocess them."""
    return model.data_preprocessor(pseudo_collate(items), False)


def pictures(model: nn.Module, inputs: Tensor) -> np.ndarray:
    """Undo the normalization.

    Args:
        model (nn.Module): Whose preprocessor normalized them.
        inputs (Tensor): Shape (N, 3, H, W).

    Returns:
        np.ndarray: RGB in [0, 1], shape (N, H, W, 3).
    """
    mean, std, flips = normalization_of(model.data_preprocessor)
    images = inputs.cpu() * std + mean
    images = images if flips else images.flip(1)
    images = images.permute(0, 2, 3, 1).numpy() / 255
    return images.clip(0, 1)


@torch.no_grad()
def tapped(model: nn.Module, batch: dict) -> dict[str, dict]:
    """What the taps of all losses yield in one forward.

    Args:
        model (nn.Module): From :func:`build_distilled`.
        batch (dict): From :func:`preprocess`.

    Returns:
        dict[str, dict]: ``student`` and ``teacher`` -> name of the loss ->
        what its taps yield.
    """
    distiller = model.distill
    seen = dict(teacher={})
    if distiller.teacher is not None:
        seen['teacher'] = distiller.teacher(batch['inputs'],
                                            batch.get('data_samples'))
    with distiller.taps.record(model) as calls:
        model(**batch, mode='tensor')
    seen['student'] = distiller.taps.select(calls)
    return seen


def feature_maps(value: Any) -> Iterator[Tensor]:
    """Feature maps among what a tap yields, in order.

    Tokens of a transformer become maps: those before the largest square
    number of patches are left out. What has no positions is skipped.

    Args:
        value (Any): Tensors in nested dicts, lists and tuples.

    Yields:
        Tensor: Shape (N, C, H, W).
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from feature_maps(item)
    elif isinstance(value, Tensor) and value.dim() == 4:
        yield value
    elif isinstance(value, Tensor) and value.dim() == 3:
        side = int(value.shape[1]**0.5)
        patches = value[:, value.shape[1] - side**2:]
        yield patches.mT.unflatten(2, (side, side))


def activation(feature: Tensor) -> Tensor:
    """Where a feature is large, relative to its mean.

    Args:
        feature (Tensor): Shape (N, C, H, W).

    Returns:
        Tensor: Mean magnitude over the channels, divided by its mean over the
        positions, shape (N, H, W).
    """
    magnitude = feature.float().abs().mean(1)
    return magnitude / magnitude.mean((1, 2), keepdim=True).clamp(min=1e-12)
