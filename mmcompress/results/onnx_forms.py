"""Files of ONNX in the place of the models that they were written of."""
import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import Tensor

from mmcompress.deploy.onnx.metadata import read_metadata
from mmcompress.deploy.onnx.network import Network
from mmcompress.deploy.onnx.session import Session
from mmcompress.model.data import dataset_of


class TimedSession:
    """A file on onnxruntime that notes how long it computes.

    Args:
        path (str): Of the file.
        threads (int): How many.

    Attributes:
        seconds (float): Of all calls so far.
    """

    def __init__(self, path: str, threads: int) -> None:
        self.session = Session(path, threads=threads)
        self.seconds = 0.0

    def __call__(self, images: Tensor, **others: Tensor) -> list[Tensor]:
        """Compute the outputs of images, shape (1, 3, H, W)."""
        start = time.perf_counter()
        outs = self.session(images, **others)
        self.seconds += time.perf_counter() - start
        return outs


class OnnxForm:
    """Runs a file of ONNX on onnxruntime, as tests run its model.

    A file that ends with what the head returns gets what comes after from
    the model; of one that predicts, samples are filled.

    Args:
        cfg (Config): Of the model.
        model (nn.Module): What was exported; changed.
        path (str): Of the file.
        threads (int): How many.

    Attributes:
        session (TimedSession): The file.
        tester (Any): Has ``test_step``.

    Raises:
        ValueError: If it is no file of ours.
    """

    def __init__(self, cfg: Config, model: nn.Module, path: str,
                 threads: int) -> None:
        size = read_metadata(path).get('input', {}).get('size')
        if size is None:
            raise ValueError(
                f'{path} does not say for which size of images it was '
                'written: tools/deploy/export_onnx.py writes it')
        self.model = model
        self.session = TimedSession(path, threads)
        runtime = self.session.session.session
        if all(out.name.startswith('output') for out in runtime.get_outputs()):
            Network(model, tuple(size)).run_by(self.session)
            self.tester = model
            return
        from mmcompress.deploy.onnx.postprocess import (FilePredictor,
                                                        WholeNetwork)
        network = WholeNetwork(
            model,
            tuple(size),
            flip_indices=_flip_indices(cfg),
            preprocessing='uint8' in runtime.get_inputs()[0].type)
        self.tester = FilePredictor(network, model, self.session)

    def call_on(self, batch: dict) -> Callable[[], Any]:
        """What predicts an image, as often as it is called.

        Args:
            batch (dict): Of one image, as a loader gives it.
        """
        batch = copy.deepcopy(batch)
        if self.tester is self.model:
            batch = self.model.data_preprocessor(batch, False)
            return lambda: self.model(**batch, mode='predict')
        from mmcompress.deploy.onnx.postprocess.running import images_of
        image = next(images_of(self.tester.network, self.model, batch))
        return lambda: self.tester.predict(image)


def _flip_indices(cfg: Config) -> Sequence[int] | None:
    """Which keypoint is which in a mirrored image; None of other tasks."""
    if cfg.get('default_scope') != 'mmpose':
        return None
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    dataset = dataset_of(cfg, ('val_dataloader', 'test_dataloader'))
    if dataset.get('type') is None:
        return None
    dataset = dataset.get('dataset', dataset)
    info = dataset.get('metainfo') or getattr(
        DATASETS.get(dataset['type']), 'METAINFO', None)
    return parse_pose_metainfo(dict(info))['flip_indices'] if info else None
