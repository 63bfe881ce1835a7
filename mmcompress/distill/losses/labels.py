"""Labels of a classification batch, and logits without them."""
import torch
from torch import Tensor


def class_targets(data_samples: list) -> Tensor:
    """Labels of mmpretrain's data samples, as its heads read them.

    Args:
        data_samples (list): With ``gt_score`` after mixup or cutmix, else
            with ``gt_label``.

    Returns:
        Tensor: Soft labels, shape (N, C), or class indices, shape (N, ).
    """
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])


def log_softmax_without(logits: Tensor, left_out: Tensor) -> Tensor:
    """Log-softmax over the classes that are not left out.

    Args:
        logits (Tensor): Shape (N, C).
        left_out (Tensor): Bool, shape (N, C).

    Returns:
        Tensor: Shape (N, C), 0 where a class is left out.
    """
    # not -inf: a row without any class left would turn NaN, backward as well
    lowest = torch.finfo(logits.dtype).min
    others = logits.masked_fill(left_out, lowest).log_softmax(1)
    return others.masked_fill(left_out, 0)
