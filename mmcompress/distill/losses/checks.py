"""What losses ask of their inputs, in sentences where it is not so."""
from collections.abc import Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

# what a tensor of another rank probably is, where a map is wanted
NO_MAP = {
    2:
    'vectors have no positions: tap what comes before the pooling',
    3:
    'tokens or queries (N, L, C) are not in rows and columns: tap what '
    "yields a map, such as 'backbone[0]' (in mmpretrain with "
    "out_type='featmap'); KDLoss with class_axis=-1 compares logits of queries"
}


def describe(value: Any) -> str:
    """A value in a few words, such as ``'a list of 3'``."""
    if isinstance(value, Tensor):
        return f'{tuple(value.shape)} of {value.dtype}'
    if isinstance(value, (list, tuple)):
        return f'a {type(value).__name__} of {len(value)}'
    return 'None' if value is None else f'a {type(value).__name__}'


def shapes_of(values: Sequence[Tensor]) -> list[tuple]:
    """Shapes of tensors, for messages."""
    return [tuple(value.shape) for value in values]


def check_tensors(loss: nn.Module, **values: Any) -> None:
    """Check that each value is one tensor of real numbers.

    Args:
        loss (nn.Module): Named in the message.
        **values (Any): By their names.

    Raises:
        TypeError: If one is not.
    """
    for name, value in values.items():
        wants = (f'{type(loss).__name__} wants one tensor as {name}, got '
                 f'{describe(value)}')
        if isinstance(value, (list, tuple)):
            raise TypeError(f'{wants}; choose one of them by an index at the '
                            'end of the tap, such as [0]')
        if isinstance(value, dict):
            raise TypeError(f'{wants} with the keys {list(value)}; give one '
                            'tap, not a dict of taps')
        if not isinstance(value, Tensor):
            raise TypeError(f'{wants}; give a tap that yields a tensor')
        if not value.is_floating_point():
            raise TypeError(f'{wants}; it must be of floating-point numbers: '
                            'tap what comes before a decision or an index')


def check_lists(loss: nn.Module, **values: Any) -> None:
    """Check that each value is a list of tensors of real numbers.

    Raises:
        TypeError: If one is not.
    """
    for name, value in values.items():
        if not isinstance(value, (list, tuple)):
            raise TypeError(f'{type(loss).__name__} wants a list of tensors '
                            f'as {name}, got {describe(value)}')
        check_tensors(loss, **{f'{name}[{i}]': x for i, x in enumerate(value)})


def check_keys(loss: nn.Module, keys: Sequence[str], **sides: Any) -> None:
    """Check that each side is a dict with these keys.

    Raises:
        TypeError: If one is not.
    """
    for side, value in sides.items():
        if not isinstance(value, dict) or not set(keys) <= value.keys():
            given = (f'a dict with {list(value)}'
                     if isinstance(value, dict) else describe(value))
            raise TypeError(
                f'{type(loss).__name__} wants a dict of taps as {side}, with '
                f'the keys {", ".join(keys)}; got {given}')


def check_maps(loss: nn.Module,
               student: Tensor,
               teacher: Tensor,
               channels: tuple[int | None, int | None] = (None, None),
               same_size: bool = True) -> None:
    """Check the features of one level.

    Args:
        loss (nn.Module): Named in the message.
        student (Tensor): Shape (N, C_s, H, W).
        teacher (Tensor): Shape (N, C_t, H', W').
        channels (tuple[int | None, int | None]): C_s and C_t; None where the
            loss has no adapter and any will do, if they are equal.
        same_size (bool): Whether heights and widths must agree.

    Raises:
        TypeError: If one is not a tensor.
        ValueError: If the shapes are others.
    """
    check_tensors(loss, student=student, teacher=teacher)
    given = (f'{type(loss).__name__}: student {tuple(student.shape)} and '
             f'teacher {tuple(teacher.shape)}')
    wrong = {student.dim(), teacher.dim()} - {4}
    if wrong:
        hint = NO_MAP.get(min(wrong), 'tap a module that yields such')
        raise ValueError(f'{given} must be maps (N, C, H, W); {hint}')
    if len(student) != len(teacher):
        raise ValueError(f'{given} differ in the number of images or RoIs; '
                         'RoIs that each model proposes do not correspond')
    if None not in channels and channels != (student.shape[1],
                                             teacher.shape[1]):
        raise ValueError(f'{given}, but it was made for {channels} channels '
                         '(student_channels, teacher_channels)')
    if None in channels and student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f'{given} differ in channels; student_channels and '
            'teacher_channels adapt those of features, but logits can only '
            'be compared between the same classes')
    if same_size and student.shape[2:] != teacher.shape[2:]:
        raise ValueError(f'{given} differ in height or width, which nothing '
                         'adapts; tap modules of equal stride')


