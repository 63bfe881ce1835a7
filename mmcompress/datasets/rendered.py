"""Datasets of mm libraries on data that is rendered when first asked for."""
from pathlib import Path

from torch.utils.data import Dataset

from mmcompress.cache import cache_folder
from mmcompress.registry import DATASETS
from .captions import MiniCaptions
from .classification import MiniClassification
from .detection import MiniDetection
from .manifest import ensure_folder
from .point_clouds import MiniPointClouds
from .pose import MiniPose
from .segmentation import MiniSegmentation

_TASKS = dict(
    detection=MiniDetection,
    classification=MiniClassification,
    segmentation=MiniSegmentation,
    pose=MiniPose,
    point_clouds=MiniPointClouds,
    captions=MiniCaptions)


def ensure_mini_data(task: str = 'detection', **settings) -> Path:
    """Render the mini data unless it is there.

    Args:
        task (str): What the data is for: ``'detection'``,
            ``'classification'``, ``'segmentation'``, ``'pose'``,
            ``'point_clouds'`` or ``'captions'``.
        **settings: Arguments of the task's class, such as ``num_train``.

    Returns:
        Path: The folder, inside the cache folder.
    """
    if task not in _TASKS:
        raise ValueError(f'task must be one of {sorted(_TASKS)}, got {task!r}')
    data = _TASKS[task](**settings)
    folder = cache_folder() / 'mini' / data.name
    return ensure_folder(folder, data.settings, data.write)


def _fill_in(dataset: dict, defaults: dict) -> dict:
    """A copy in which the innermost datasets have all keys of defaults."""
    dataset = dataset.copy()
    # mm wrappers: RepeatDataset, MultiImageMixDataset, ... or ConcatDataset
    if 'dataset' in dataset:
        dataset['dataset'] = _fill_in(dataset['dataset'], defaults)
    elif 'datasets' in dataset:
        dataset['datasets'] = [
            _fill_in(inner, defaults) for inner in dataset['datasets']
        ]
    else:
        for key, value in defaults.items():
            dataset.setdefault(key, value)
    return dataset


@DATASETS.register_module()
def Rendered(dataset: dict,
             task: str = 'detection',
             settings: dict | None = None,
             pipeline: list | None = None,
             lazy_init: bool = False) -> Dataset:
    """Build a dataset of an mm library on our mini data.

    The data is rendered first, if it is not in the cache folder. Then
    ``dataset`` is built as if it stood in the place of this function, so its
    type is looked up in the caller's default scope; what is returned is the
    mm dataset itself. Keys that the dataset doesn't have are filled in:
    ``data_root`` with the folder of the data, ``metainfo`` with its classes.

    Args:
        dataset (dict): Config of the dataset, or of a wrapper such as
            ``RepeatDataset`` around it. Its paths are relative to the data's
            folder.
        task (str): What the data is for: ``'detection'``,
            ``'classification'``, ``'segmentation'``, ``'pose'``,
            ``'point_clouds'`` or ``'captions'``.
        settings (dict, optional): Arguments of the task's class, such as
            ``num_train``.
        pipeline (list, optional): The dataset's pipeline, if the dataset
            itself has none. Inferencers of mm libraries look for it here.
        lazy_init (bool): As in mm datasets; some mm functions set it here.

    Returns:
        Dataset: What the config ``dataset`` describes.
    """
    settings = settings or {}
    folder = ensure_mini_data(task, **settings)
    defaults = dict(
        data_root=str(folder), metainfo=_TASKS[task](**settings).metainfo)
    if pipeline is not None:
        defaults['pipeline'] = pipeline
    dataset = _fill_in(dataset, defaults)
    if lazy_init:
        dataset['lazy_init'] = True
    return DATASETS.build(dataset)
