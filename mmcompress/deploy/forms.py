"""The same network in its forms: float, as trained, packed."""
import copy

import torch
import torch.nn as nn

from mmcompress.lowbit import LowBitLayer, float_twin
from .twins import pack, protect_foreign_kernels


def forms(model: nn.Module) -> dict[str, nn.Module]:
    """All forms of a model that can be timed against each other.

    Args:
        model (nn.Module): In eval mode. Not changed.

    Returns:
        dict[str, nn.Module]: ``float`` in both memory layouts; and, where
        there are low-bit layers, ``as trained`` and ``packed``. Layers of
        ``mmcv.ops``, such as RoIAlign, get plain NCHW memory in all of them:
        they read channels-last memory wrongly.
    """
    low_bit = any(isinstance(m, LowBitLayer) for m in model.modules())
    plain = float_twin(model) if low_bit else model
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    protect_foreign_kernels(last)
    result = {'float': plain, 'float, channels last': last}
    if low_bit:
        result['as trained'] = model
        result['packed'] = pack(model)[1]
    return result
