"""Training images as a model sees images in testing."""
import copy

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import Dataset, Subset

from mmcompress.data_paths import check_data_paths
from mmcompress.model.loader import build_loader
from .data import dataset_of, name_of, pipeline_of

_TESTING = ('test_dataloader', 'val_dataloader')


def _with_pipeline(dataset: dict, pipeline: list) -> dict:
    """A dataset's config with another pipeline, without what repeats it."""
    name = name_of(dataset)
    if name == 'Rendered':
        inner = _with_pipeline(dataset['dataset'], pipeline)
        return {**dataset, 'dataset': inner, 'pipeline': None}
    if name == 'CombinedDataset':
        # those of its data sets only rename keypoints
        return {**dataset, 'pipeline': pipeline}
    if 'datasets' in dataset:
        inner = [_with_pipeline(d, pipeline) for d in dataset['datasets']]
        return {**dataset, 'datasets': inner}
    if 'dataset' in dataset:
        # repeats, balances or mixes images
        return _with_pipeline(dataset['dataset'], pipeline)
    return {**dataset, 'pipeline': pipeline}


def num_training_images(cfg: Config) -> int:
    """How many images an epoch of a config has, with what repeats them.

    Args:
        cfg (Config): Whole config.

    Raises:
        ValueError: If it has no training data.
        RuntimeError: If they can not be loaded.
    """
    dataset = dataset_of(cfg, ['train_dataloader'])
    if not dataset:
        raise ValueError('the config has no `train_dataloader` with a '
                         'dataset, so it can not be trained')
    check_data_paths(cfg, ['train_dataloader'])
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return len(_build(copy.deepcopy(dataset)))


def _build(dataset: dict) -> Dataset:
    try:
        return DATASETS.build(dataset)
    except Exception as error:
        raise RuntimeError('the training images of the config, '
                           '`train_dataloader.dataset`, can not be loaded: '
                           f'{error}') from error


def _test_loader(cfg: Config) -> dict:
    """Config of the data loader that a config tests with."""
    for key in _TESTING:
        loader = cfg.get(key)
        if loader:
            loader = loader[0] if isinstance(loader, list) else loader
            return copy.deepcopy(dict(loader))
    raise ValueError('the config has neither `test_dataloader` nor '
                     '`val_dataloader`, whose pipeline prepares the images')


def training_images(cfg: Config, num: int, fewer: bool = False) -> list[dict]:
    """Images of the training data, prepared by the test pipeline.

    They are spread evenly over the data, which may be sorted by class, in its
    order; the same ones in each call. Wrappers that repeat images or mix them
    are left out.

    Args:
        cfg (Config): Whole config.
        num (int): How many images.
        fewer (bool): Whether all are taken where the data has fewer.

    Returns:
        list[dict]: Batches, as large as in testing.

    Raises:
        ValueError: If the config lacks data, or has fewer images.
        RuntimeError: If the dataset can not be built, or the test pipeline
            fails on a training image.
    """
    if num < 1:
        raise ValueError(f'at least one image is needed, got {num}')
    dataset = dataset_of(cfg, ['train_dataloader'])
    if not dataset:
        raise ValueError('the config has no `train_dataloader` with a '
                         'dataset, whose images are needed')
    loader = _test_loader(cfg)
    check_data_paths(cfg, ['train_dataloader'])
    pipeline = pipeline_of(dataset_of(cfg, _TESTING))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        built = _build(_with_pipeline(dataset, pipeline))
        num = min(num, len(built)) if fewer else num
        if num > len(built):
            raise ValueError(f'{num} images are asked for, the training data '
                             f'has {len(built)}')
        chosen = torch.linspace(0, len(built) - 1, num).round().int().tolist()
        loader.update(
            dataset=Subset(built, chosen),
            sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
            num_workers=0,
            persistent_workers=False)
        for key in ('batch_sampler', 'drop_last', 'prefetch_factor'):
            loader.pop(key, None)
        try:
            return list(build_loader(cfg, loader))
        except Exception as error:
            raise RuntimeError(
                'the test pipeline of the config fails on images of its '
                f'training data: {error}') from error
