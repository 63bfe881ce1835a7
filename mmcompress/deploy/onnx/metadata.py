"""What a written network says of itself, besides the graph."""
import json
from pathlib import Path
from typing import Any

import torch.nn as nn
from mmengine.config import Config

from mmcompress.model.data import dataset_of
from mmcompress.version import __version__
from .packages import needs

_PREFIX = 'mmcompress.'


def _numbers(tensor: Any) -> list[float] | None:
    return None if tensor is None else tensor.flatten().tolist()


def _input_of(model: nn.Module, size: tuple[int, int]) -> dict:
    """How images have to be prepared."""
    preprocessor = model.data_preprocessor
    swaps = any(
        getattr(preprocessor, name, False)
        for name in ('_channel_conversion', 'channel_conversion', 'to_rgb'))
    return dict(
        layout='NCHW',
        size=list(size),
        channels='RGB' if swaps else 'BGR',
        mean=_numbers(getattr(preprocessor, 'mean', None)),
        std=_numbers(getattr(preprocessor, 'std', None)),
        pad_value=getattr(preprocessor, 'pad_value', 0),
        pad_size_divisor=getattr(preprocessor, 'pad_size_divisor', 1))


def before_preprocessing(described: dict) -> dict:
    """How images have to be, if a file prepares them itself.

    Args:
        described (dict): ``input`` of :func:`metadata_of`.
    """
    # mm libraries load BGR; what they turn is RGB afterwards
    return dict(
        layout='NHWC',
        type='uint8',
        size=described['size'],
        channels='BGR',
        mean=None,
        std=None,
        pad_value=None,
        pad_size_divisor=1)


def _classes(cfg: Config, meta: dict) -> list[str] | None:
    """Names of classes, or of keypoints."""
    stored = meta.get('dataset_meta') or {}
    dataset = dataset_of(cfg, ('test_dataloader', 'val_dataloader')) or {}
    for source in (stored, dataset.get('metainfo') or {}):
        names = source.get('classes') or source.get('CLASSES')
        if names:
            return list(names)
    points = stored.get('keypoint_id2name')
    return list(points.values()) if points else None


def metadata_of(cfg: Config, model: nn.Module, size: tuple[int, int],
                meta: dict) -> dict[str, Any]:
    """What is kept in the file of a model's network.

    Args:
        cfg (Config): Whole config.
        model (nn.Module): Its model.
        size (tuple[int, int]): Height and width of images.
        meta (dict): That of the checkpoint.

    Returns:
        dict[str, Any]: ``version`` of the package; ``config``; ``library``;
        ``model``, its class; ``input``: layout, size, order of channels, mean
        and std to normalise with, padding; ``classes``.
    """
    return dict(
        version=__version__,
        config=Path(cfg.filename).name if cfg.filename else None,
        library=cfg.get('default_scope'),
        model=type(model).__name__,
        input=_input_of(model, size),
        classes=_classes(cfg, meta))


def as_texts(metadata: dict[str, Any]) -> dict[str, str]:
    """Metadata as a file holds it, in JSON."""
    return {
        f'{_PREFIX}{key}': json.dumps(value)
        for key, value in metadata.items()
    }


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read what :func:`metadata_of` and export have put into a file.

    Args:
        path (str | Path): Of an ONNX file.
    """
    model = needs('onnx').load(str(path), load_external_data=False)
    return {
        entry.key.removeprefix(_PREFIX): json.loads(entry.value)
        for entry in model.metadata_props if entry.key.startswith(_PREFIX)
    }
