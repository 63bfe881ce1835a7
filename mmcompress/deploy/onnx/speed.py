"""Time written networks against each other on onnxruntime."""
import copy
import time

import torch.nn as nn
from torch import Tensor

from mmcompress.analysis.timing import interleaved
from mmcompress.lowbit import float_twin
from mmcompress.quantization.quantizer import Quantizer
from .session import Session


def without_quantizers(model: nn.Module) -> nn.Module:
    """The float network of a quantized model.

    Args:
        model (nn.Module): Not changed.
    """
    plain = float_twin(copy.deepcopy(model))
    for module in plain.modules():
        # those of norms and of whatever else is no layer
        if isinstance(module, Quantizer):
            module.bypass = True
    return plain


def compare_speed(protos: dict[str, bytes], image: Tensor,
                  rounds: int) -> dict[str, list[float]]:
    """Seconds that networks take on one thread, in turn.

    Args:
        protos (dict[str, bytes]): What was written, by name.
        image (Tensor): Preprocessed, shape (1, 3, H, W).
        rounds (int): Measurements of each.

    Returns:
        dict[str, list[float]]: By name, one entry per round, of the thread's
        own time: what else runs on the machine is not in it.
    """
    sessions = {name: Session(proto) for name, proto in protos.items()}
    parts = {
        name: lambda session=session: session(image)
        for name, session in sessions.items()
    }
    return interleaved(parts, rounds, clock=time.thread_time)
