"""The metric of a written network, by the config's own test loop."""
import copy
from collections.abc import Callable, Iterable

import torch.nn as nn
from mmengine.config import Config

from mmcompress.model.testing import measure
from .network import Network
from .session import Session


def evaluate(
        cfg: Config,
        model: nn.Module,
        proto: bytes,
        size: tuple[int, int],
        progress: Callable[[Iterable], Iterable] = iter) -> dict[str, float]:
    """Test a model whose network runs on onnxruntime.

    What comes before and after the network, preprocessing, decoding and
    suppression, is the model's.

    Args:
        cfg (Config): Whole config.
        model (nn.Module): Its model; not changed.
        proto (bytes): What was written of it.
        size (tuple[int, int]): Height and width it was written for.
        progress (Callable): Wraps the data loader.

    Returns:
        dict[str, float]: The config's own metrics.
    """
    model = copy.deepcopy(model)
    Network(model, size).run_by(Session(proto))
    return measure(cfg, model, progress)
