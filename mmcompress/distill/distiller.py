"""One training step with a teacher."""
import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from mmcompress.tables import format_table
from .classes import check_classes
from .gradient_norms import gradient_norms
from .inherit import inherit
from .losses.base import Slot
from .schedule import training_progress
from .taps import Taps
from .teacher import Teacher


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
        others = dict(
            data_samples=data_samples,
            student_model=self.student,
            teacher_model=self.teacher and self.teacher.model,
            progress=training_progress())
        for slot in self._slots:
            tapped = {side: seen[side].get(slot.name) for side in seen}
            entries = slot.run({**tapped, **others})
            if taken := entries.keys() & losses.keys():
                raise ValueError(f'the losses already have {sorted(taken)}; '
                                 f'rename losses.{slot.name}')
            losses.update(entries)
        if self.log_gradients:
            losses.update(gradient_norms(losses, seen['student']))
        return losses
