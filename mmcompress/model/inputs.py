"""Inputs for trying a model: noise of the size that its config tests on."""
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from mmengine.structures import PixelData

from mmcompress.datasets.point_preprocessor import PointCloudPreprocessor
from .data import dataset_of, name_of, pipeline_of

# height and width of what these hold
_SIZES = dict(CIFAR10=32, CIFAR100=32, MNIST=28, FashionMNIST=28)


def _image(size: tuple[int, int]) -> torch.Tensor:
    return torch.randint(256, (3, *size), dtype=torch.uint8)


def _detection(model: nn.Module, size: tuple[int, int], num: int) -> dict:
    from mmdet.testing import demo_mm_inputs

    # some models without masks stumble over them
    with_mask = any('mask' in name for name, _ in model.named_modules())
    batch = demo_mm_inputs(
        num, (3, *size),
        num_items=[3] * num,
        num_classes=2,
        with_mask=with_mask,
        with_semantic=True)
    for sample in batch['data_samples']:
        # a label that every model knows
        sample.gt_instances.labels.zero_()
    return batch


def _pose(model: nn.Module, size: tuple[int, int], num: int) -> dict:
    from mmpose.datasets.transforms import PackPoseInputs
    height, width = size
    codec = getattr(model.head, 'decoder', None)
    if codec is None:
        raise ValueError(f'{type(model.head).__name__} has no decoder, so no '
                         'labels can be made up for it')
    num_points = next(
        getattr(model.head, name)
        for name in ('out_channels', 'num_joints', 'num_keypoints')
        if hasattr(model.head, name))
    samples = []
    for i in range(num):
        points = np.random.RandomState(i).rand(1, num_points, 2)
        results = dict(
            img=_image(size).numpy().transpose(1, 2, 0),
            img_shape=size,
            input_size=(width, height),
            input_center=np.array([width, height]) / 2,
            input_scale=np.array([width, height]),
            flip_indices=list(range(num_points)),
            bbox_score=np.ones(1, dtype=np.float32),
            bbox=np.array([[0, 0, width, height]], dtype=np.float32),
            area=np.array([width * height], dtype=np.float32),
            category_id=[1],
            keypoints=(points * (width, height)).astype(np.float32),
            keypoints_visible=np.ones((1, num_points), dtype=np.float32))
        results.update(
            codec.encode(
                results['keypoints'], results['keypoints_visible'],
                **{key: results[key]
                   for key in codec.auxiliary_encode_keys}))
        for table in ('field', 'instance', 'label'):
            table += '_mapping_table'
            if getattr(codec, table):
                results[table] = getattr(codec, table)
        samples.append(PackPoseInputs()(results))
    return pseudo_collate(samples)


def _takes_points(model: nn.Module) -> bool:
    return isinstance(model.data_preprocessor, PointCloudPreprocessor)


def _classification(model: nn.Module, size: tuple[int, int], num: int) -> dict:
    from mmpretrain.structures import DataSample
    make = torch.randn if _takes_points(model) else _image
    samples = [
        DataSample(metainfo=dict(img_shape=size)).set_gt_label(i % 2)
        for i in range(num)
    ]
    if hasattr(model, 'extract_text_feat') or hasattr(model, 'text_backbone'):
        for i, sample in enumerate(samples):
            sample.set_field('a text', 'text', dtype=str)
            sample.set_field(True, 'is_matched')
            sample.set_metainfo(dict(image_id=i))
    return default_collate(
        [dict(inputs=make(size), data_samples=sample) for sample in samples])


def _segmentation(model: nn.Module, size: tuple[int, int], num: int) -> dict:
    from mmseg.structures import SegDataSample
    return pseudo_collate([
        dict(
            inputs=_image(size),
            data_samples=SegDataSample(
                metainfo=dict(img_shape=size, ori_shape=size),
                gt_sem_seg=PixelData(data=torch.randint(2, (1, *size)))))
        for _ in range(num)
    ])


_MAKERS = dict(
    mmdet=_detection,
    mmpose=_pose,
    mmpretrain=_classification,
    mmseg=_segmentation)


def default_size(model: nn.Module, scope: str) -> tuple[int, int]:
    """Height and width of images that a model takes.

    Of point clouds: coordinates and number of points.
    """
    if _takes_points(model):
        return 3, 1024
    if scope == 'mmpose':
        codec = getattr(model.head, 'decoder', None)
        width, height = getattr(codec, 'input_size', (192, 256))
        return int(height), int(width)
    if scope in ('mmpretrain', 'mmseg'):
        # transformers with position embeddings of a fixed size
        names = ('backbone', 'visual', 'vision_backbone')
        backbone = next(
            getattr(model, name) for name in names if hasattr(model, name))
        size = getattr(backbone, 'img_size', 224)
        return (size, size) if isinstance(size, int) else tuple(size)
    return 256, 256


