"""The teacher sees the pixels as it was trained on them."""
from collections.abc import Callable

import torch
import torch.nn as nn
from mmengine.config import Config
from torch import Tensor

from mmcompress.model.config import has_preprocessor
from mmcompress.model.data import OPPOSITE, TrainingData, training_data

# what a user may say of the channels, of the teacher alone or in comparison
CHANNEL_ORDERS = ('rgb', 'bgr', 'same', 'reversed')
# libraries that read image files only, which are BGR
_FILES_ONLY = ('mmdet', 'mmpose', 'mmseg')


def normalization_of(preprocessor: nn.Module) -> tuple[Tensor, Tensor, bool]:
    """Mean and standard deviation (1 or 3, 1, 1), and channel flipping.

    Args:
        preprocessor (nn.Module): Of any library, and so of no common class.
    """
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


def _content(meta: dict) -> tuple[int, int] | None:
    """Height and width of an image in the batch, without its padding.

    Args:
        meta (dict): Of its data sample.

    Returns:
        tuple[int, int] | None: None if it was not padded, or nothing says.
    """
    if 'input_size' in meta:
        # mmpose's img_shape is that of the image before it was cropped
        width, height = meta['input_size']
        return int(height), int(width)
    if 'batch_input_shape' in meta or 'padding_size' in meta:
        return tuple(meta['img_shape'][:2])
    return None


def _fill_padding(inputs: Tensor, data_samples: list | None,
                  value: float) -> Tensor:
    """Set what the preprocessor added around each image to ``value``."""
    for image, sample in zip(inputs, data_samples or []):
        if content := _content(sample.metainfo):
            height, width = content
            image[:, height:] = value
            image[:, :, width:] = value
    return inputs


def _is_gray(preprocessor: nn.Module) -> bool:
    return (getattr(preprocessor, '_enable_normalize', False)
            and len(preprocessor.mean) == 1)


def preprocesses(preprocessor: nn.Module) -> bool:
    """Whether a preprocessor changes the values of pixels."""
    mean, std, flips = normalization_of(preprocessor)
    return flips or bool(mean.any()) or bool((std != 1).any())


def network_order(preprocessor: nn.Module, loaded: str | None) -> str | None:
    """In which order a network gets the channels.

    Args:
        preprocessor (nn.Module): Its data preprocessor.
        loaded (str | None): The order in which the preprocessor gets them;
            None where that is not known.

    Returns:
        str | None: ``'rgb'``, ``'bgr'``, or None.
    """
    libraries = {
        k.__module__.partition('.')[0]
        for k in type(preprocessor).mro()
    }
    if loaded is None and libraries.intersection(_FILES_ONLY):
        loaded = 'bgr'
    if not normalization_of(preprocessor)[2]:
        return loaded
    # what is not known to be loaded otherwise is turned from BGR to RGB
    return OPPOSITE[loaded or 'bgr']


def _is_reversed(student: nn.Module, teacher: nn.Module, alike: bool,
                 student_order: str | None, teacher_order: str | None,
                 channel_order: str | None) -> bool:
    """Whether the teacher wants the channels in the opposite order."""
    if channel_order in ('same', 'reversed'):
        return channel_order == 'reversed'
    order_s = network_order(student, student_order)
    order_t = channel_order or network_order(teacher, teacher_order)
    if order_s and order_t:
        # nothing but its preprocessor is known of the teacher, and it's equal
        unknown = teacher_order is None and channel_order is None
        return order_s != order_t and not (alike and unknown)
    if alike or not (order_s or order_t):
        return False
    side = 'student' if order_s is None else 'teacher'
    raise ValueError(
        f'the data_preprocessors of student and teacher differ, and in which '
        f'order the {side} gets the channels of its images is not known: '
        'its data_preprocessor leaves them as they are loaded, and its config '
        'has no data set that says how. ' +
        ("Set teacher.channel_order to 'rgb' or 'bgr', the order in which the "
         'teacher was trained; or give teacher.cfg as a whole config'
         if side == 'teacher' else
         "Set teacher.channel_order to 'same' or 'reversed', in comparison "
         'with the student'))


