"""Logits of a classifier, and labels of its batch."""
import torch
import torch.nn as nn
from torch import Tensor

from .checks import check_num_samples, check_tensors, shapes_of

MULTI_LABEL = ("multi-label data has no class that is the target: KDLoss("
               "activation='sigmoid') compares the logits instead")


def check_classifier(loss: nn.Module, **logits: Tensor) -> None:
    """Check a classifier's logits.

    Args:
        loss (nn.Module): Named in the message.
        **logits (Tensor): Of the ``student``, or of ``student`` and
            ``teacher``, shape (N, C) with at least 2 classes.

    Raises:
        TypeError: If one is not a tensor.
        ValueError: If the shapes are others.
    """
    check_tensors(loss, **logits)
    shapes = shapes_of(list(logits.values()))
    given = f'{type(loss).__name__}: ' + ' and '.join(
        f'{name} {shape}' for name, shape in zip(logits, shapes))
    if any(len(shape) != 2 for shape in shapes):
        raise ValueError(
            f'{given} must be logits (N, C) of a classifier; those of maps, '
            'tokens or queries are what KDLoss compares')
    if len(set(shapes)) > 1:
        raise ValueError(f'{given} must be logits (N, C) of the same images '
                         'and the same classes, in the same order')
    if shapes[0][1] < 2:
        raise ValueError(
            f'{given} must be logits (N, C) of 2 or more classes: the softmax '
            "of one is 1, whatever it is; KDLoss(activation='sigmoid') "
            'compares a single class')


def class_targets(loss: nn.Module, data_samples: list,
                  logits: Tensor) -> Tensor:
    """Labels of mmpretrain's data samples, as its heads read them.

    Args:
        loss (nn.Module): Named in messages.
        data_samples (list): With ``gt_score`` after mixup or cutmix, else
            with ``gt_label``.
        logits (Tensor): What the labels are for, shape (N, C).

    Returns:
        Tensor: Soft labels, shape (N, C), or class indices, shape (N, ).

    Raises:
        ValueError: If they are not one class, or shares of classes that add
            up to 1, for each image.
    """
    name, (num, num_classes) = type(loss).__name__, logits.shape
    check_num_samples(loss, data_samples, num)
    key = 'gt_score' if num and 'gt_score' in data_samples[0] else 'gt_label'
    missing = [i for i, s in enumerate(data_samples) if key not in s]
    if missing:
        raise ValueError(
            f'{name} needs the labels of a classifier, gt_label or gt_score; '
            f'data samples {missing[:5]} have no {key}')
    labels = [sample.get(key) for sample in data_samples]
    if key == 'gt_label':
        return _indices(name, labels, logits)
    shapes = {tuple(label.shape) for label in labels}
    if shapes != {(num_classes, )}:
        raise ValueError(f'{name}: gt_score of shapes {sorted(shapes)} must '
                         f'have a share for each of {num_classes} classes')
    scores = torch.stack(labels)
    # what mixup makes in half precision adds up to 1 almost
    wrong = (scores < 0).any(1) | ((scores.sum(1) - 1).abs() > 1e-2)
    if wrong.any():
        raise ValueError(
            f'{name}: gt_score of an image adds up to '
            f'{scores[wrong][0].sum():g}, with {scores[wrong][0].min():g} as '
            'the smallest, and shares of classes are positive and add up to '
            f'1; {MULTI_LABEL}')
    return scores


def _indices(name: str, labels: list[Tensor], logits: Tensor) -> Tensor:
    """Class indices (N, ), checked."""
    if not labels:
        return logits.new_zeros(0, dtype=torch.long)
    for label in labels:
        if label.numel() != 1:
            raise ValueError(f'{name}: gt_label {label.tolist()} is not one '
                             f'class; {MULTI_LABEL}')
    index = torch.cat([label.flatten() for label in labels])
    if index.is_floating_point():
        raise ValueError(f'{name}: gt_label is of {index.dtype}, not the '
                         'index of a class')
    wrong = (index < 0) | (index >= logits.shape[1])
    if wrong.any():
        raise ValueError(
            f'{name}: label {index[wrong][0].item()} is none of the '
            f'{logits.shape[1]} classes of the logits, from 0 to '
            f'{logits.shape[1] - 1}')
    return index


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
