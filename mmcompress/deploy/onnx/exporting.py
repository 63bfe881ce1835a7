"""From a config and a checkpoint to an ONNX file that was compared."""
import contextlib
import io
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import load_weights
from mmcompress.atomic import replacing
from mmcompress.deploy.file.convert import test_batches
from mmcompress.model.config import build_untrained, read_config
from mmcompress.model.data import dataset_of
from mmcompress.model.inputs import image_size
from mmcompress.model.testing import measure
from .metadata import before_preprocessing, metadata_of
from .postprocess.agreement import Predictions, compare_predictions
from .postprocess.running import FilePredictor, images_of, made_up
from .session import Session
from .testing import evaluate
from .verify import Agreement, compare
from .writing import Exported, export

Progress = Callable[[Iterable, str], Iterable]


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how near onnxruntime comes to PyTorch.

    Attributes:
        out (str): The file.
        bytes (int): Its size.
        size (tuple[int, int]): Height and width of preprocessed images.
        outputs (tuple[str, ...]): Their names.
        integers (dict[str, int]): How many nodes of each operator compute in
            integers.
        floats (dict[str, str]): Low-bit layers that don't, and why.
        is_quantized (bool): Whether the model has low-bit layers.
        left_out (str | None): The part of the model that is not written.
        images (str): What was compared on, in words.
        agreement (Agreement): Of values and codes.
        predictions (Predictions | None): Of predictions, if these are
            written.
        metrics (dict[str, tuple[float, float]] | None): By name, of the model
            and of the file; None without ``evaluate``.
    """
    out: str
    bytes: int
    size: tuple[int, int]
    outputs: tuple[str, ...]
    integers: dict[str, int]
    floats: dict[str, str]
    is_quantized: bool
    left_out: str | None
    images: str
    agreement: Agreement
    predictions: Predictions | None
    metrics: dict[str, tuple[float, float]] | None


def _padded(size: tuple[int, int], model: nn.Module) -> tuple[int, int]:
    """A size as the model's preprocessor pads images."""
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', None) or 1
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width


def _flip_indices(cfg: Config, meta: Mapping) -> Sequence[int] | None:
    """Keypoints of the mirrored image, as checkpoint or data say."""
    stored = (meta.get('dataset_meta') or {}).get('flip_indices')
    if stored is not None or cfg.get('default_scope') != 'mmpose':
        return stored
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    dataset = dataset_of(cfg, ('test_dataloader', 'val_dataloader'))
    kind = DATASETS.get(dataset['type']) if dataset else None
    info = dataset.get('metainfo') or getattr(kind, 'METAINFO', None)
    return parse_pose_metainfo(dict(info))['flip_indices'] if info else None


def _batches(cfg: Config, num: int) -> list | None:
    """Batches with so many images of the test data, if that is here."""
    try:
        batches = test_batches(cfg, num)
    except (ValueError, FileNotFoundError) as error:
        print(f'No test data ({error}), so noise is compared', file=sys.stderr)
        return None
    kept = 0
    for i, batch in enumerate(batches):
        kept += len(batch['inputs'])
        if kept >= num:
            return batches[:i + 1]
    return batches


def _noise(size: tuple[int, int], num: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 3, *size, generator=generator) for _ in range(num)]


def _compare(exported: Exported, model: nn.Module, batches: list | None,
             num: int) -> tuple[Agreement, Predictions | None, int]:
    """Values and codes, predictions, and on how many images."""
    network = exported.network
    if not hasattr(network, 'postprocess'):
        images = _noise(network.size, num) if batches is None else [
            image[None] for batch in batches
            for image in model.data_preprocessor(batch, False)['inputs']
        ][:num]
        return compare(exported, images), None, len(images)
    if batches is None:
        batches = made_up(network, model, num)
    predictor = FilePredictor(network, model, Session(exported.proto))
    predictions = compare_predictions(predictor, model, batches, num)
    images = [
        image.inputs()[0] for batch in batches
        for image in images_of(network, model, batch)
    ]
    return compare(exported, images[:num]), predictions, predictions.images