def check_levels(loss: nn.Module,
                 channels: tuple[int, int],
                 num_levels: int,
                 student: Sequence[Tensor],
                 teacher: Sequence[Tensor],
                 same_size: bool = True,
                 names: str = 'student_channels, teacher_channels') -> None:
    """Check features against what a loss was made for.

    Args:
        loss (nn.Module): Named in the message.
        channels (tuple[int, int]): Of the student and of the teacher.
        num_levels (int): How many features both yield.
        student (Sequence[Tensor]): Shape (N, C_s, H_i, W_i).
        teacher (Sequence[Tensor]): Shape (N, C_t, H_i, W_i).
        same_size (bool): Whether heights and widths must agree.
        names (str): What the channels are called in the config.

    Raises:
        TypeError: If they are not lists of tensors.
        ValueError: If levels, channels or sizes don't fit.
    """
    check_lists(loss, student=student, teacher=teacher)
    shapes = shapes_of(student), shapes_of(teacher)
    given = (f'{type(loss).__name__} got student {shapes[0]} and teacher '
             f'{shapes[1]}')
    wrong = {len(shape) for xs in shapes for shape in xs} - {4}
    if wrong:
        hint = NO_MAP.get(min(wrong), 'tap modules that yield such')
        raise ValueError(f'{given}, which must be maps (N, C, H, W); {hint}')
    fits = True
    for s, t in zip(*shapes):
        fits &= s[0] == t[0] and (s[1], t[1]) == channels
        fits &= s[2:] == t[2:] or not same_size
    if not fits or any(len(xs) != num_levels for xs in shapes):
        raise ValueError(
            f'{given}, and was made for {num_levels} levels (num_levels) of '
            f'{channels} channels ({names}); numbers of images ' +
            ('and sizes must agree: tap modules of equal stride'
             if same_size else 'must agree'))


def check_num_samples(loss: nn.Module, data_samples: Any, num: int) -> None:
    """Check that there are as many data samples as images.

    Raises:
        TypeError: If it is not a list.
        ValueError: If it is of another length.
    """
    if not isinstance(data_samples, (list, tuple)):
        raise TypeError(f'{type(loss).__name__} wants a list of data samples, '
                        f'got {describe(data_samples)}')
    if len(data_samples) != num:
        raise ValueError(
            f'{type(loss).__name__} got {len(data_samples)} data samples and '
            f'what was tapped of {num} images; tap a module that sees each '
            'image once')


def gt_boxes(loss: nn.Module,
             data_samples: list,
             size_key: str = 'img_shape',
             argument: str = '') -> tuple[list[Tensor], list[tuple]]:
    """Boxes of each image, and the size of what they lie in.

    Args:
        loss (nn.Module): Named in messages.
        data_samples (list): With ``gt_instances.bboxes``.
        size_key (str): Which of the sizes in their ``metainfo``.
        argument (str): What chose that, for messages.

    Returns:
        tuple[list[Tensor], list[tuple]]: Boxes (x1, y1, x2, y2) in pixels of
        the input, shape (M, 4), and (height, width), of each image.

    Raises:
        ValueError: If there are no such boxes, or the size is not known.
    """
    name = type(loss).__name__
    if any(size_key not in s.metainfo for s in data_samples):
        chosen = f' ({argument})' if argument else ''
        raise ValueError(f'{name}: a data sample has no {size_key}{chosen} in '
                         'its metainfo; the pipeline and the data '
                         'preprocessor set it')
    if not all(hasattr(s, 'gt_instances') for s in data_samples):
        raise ValueError(f'{name} needs boxes, and a data sample has no '
                         'gt_instances; MGDLoss needs none')
    boxes = [sample.gt_instances.bboxes for sample in data_samples]
    boxes = [getattr(b, 'tensor', b) for b in boxes]
    for b in boxes:
        if b.dim() != 2 or b.shape[1] != 4:
            raise ValueError(f'{name}: the boxes {tuple(b.shape)} of an image '
                             'must be (x1, y1, x2, y2), shape (M, 4); rotated '
                             'boxes are not supported')
    return boxes, [s.metainfo[size_key][:2] for s in data_samples]


def check_images_first(side: str, tapped: Any, num: int) -> None:
    """Refuse tensors with the images on their second axis.

    Args:
        side (str): Whose tap it is.
        tapped (Any): What the tap yields.
        num (int): Images in the batch. A batch of one tells nothing.

    Raises:
        ValueError: If, of 4 axes, the second, not the first, is that long.
    """
    for x in tapped if isinstance(tapped, (list, tuple)) else [tapped]:
        if isinstance(x, Tensor) and x.dim() == 4 and num > 1 and \
                x.shape[0] != num == x.shape[1]:
            raise ValueError(
                f'the tap of the {side} yields '
                f'{tuple(x.shape)}, whose second axis, not the first, is '
                f'as long as the batch, {num} images: probably the layers of '
                'a decoder (layers, N, queries, classes). The loss would take '
                'images for channels or classes; tap maps (N, C, H, W), or '
                'give KDLoss the class_axis, such as -1')
