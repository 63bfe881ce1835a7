"""What every distillation loss has in common."""

import torch.nn as nn
from torch import Tensor

from mmcompress.precision import at_least_float32


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
        images_first (bool): Whether the loss takes the second of four axes
            for channels or classes, whatever its length. Then tensors with
            the images there are refused.
        reads_only (tuple[str, ...]): Keys of a dict of taps of the student
            that the loss only looks at, such as a mask: they need no
            gradient. ``'student'`` stands for all that it taps.
        weight_names (tuple[str, ...]): Arguments to which the loss is
            proportional, together: what one changes to weigh it.
    """

    takes_levels = False
    images_first = False
    reads_only: tuple[str, ...] = ()
    weight_names: tuple[str, ...] = ('loss_weight', )

    def look_at_tap(self, model: nn.Module, path: str) -> None:
        """Called for each tap of the student, once, in the first step.

        Args:
            model (nn.Module): The student.
            path (str): Of the tapped module.
        """

    def look_at_teacher_tap(self, model: nn.Module, path: str) -> None:
        """Called for each tap of the teacher, once, in the first step.

        Args:
            model (nn.Module): The teacher.
            path (str): Of the tapped module.
        """

    def zero(self, *tensors: Tensor) -> Tensor:
        """What a loss is where there is nothing to compare, such as no RoI.

        Args:
            *tensors (Tensor): The student's.

        Returns:
            Tensor: 0, whose gradient is 0 for them and for the loss's own
            parameters: DDP waits for each of these.
        """
        # of none of their elements: 0 times an infinite one is NaN
        return sum(
            at_least_float32(x.flatten()[:0]).sum()
            for x in (*tensors, *self.parameters()))


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
