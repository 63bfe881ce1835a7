"""What every distillation loss has in common."""
from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor


class DistillLoss(nn.Module):
    """Base class of the distillation losses.

    The distiller calls ``forward`` with the keywords that it names, among

    - ``student``, ``teacher``: what the taps of that name in the config
      recorded. A tensor, or a sequence of tensors (levels) when the tapped
      output is one or the module is called several times; a dict when the
      config gives a dict of taps.
    - ``data_samples`` (list): The batch's data samples.
    - ``student_model``, ``teacher_model`` (nn.Module).
    - ``progress`` (float): Share of the training that is done, in [0, 1].

    ``forward`` returns a scalar tensor, a list of them (one per level), or a
    dict. In a dict the keys with ``loss`` in their name are added to the
    training loss, and all of them, tensors as well, are logged.

    Trainable adapters belong to the loss. They are initialised in
    ``__init__``: mmengine's recursive ``init_weights`` doesn't reach them.

    Attributes:
        takes_levels (bool): False (the default): ``forward`` sees one level
            at a time, and is called for each pair of levels when the taps
            yield sequences. True: it sees the list of all levels, also when
            there is only one.
        reads_only (tuple[str, ...]): Keys of a dict of taps of the student
            that the loss only looks at, such as a mask: they need no
            gradient. ``'student'`` stands for all that it taps.
        weight_names (tuple[str, ...]): Arguments to which the loss is
            proportional, together: what one changes to weigh it.
    """

    takes_levels = False
    reads_only: tuple[str, ...] = ()
    weight_names: tuple[str, ...] = ('loss_weight', )


def channel_adapter(student_channels: int | None,
                    teacher_channels: int | None,
                    norm_and_relu: bool = False) -> nn.Module:
    """Adapt the student's channels to the teacher's, if they are given.

    Args:
        student_channels (int | None): None, as the other, for no adapter.
        teacher_channels (int | None): See ``student_channels``.
        norm_and_relu (bool): Whether BN, instead of a bias, and ReLU follow
            the 1x1 convolution.

    Raises:
        ValueError: If only one of both is given.
    """
    if (student_channels is None) != (teacher_channels is None):
        raise ValueError('give both student_channels and teacher_channels,'
                         f' got {student_channels}, {teacher_channels}')
    if student_channels is None:
        return nn.Identity()
    if norm_and_relu:
        return nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.BatchNorm2d(teacher_channels), nn.ReLU())
    return nn.Conv2d(student_channels, teacher_channels, 1)


def check_levels(loss: DistillLoss, channels: tuple[int, int], num_levels: int,
                 student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    """Check features against what a loss was made for.

    Args:
        loss (DistillLoss): Named in the message.
        channels (tuple[int, int]): Of the student and of the teacher.
        num_levels (int): How many features both yield.
        student (Sequence[Tensor]): Shape (N, C_s, H_i, W_i).
        teacher (Sequence[Tensor]): Shape (N, C_t, H_i, W_i).

    Raises:
        ValueError: If levels, channels or sizes don't fit.
    """
    shapes = [[tuple(x.shape) for x in xs] for xs in (student, teacher)]
    fits = all(
        (s[1], t[1]) == channels and s[2:] == t[2:] for s, t in zip(*shapes))
    if not fits or any(len(xs) != num_levels for xs in shapes):
        raise ValueError(
            f'{type(loss).__name__} got student {shapes[0]} and teacher '
            f'{shapes[1]}, and was made for {num_levels} levels (num_levels) '
            f'of {channels} channels (student_channels, teacher_channels); '
            'sizes must agree')
