"""What every distillation loss has in common."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn as nn
from torch import Tensor

from mmcompress.precision import at_least_float32
from ..gradient_norms import short_name
from ..tap_syntax import map_taps, parse_tap
from .checks import check_images_first, describe

# keywords that a loss may name in its forward; the distiller passes those
INPUTS = ('student', 'teacher', 'data_samples', 'student_model',
          'teacher_model', 'progress')


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
    """

    takes_levels = False
    images_first = False

    def look_at_tap(self, model: nn.Module, path: str) -> None:
        """Called for each tap of the student, once, in the first step.

        Args:
            model (nn.Module): The student.
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


def _call(name: str, loss: DistillLoss, inputs: dict) -> Any:
    """Call a loss, level by level where it takes one level at a time."""
    tapped = {k: v for k, v in inputs.items() if k in ('student', 'teacher')}
    if loss.takes_levels:
        single = {k: [v] for k, v in tapped.items() if isinstance(v, Tensor)}
        return loss(**{**inputs, **single})
    num_levels = {
        key: len(value)
        for key, value in tapped.items() if isinstance(value, (list, tuple))
    }
    if not num_levels:
        return loss(**inputs)
    if num_levels.keys() != tapped.keys() or \
            len(set(num_levels.values())) > 1 or 0 in num_levels.values():
        shown = {k: num_levels.get(k, describe(v)) for k, v in tapped.items()}
        raise ValueError(
            f'losses.{name}: the taps yield different numbers of levels: '
            f'{shown}; choose as many on both sides, by [a:b], or one, by '
            '[0], at the end of a tap')
    results = [
        loss(**{
            **inputs,
            **dict(zip(tapped, level))
        }) for level in zip(*tapped.values())
    ]
    if isinstance(results[0], dict):
        return {key: [r[key] for r in results] for key in results[0]}
    return results


@dataclass
class Slot:
    """A loss and what it is connected to.

    Attributes:
        name (str): Its key in the loss dict, such as ``loss_fgd``.
        loss (DistillLoss): The loss.
        wants (list[str]): Keywords of its ``forward``.
        taps (dict): Tap, list or dict of taps for ``student`` and
            ``teacher``; None where it doesn't look.
        schedule (Callable | None): Factor as a function of the progress.
        looked (bool): Whether the loss has looked at where it is tapped.
    """
    name: str
    loss: DistillLoss
    wants: list[str]
    taps: dict
    schedule: Callable[[float], float] | None = None
    looked: bool = False

    def summary(self) -> list:
        """Cells of a table's row."""
        num_parameters = sum(p.numel() for p in self.loss.parameters())
        return [
            self.name,
            type(self.loss).__name__, self.taps['student'],
            self.taps['teacher'], num_parameters
        ]

    def run(self, given: dict) -> dict:
        """Compute the loss and name its entries as mmengine wants them.

        Args:
            given (dict): All of :data:`INPUTS`.

        Returns:
            dict: Entries of the loss dict. The key ``loss`` of a result
            becomes the slot's name and other losses ``name.key``; statistics
            lose the ``loss_`` of the name, so that they are not added up.

        Raises:
            ValueError: If the taps yield different numbers of levels, or have
                the images on their second axis where the loss minds.
        """
        if self.loss.images_first and given.get('data_samples'):
            for side in ('student', 'teacher'):
                check_images_first(self.name, side, given.get(side),
                                   len(given['data_samples']))
        if not self.looked and given.get('student_model') is not None and \
                self.taps.get('student') is not None:
            self.looked = True
            map_taps(
                self.taps['student'],
                lambda tap: self.loss.look_at_tap(given['student_model'],
                                                  parse_tap(tap).path))
        result = _call(self.name, self.loss, {k: given[k] for k in self.wants})
        if not isinstance(result, dict):
            result = {'loss': result}
        factor = self.schedule(given['progress']) if self.schedule else 1.0
        entries = {}
        for key, value in result.items():
            if 'loss' not in key:
                entries[f'{short_name(self.name)}.{key}'] = value
                continue
            if isinstance(value, (list, tuple)):
                value = [factor * part for part in value]
            else:
                value = factor * value
            entries[self.name if key == 'loss' else f'{self.name}.{key}'] = \
                value
        return entries
