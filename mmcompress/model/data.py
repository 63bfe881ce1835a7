"""What the data of a config hands to its model, read from the config."""
import os.path as osp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmengine.config import Config

# data sets that hold arrays instead of names of files
_ARRAYS = dict(CIFAR10='rgb', CIFAR100='rgb')
# mmcv turns what any decoder gives to BGR, but for TIFF
_FILE_LOADERS = ('LoadImageFromFile', 'LoadImage')
_LOADERS = ('train_dataloader', 'test_dataloader', 'val_dataloader')
# what flips the channels, by the option that makes it do so, and its default
_FLIPPING = dict(
    NumpyToPIL=('to_rgb', False),
    ToPIL=('to_rgb', False),
    PILToNumpy=('to_bgr', False),
    ToNumpy=('to_bgr', False),
    Normalize=('to_rgb', True))
OPPOSITE = dict(rgb='bgr', bgr='rgb')


def name_of(cfg: Mapping) -> str:
    """Name of a transform's or dataset's class, without its library."""
    kind = cfg.get('type')
    kind = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return kind.rpartition('.')[2].rpartition('/')[2]


def _inner(dataset: Mapping) -> list:
    """Datasets inside of a wrapper."""
    inner = dataset.get('dataset', dataset.get('datasets', []))
    return list(inner) if isinstance(inner, (list, tuple)) else [inner]


def dataset_of(cfg: Mapping, loaders: Sequence[str] = _LOADERS) -> dict:
    """Config of the first dataset that a config has; empty without one.

    Args:
        cfg (Mapping): Whole config.
        loaders (Sequence[str]): Keys of the data loaders to look for.
    """
    for key in loaders:
        loader = cfg.get(key) or {}
        loader = loader[0] if isinstance(loader, (list, tuple)) else loader
        if isinstance(loader.get('dataset'), Mapping):
            return loader['dataset']
    return {}


def pipeline_of(dataset: Mapping) -> list[dict]:
    """Transforms of a dataset, in the order in which they run.

    Of datasets in each other, such as ``mmcompress.Rendered`` around a plain
    one, the inner one's come first; of several, those of the first.
    """
    inner = [d for d in _inner(dataset) if isinstance(d, Mapping)]
    first = pipeline_of(inner[0]) if inner else []
    own = list(dataset.get('pipeline') or [])
    # which hands its own to a data set that has none
    return first or own if name_of(dataset) == 'Rendered' else first + own


def place_of(dataset: Mapping) -> str:
    """Which data a dataset reads, as ``'CocoDataset data/annotations.json'``.

    Args:
        dataset (Mapping): Config of a dataset; of several in each other, the
            innermost counts, of those beside each other the first.
    """
    while inner := [d for d in _inner(dataset) if isinstance(d, Mapping)]:
        dataset = inner[0]
    file = dataset.get('ann_file')
    prefix = dataset.get('data_prefix') or ''
    if isinstance(prefix, Mapping):
        prefix = next(iter(prefix.values()), '')
    parts = [dataset.get('data_root'), file or prefix]
    path = osp.join('', *(p for p in parts if isinstance(p, str)))
    return f'{name_of(dataset)} {path}'.strip()


def _only(values: set) -> str | None:
    """The value that all have."""
    return values.pop() if len(values) == 1 else None


def _order_after(order: str | None, transforms: Sequence) -> str | None:
    """Order of the channels after transforms."""
    for transform in transforms:
        if not isinstance(transform, Mapping):
            continue
        name = name_of(transform)
        inner = transform.get('transforms')
        if name in _FILE_LOADERS:
            tiff = transform.get('imdecode_backend') == 'tifffile'
            order = transform.get('channel_order', 'rgb' if tiff else 'bgr')
        elif name in _FLIPPING:
            option, default = _FLIPPING[name]
            if transform.get(option, default):
                order = OPPOSITE.get(order)
        elif inner and isinstance(inner, (list, tuple)):
            # views or choices, each with transforms of its own
            lists = isinstance(inner[0], (list, tuple))
            order = _only({
                _order_after(order, branch)
                for branch in (inner if lists else [inner])
            } | ({order} if 'prob' in transform else set()))
        elif ('Load' in name and 'Image' in name or 'rgb' in name.lower()
              or 'bgr' in name.lower()):
            # not one of the libraries' that keep the order
            order = None
    return order


def _order_of(dataset: Mapping) -> str | None:
    order = _ARRAYS.get(name_of(dataset))
    inner = [d for d in _inner(dataset) if isinstance(d, Mapping)]
    if inner:
        order = _only({_order_of(d) for d in inner})
    return _order_after(order, dataset.get('pipeline') or [])


def channel_order(cfg: Config) -> str | None:
    """In which order a config's data has the channels of its images.

    Image files are read as BGR; the arrays of CIFAR are RGB; transforms may
    change it.

    Args:
        cfg (Config): Whole config.

    Returns:
        str | None: ``'rgb'`` or ``'bgr'``, as the data preprocessor gets
        them; None where the config doesn't say.
    """
    return _order_of(dataset_of(cfg))


def class_names(metainfo: Mapping) -> list[str] | None:
    """Names of what a data set knows: classes, or keypoints of poses.

    Args:
        metainfo (Mapping): Of a data set, or what a checkpoint has of it.
    """
    for key in ('classes', 'CLASSES', 'keypoint_id2name'):
        names = metainfo.get(key)
        if isinstance(names, Mapping):
            names = [names[i] for i in sorted(names)]
        if names is not None and len(names) and not isinstance(names, str):
            return [str(name) for name in names]
    return None


def normalization(cfg: Config) -> tuple | None:
    """Means and standard deviations by which a config's pipeline normalizes.

    Args:
        cfg (Config): Whole config.

    Returns:
        tuple | None: Usually empty, since data preprocessors do it. None
        where the config has no data.
    """
    dataset = dataset_of(cfg)
    if not dataset:
        return None
    return tuple((tuple(t.get('mean', ())), tuple(t.get('std', ())))
                 for t in pipeline_of(dataset)
                 if isinstance(t, Mapping) and name_of(t) == 'Normalize')


@dataclass(frozen=True)
class TrainingData:
    """What a model was, or is, trained on, as far as that is known.

    Attributes:
        channel_order (str | None): See :func:`channel_order`.
        normalization (tuple | None): See :func:`normalization`.
        classes (tuple[str] | None): Names in the order of the labels.
    """
    channel_order: str | None = None
    normalization: tuple | None = None
    classes: tuple[str, ...] | None = None


def training_data(cfg: Config,
                  metainfo: Mapping | None = None) -> TrainingData:
    """What a config says of its data.

    Args:
        cfg (Config): Whole config.
        metainfo (Mapping | None): Of the data set, once it is built.
    """
    names = class_names(metainfo or {})
    return TrainingData(
        channel_order(cfg), normalization(cfg), names and tuple(names))