def _metrics(cfg: Config, model: nn.Module, exported: Exported,
             progress: Progress) -> dict[str, tuple[float, float]]:
    """Of the model, and of the file."""
    # evaluators print tables of their own
    with contextlib.redirect_stdout(io.StringIO()):
        before = measure(cfg, model, lambda x: progress(x, 'PyTorch'))

        def bar(items: Iterable) -> Iterable:
            return progress(items, 'onnxruntime')

        if hasattr(exported.network, 'postprocess'):
            predictor = FilePredictor(exported.network, model,
                                      Session(exported.proto))
            after = measure(cfg, predictor, bar)
        else:
            after = evaluate(cfg, model, exported.proto, exported.network.size,
                             bar)
    return {
        key: (before[key], after[key])
        for key in before if key in after and all(
            isinstance(value[key], (int, float)) for value in (before, after))
    }


@contextlib.contextmanager
def _quiet():
    """Without what exporters say of shapes, and libraries of building."""
    loggers = [
        logging.getLogger(name)
        for name in ('torch.onnx', 'onnxscript', 'onnx_ir')
    ] + [MMLogger.get_instance('mmengine')]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)


def export_file(
        config: str,
        checkpoint: str,
        out: str,
        *,
        size: Sequence[int] | None = None,
        postprocess: bool = True,
        preprocessing: bool = False,
        images: int = 4,
        evaluate: bool = False,
        options: dict | None = None,
        progress: Progress = lambda items, what: items) -> ExportReport:
    """Write a trained model as ONNX, and compare it with itself in PyTorch.

    Args:
        config (str): Of the model, float or quantized.
        checkpoint (str): Its weights, file or URL.
        out (str): The file to write, ``*.onnx``.
        size (Sequence[int] | None): Height and width of preprocessed images;
            by default what the test pipeline gives, padded as batches are.
        postprocess (bool): Whether the file predicts: boxes, classes, maps of
            classes, keypoints. Else it ends with what the head returns.
        preprocessing (bool): Whether the file also prepares images, which
            are uint8 then, as the test pipeline gives them, with channels
            behind. Only with ``postprocess``.
        images (int): Of the test data, to compare on; noise without data.
        evaluate (bool): Whether to measure both by the test loop of the
            config.
        options (dict | None): Keys of the config to override.
        progress (Callable): Wraps a data loader, with a word for it.

    Raises:
        NoPostprocess: If it is not known what the model predicts; names the
            module.
        ImportError: If ``mmcompress[onnx]`` is not installed.
        RuntimeError: If the checkpoint is of another model, or a quantizer
            has no scales yet.
        ValueError: On arguments that aren't allowed; if something of the
            model can not be exported, names the module.
    """
    path = Path(out)
    if path.suffix != '.onnx':
        raise ValueError(f'the file to write must end with .onnx: {out}')
    if images < 1:
        raise ValueError(f'comparing needs at least one image, got {images}')
    cfg = read_config(config, options)
    scope = DefaultScope.overwrite_default_scope(cfg.get('default_scope'))
    with _quiet(), scope, torch.no_grad():
        model = build_untrained(cfg)
        meta = load_weights(model, checkpoint).get('meta', {})
        # not chained: train() of some backbones in mm libraries returns None
        model.eval()
        size = tuple(size or _padded(image_size(cfg, model), model))
        metadata = metadata_of(cfg, model, size, meta)
        if preprocessing:
            metadata['input'] = before_preprocessing(metadata['input'])
        exported = export(
            model,
            size,
            metadata,
            postprocess=postprocess,
            preprocessing=preprocessing,
            flip_indices=_flip_indices(cfg, meta) if postprocess else None)
        batches = _batches(cfg, images)
        agreement, predictions, num = _compare(exported, model, batches,
                                               images)
        metrics = None
        if evaluate:
            metrics = _metrics(cfg, model, exported, progress)
    with replacing(path) as temporary:
        temporary.write_bytes(exported.proto)
    floats = exported.floats()
    return ExportReport(
        str(path), len(exported.proto), size,
        tuple(exported.network.output_names()),
        dict(Counter(exported.found.integer.values())), floats,
        bool(exported.converted.layers or floats), exported.network.left_out,
        f'{num} test images' if batches else f'{num} images of noise',
        agreement, predictions, metrics)
