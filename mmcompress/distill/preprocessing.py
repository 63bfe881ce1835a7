"""The teacher sees the pixels as it was trained on them."""
from collections.abc import Callable

import torch
import torch.nn as nn
from torch import Tensor


def _normalization(preprocessor: nn.Module) -> tuple[Tensor, Tensor, bool]:
    """Mean and standard deviation (1 or 3, 1, 1), and channel flipping."""
    flips = any(
        getattr(preprocessor, name, False)
        for name in ('_channel_conversion', 'channel_conversion', 'to_rgb'))
    if not getattr(preprocessor, '_enable_normalize', False):
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1), flips
    mean, std = (
        getattr(preprocessor, name).detach().cpu() for name in ('mean', 'std'))
    return mean, std, flips


def _pad_value(preprocessor: nn.Module) -> float:
    """Value of the pixels beyond an image, after normalization."""
    # mmseg calls it pad_val
    value = getattr(preprocessor, 'pad_value',
                    getattr(preprocessor, 'pad_val', 0))
    return float(value)


def _fill_padding(inputs: Tensor, data_samples: list | None,
                  value: float) -> Tensor:
    """Set what the preprocessor added around each image to ``value``."""
    for image, sample in zip(inputs, data_samples or []):
        meta = sample.metainfo
        # elsewhere img_shape is that of the image before it was cropped
        if 'batch_input_shape' in meta or 'padding_size' in meta:
            height, width = meta['img_shape'][:2]
            image[:, height:] = value
            image[:, :, width:] = value
    return inputs


def renormalize(student: nn.Module,
                teacher: nn.Module) -> Callable[..., Tensor] | None:
    """How to turn the student's input into the teacher's.

    Args:
        student (nn.Module): The student's data preprocessor.
        teacher (nn.Module): The teacher's.

    Returns:
        Callable | None: Function of the student's inputs (N, C, H, W) and its
        data samples, giving the teacher's inputs of the same shape with the
        teacher's mean, standard deviation, channel order and padding value;
        None where both preprocess alike.
    """
    mean_s, std_s, flips_s = _normalization(student)
    mean_t, std_t, flips_t = _normalization(teacher)
    pad_value = _pad_value(teacher)
    mean_s, std_s, mean_t, std_t = torch.broadcast_tensors(
        mean_s, std_s, mean_t, std_t)
    if (flips_s == flips_t and torch.equal(mean_s, mean_t)
            and torch.equal(std_s, std_t)
            and pad_value == _pad_value(student)):
        return None
    if flips_s != flips_t:
        mean_s, std_s = mean_s.flip(0), std_s.flip(0)
    scale, shift = std_s / std_t, (mean_s - mean_t) / std_t

    def convert(inputs: Tensor, data_samples: list | None) -> Tensor:
        if flips_s != flips_t:
            inputs = inputs.flip(1)
        inputs = inputs * scale.to(inputs) + shift.to(inputs)
        return _fill_padding(inputs, data_samples, pad_value)

    return convert