def raw_batch(model: nn.Module, scope: str, size: tuple[int, int],
              num: int) -> dict:
    """Noise with labels, as a data loader gives it.

    Args:
        model (nn.Module): A model of an mm library.
        scope (str): The library.
        size (tuple[int, int]): Height and width in pixels.
        num (int): Number of images.

    Raises:
        ValueError: If the library is none that is known.
    """
    _check_scope(scope)
    return _MAKERS[scope](model, size, num)


def _check_scope(scope: str) -> None:
    if scope not in _MAKERS:
        raise ValueError(f'default_scope is {scope!r}; inputs can be made up '
                         f'for {", ".join(_MAKERS)}')


def made_up_batch(model: nn.Module,
                  scope: str,
                  size: tuple[int, int] | None = None,
                  num: int = 2) -> dict:
    """Preprocessed noise with labels, as ``model(**batch, mode=...)`` wants.

    Args:
        model (nn.Module): A model of an mm library.
        scope (str): The library: ``mmdet``, ``mmpose``, ``mmpretrain`` or
            ``mmseg``.
        size (tuple[int, int] | None): Height and width in pixels, or what
            else :func:`default_size` says; None for that.
        num (int): Number of images.

    Returns:
        dict: ``inputs``, shape (N, 3, H, W), and ``data_samples``.

    Raises:
        ValueError: If the library is another one.
    """
    _check_scope(scope)
    make = partial(raw_batch, model, scope)
    size = tuple(size or default_size(model, scope))
    preprocessor = model.data_preprocessor
    # neither random sizes nor padding to the size of the config
    preprocessor.batch_augments = None
    if getattr(preprocessor, 'size', None):
        preprocessor.size = size
    return preprocessor(make(size, num), True)


def _run_pipeline(pipeline: list, size: tuple[int, int]) -> tuple[int, int]:
    """What transforms make of an image of some size.

    Args:
        pipeline (list): Those between loading and packing.
        size (tuple[int, int]): Height and width before.
    """
    height, width = size
    results = dict(
        img=np.zeros((height, width, 3), np.uint8),
        img_shape=size,
        ori_shape=size,
        img_id=0,
        img_path='',
        # a person, for pose estimators
        bbox=np.array([[0, 0, width, height]], np.float32),
        bbox_score=np.ones(1, np.float32))
    for transform in pipeline:
        results = TRANSFORMS.build(dict(transform))(results)
    image = results['img']
    # of PIL images, it is the other way round
    return (image.shape[:2]
            if isinstance(image, np.ndarray) else image.size[::-1])


def _first_image(dataset: dict) -> tuple[int, int] | None:
    """Size of the first image of a data set, if that is on this machine."""
    if not dataset:
        return None
    try:
        # standard output is the tool's
        with redirect_stdout(sys.stderr):
            inputs = DATASETS.build(dataset)[0]['inputs']
    except Exception:
        # whatever is missing there; the caller does without
        return None
    return (tuple(inputs.shape[-2:])
            if isinstance(inputs, torch.Tensor) else None)


def pipeline_size(cfg: Config) -> tuple[int, int] | None:
    """Height and width of the images that a config tests on.

    Its test pipeline is run on a made-up image. Where the pipeline keeps the
    ratio of images, it is the largest that comes out, lying; where it keeps
    their size, that of the first image of the data. Of point clouds, it is
    coordinates and number of points.

    Args:
        cfg (Config): Whole config.

    Returns:
        tuple[int, int] | None: None if neither says.
    """
    dataset = dataset_of(cfg, ('test_dataloader', 'val_dataloader'))
    pipeline = [t for t in pipeline_of(dataset) if isinstance(t, Mapping)]
    for transform in pipeline:
        if name_of(transform) == 'LoadPoints':
            return 3, transform['num_points']
    pipeline = [
        t for t in pipeline if not name_of(t).startswith(('Load', 'Pack'))
    ]
    scales = [
        sorted(t['scale']) for t in pipeline
        if name_of(t) == 'Resize' and isinstance(t.get('scale'), Sequence)
    ]
    before = tuple(scales[0]) if scales else (480, 640)
    innermost = dataset
    while isinstance(innermost.get('dataset'), Mapping):
        innermost = innermost['dataset']
    if side := _SIZES.get(name_of(innermost)):
        before = side, side
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        try:
            after = _run_pipeline(pipeline, before)
            other = _run_pipeline(pipeline, (before[0] // 2, before[1] // 3))
        except Exception:
            # a transform that wants more than an image
            after = other = None
        if after and (side or scales or after == other):
            return after
        # those that hold their data would download it
        return None if side else _first_image(dataset)


def image_size(cfg: Config, model: nn.Module) -> tuple[int, int]:
    """Height and width of images to measure a config's model with.

    Args:
        cfg (Config): Whole config.
        model (nn.Module): Its model, asked where :func:`pipeline_size` doesn't
            say; that is told on stderr.
    """
    size = pipeline_size(cfg)
    if size is None:
        size = default_size(model, cfg.get('default_scope'))
        print(
            'The test pipeline of the config does not say how large its '
            f'images are, and its data is not here: {size[0]} x {size[1]} is '
            'assumed. Give the size that counts (--shape H W, --size H W)',
            file=sys.stderr)
    return size


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