def renormalize(
        student: nn.Module,
        teacher: nn.Module,
        student_order: str | None = None,
        teacher_order: str | None = None,
        channel_order: str | None = None) -> Callable[..., Tensor] | None:
    """How to turn the student's input into the teacher's.

    Args:
        student (nn.Module): The student's data preprocessor.
        teacher (nn.Module): The teacher's.
        student_order (str | None): In which order the student's data loads
            channels, ``'rgb'`` or ``'bgr'``; None where that is not known.
        teacher_order (str | None): In which order the teacher's did.
        channel_order (str | None): What the user says: the order that the
            teacher's network wants, or whether it is the ``'same'`` as that
            of the student's network, or ``'reversed'``.

    Returns:
        Callable | None: Function of the student's inputs (N, C, H, W) and its
        data samples, giving the teacher's inputs of the same shape with the
        teacher's mean, standard deviation, channel order and padding value;
        None where both preprocess alike.

    Raises:
        ValueError: If the order of the channels is needed and not known.
    """
    mean_s, std_s, flips_s = normalization_of(student)
    mean_t, std_t, flips_t = normalization_of(teacher)
    pad_value = _pad_value(teacher)
    mean_s, std_s, mean_t, std_t = torch.broadcast_tensors(
        mean_s, std_s, mean_t, std_t)
    alike = (
        flips_s == flips_t and torch.equal(mean_s, mean_t)
        and torch.equal(std_s, std_t))
    is_gray = _is_gray(student) or _is_gray(teacher)
    is_reversed = not is_gray and _is_reversed(
        student, teacher, alike, student_order, teacher_order, channel_order)
    if not is_reversed and torch.equal(mean_s, mean_t) and torch.equal(
            std_s, std_t) and pad_value == _pad_value(student):
        return None
    if is_reversed:
        mean_s, std_s = mean_s.flip(0), std_s.flip(0)
    scale, shift = std_s / std_t, (mean_s - mean_t) / std_t

    def convert(inputs: Tensor, data_samples: list | None) -> Tensor:
        if is_reversed:
            inputs = inputs.flip(1)
        inputs = inputs * scale.to(inputs) + shift.to(inputs)
        return _fill_padding(inputs, data_samples, pad_value)

    return convert


def conversion(cfg: Config, student: nn.Module, teacher: nn.Module,
               student_data: TrainingData,
               channel_order: str | None) -> Callable[..., Tensor] | None:
    """How the student's inputs become those of a teacher's config.

    Args:
        cfg (Config): The teacher's.
        student (nn.Module): The student's data preprocessor.
        teacher (nn.Module): The teacher's.
        student_data (TrainingData): What the student is trained on.
        channel_order (str | None): See :func:`renormalize`.

    Returns:
        Callable | None: See :func:`renormalize`.

    Raises:
        ValueError: If nothing says how the teacher's pixels are preprocessed.
    """
    own = training_data(cfg)
    # a pipeline's normalization cannot be undone for one of both
    if own.normalization is None:
        clash = student_data.normalization and preprocesses(teacher)
    else:
        clash = student_data.normalization not in (None, own.normalization)
    if clash:
        raise ValueError(
            'the teacher sees what the pipeline of the student\'s data gives, '
            f'which is normalized by {student_data.normalization or "-"} '
            f'there, and {own.normalization or "-"} in teacher.cfg: let '
            '`data_preprocessor` normalize instead, on both sides')
    if (not has_preprocessor(cfg) and not preprocesses(teacher)
            and preprocesses(student)):
        raise ValueError(
            'teacher.cfg has no `data_preprocessor`, so the teacher would '
            'see raw pixels, while the student\'s are normalized. Write that '
            'of its training into the model, or give the whole config: '
            'teacher=dict(cfg=dict(model=..., '
            "data_preprocessor=dict(mean=..., std=..., ...))); with "
            "data_preprocessor=dict(type='...') and no mean for one that was "
            'trained on raw pixels')
    return renormalize(student, teacher, student_data.channel_order,
                       own.channel_order, channel_order)
