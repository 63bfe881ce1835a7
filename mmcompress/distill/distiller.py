"""One training step with a teacher."""
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from mmcompress.tables import format_table
from .classes import check_classes
from .explain import hints, in_words
from .first_steps import (WeightCheck, check_learns, learning_taps,
                          weight_warning)
from .gradient_norms import gradient_norms, short_name
from .inherit import inherit
from .losses.base import DistillLoss
from .losses.checks import check_images_first, describe
from .schedule import training_progress
from .taps import Taps, map_taps, parse_tap
from .teacher import Teacher

# keywords that a loss may name in its forward; the distiller passes those
INPUTS = ('student', 'teacher', 'data_samples', 'student_model',
          'teacher_model', 'progress')


def _call(loss: DistillLoss, inputs: dict) -> Any:
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
            f'the taps yield different numbers of levels: {shown}; choose as '
            'many on both sides, by [a:b], or one, by [0], at the end of a '
            'tap')
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
        weights (dict): Arguments that weigh the loss, for messages.
        looked (bool): Whether the loss has looked at where it is tapped.
    """
    name: str
    loss: DistillLoss
    wants: list[str]
    taps: dict
    schedule: Callable[[float], float] | None = None
    weights: dict[str, float] = field(default_factory=dict)
    looked: bool = False

    def summary(self) -> list:
        """Cells of a table's row."""
        num_parameters = sum(p.numel() for p in self.loss.parameters())
        return [
            self.name,
            type(self.loss).__name__, self.taps['student'],
            self.taps['teacher'], num_parameters
        ]

    def factor(self, progress: float) -> float:
        """Factor of the schedule."""
        return self.schedule(progress) if self.schedule else 1.0

    def _look(self, given: dict) -> None:
        """Check where the images are, and let the loss see its taps."""
        if self.loss.images_first and given.get('data_samples'):
            for side in ('student', 'teacher'):
                check_images_first(side, given.get(side),
                                   len(given['data_samples']))
        if self.looked or given.get('student_model') is None:
            return
        self.looked = True
        for side, look in (('student', self.loss.look_at_tap),
                           ('teacher', self.loss.look_at_teacher_tap)):
            model, taps = given.get(f'{side}_model'), self.taps.get(side)
            if model is not None and taps is not None:
                map_taps(
                    taps,
                    lambda tap, look=look, model=model: look(
                        model,
                        parse_tap(tap).path))

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
            Exception: What the loss raises, which then names the loss and
                its taps.
        """
        try:
            self._look(given)
            result = _call(self.loss, {k: given[k] for k in self.wants})
        except Exception as error:
            taps = ''.join(f', {side} {tap!r}'
                           for side, tap in self.taps.items() if tap)
            raise in_words(
                error,
                f'losses.{self.name} ({type(self.loss).__name__}{taps})',
                hints(self.taps, given))
        if not isinstance(result, dict):
            result = {'loss': result}
        factor = self.factor(given.get('progress', 0.0))
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


class Distiller(nn.Module):
    """Adds distillation losses to the student's own.

    It is attached to the student as ``student.distill``, and its ``loss``
    stands in for the student's. Only the losses (with their trainable
    adapters) are submodules; the student and the teacher are plain
    attributes, so neither is trained, saved or moved twice.

    Args:
        student (nn.Module): The model to train.
        teacher (Teacher | None): None where no loss looks at one.
        slots (list[Slot]): The losses.
        init_student (list[str]): Parts that start from the teacher's weights.

    Raises:
        ValueError: If something looks at a teacher and there is none.
        KeyError: If the student lacks a tapped module.

    Attributes:
        log_gradients (bool): Whether the next steps also report the norm of
            each loss's gradient at the student's taps.
        weight_check (WeightCheck | None): Warns of unbalanced weights in the
            first steps.
    """

    def __init__(self, student: nn.Module, teacher: Teacher | None,
                 slots: list[Slot], init_student: list[str]) -> None:
        super().__init__()
        # past nn.Module's bookkeeping: the student already holds this module
        object.__setattr__(self, 'student', student)
        self.teacher = teacher
        self.init_student = init_student
        for slot in slots:
            self.add_module(slot.name, slot.loss)
        self._slots = slots
        self._taps = {
            side: {s.name: s.taps[side] for s in slots if s.taps[side]}
            for side in ('student', 'teacher')
        }  # yapf: disable
        if teacher is None and (self._taps['teacher'] or init_student):
            raise ValueError('losses or init_student look at a teacher, but '
                             'there is no key `teacher`')
        self.taps = Taps(self._taps['student'], student, 'student')
        self.log_gradients = False
        self.weight_check: WeightCheck | None = WeightCheck()
        self._learns = False

    def init_student_weights(self) -> None:
        """The student's ``init_weights``, then the teacher's part.

        mmengine calls it when training starts, before it loads or resumes a
        checkpoint. Testing doesn't, and so needs no teacher.
        """
        type(self.student).init_weights(self.student)
        self.prepare()
        if self.init_student:
            inherit(self.student, self.teacher.model, self.init_student)
            self.init_student = []

    def prepare(self) -> None:
        """Build the teacher, unless that was done."""
        if self.teacher is None or self.teacher.model is not None:
            return
        self.teacher.build(self.student, self._taps['teacher'])
        check_classes(self.student, self.teacher, self._taps,
                      self.init_student)
        print_log(
            format_table(
                f'{type(self.student).__name__} learns from {self.teacher}',
                ['loss', 'type', 'student', 'teacher', 'own parameters'],
                [slot.summary() for slot in self._slots]),
            logger='current')

    def observe(self, inputs: Tensor, data_samples: list | None,
                **kwargs) -> tuple[dict, dict]:
        """The student's own losses, and what the taps yield, by side."""
        seen = {'teacher': {}}
        if self._taps['teacher']:
            seen['teacher'] = self.teacher(inputs, data_samples)
        with self.taps.record(self.student) as calls:
            losses = type(self.student).loss(self.student, inputs,
                                             data_samples, **kwargs)
        seen['student'] = self.taps.select(calls)
        return losses, seen

    # a compiled graph would hold the modules' own forward, not the recording
    @torch.compiler.disable
    def loss(self,
             inputs: Tensor,
             data_samples: list | None = None,
             **kwargs) -> dict:
        """The student's own losses and the distillation losses.

        Args:
            inputs (Tensor): Preprocessed images, shape (N, 3, H, W).
            data_samples (list | None): Their data samples.

        Returns:
            dict: Losses by name, as mm models return them.
        """
        self.prepare()
        losses, seen = self.observe(inputs, data_samples, **kwargs)
        others = dict(data_samples=data_samples, progress=training_progress())
        own = {}
        for slot in self._slots:
            tapped = {side: seen[side].get(slot.name) for side in seen}
            models = dict(
                student_model=self.learner(slot),
                teacher_model=self.tutor(slot))
            own[slot.name] = slot.run({**tapped, **models, **others})
        if torch.is_grad_enabled():
            self._check_gradients(losses, own, seen['student'],
                                  others['progress'])
        for name, entries in own.items():
            if taken := entries.keys() & losses.keys():
                raise ValueError(f'the losses already have {sorted(taken)}; '
                                 f'rename losses.{name}')
            losses.update(entries)
        if self.log_gradients:
            losses.update(gradient_norms(losses, seen['student']))
        return losses

    def learner(self, slot: Slot) -> nn.Module:
        """The model that learns from a loss."""
        return self.student

    def tutor(self, slot: Slot) -> nn.Module | None:
        """The model that it learns from; None without a teacher."""
        return self.teacher and self.teacher.model

    def _check_gradients(self, task: dict, own: dict, tapped: dict,
                         progress: float) -> None:
        """Look at the gradients in the first steps; see first_steps.py."""
        slots = {slot.name: slot for slot in self._slots}
        if not self._learns:
            for name, slot in slots.items():
                if slot.taps['student']:
                    check_learns(name, slot.taps['student'], tapped[name],
                                 slot.loss.reads_only, self.learner(slot))
            self._learns = True
        if self.weight_check is None:
            return
        factors = {name: slots[name].factor(progress) for name in slots}
        trained = {
            name: learning_taps(tapped[name], slots[name].loss.reads_only)
            for name in tapped
        }
        for name in self.weight_check(task, own, trained, factors):
            weight_warning(name, slots[name].taps['student'],
                           self.weight_check.ratio(name), slots[name].weights,
                           slots[name].schedule is not None)
        if self.weight_check.done:
            self.weight_check = None
