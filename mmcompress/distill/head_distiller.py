"""Head-only self-distillation: a new head learns from the old one."""
import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from .distiller import Distiller, Slot
from .inherit import inherit
from .taps import Taps, map_tensors
from .teacher import Teacher


class HeadTeacher(Teacher):
    """A trained model whose head also runs on the student's features.

    Args:
        cfg (dict | str): See :class:`Teacher`, as the others.
        checkpoint (str | None): What was trained before; the student's
            backbone and neck come from it, too.
        ignore (list[str]): Keys that the checkpoint may lack or have too
            many, as regular expressions.
        allow_random (bool): Whether random weights are wanted, for tests.
        check_modes (bool): Whether to refuse, in the first step, taps that
            yield something else in training mode.
    """

    def __init__(self,
                 cfg: dict | str,
                 checkpoint: str | None = None,
                 ignore: list[str] | None = None,
                 allow_random: bool = False,
                 check_modes: bool = True) -> None:
        super().__init__(
            cfg,
            checkpoint,
            ignore,
            allow_random=allow_random,
            check_modes=check_modes)

    def build(self, student: nn.Module, specs: dict) -> None:
        """Build and load it.

        Raises:
            ValueError: If the student would see other features than it did.
        """
        super().build(student, specs)
        if self._convert is not None:
            raise ValueError('head_only: the data_preprocessors of student '
                             'and teacher.cfg differ, so the frozen backbone '
                             'would see other inputs than in its training')

    def on_features(self, features: tuple[Tensor], weight: Tensor) -> dict:
        """Run its head without gradients.

        Args:
            features (tuple[Tensor]): What the student's head gets.
            weight (Tensor): One of the student's; it goes where that is.

        Returns:
            dict: What its taps yield, by name of the loss.
        """
        # not the features: autocast has those in half precision
        self._follow(weight)

        def run(model: nn.Module) -> None:
            # a copy: the head may change its input in place
            model.head.forward(map_tensors(features, Tensor.clone))

        with torch.no_grad(), self.taps.record(self.model) as calls:
            run(self.model)
        values = self.taps.select(calls)
        if self._num_calls is None:
            self._num_calls = {path: len(seen) for path, seen in calls.items()}
            self._check_first(values, self._num_calls, run)
        return values


class HeadDistiller(Distiller):
    """Trains a new head on frozen features, by the teacher's head alone.

    The student's other parts take the teacher's weights, stay in eval mode
    and get no gradient, and they run once for both heads. The student's own
    losses are left out. Its head starts from its own initialisation, or from
    the teacher's with ``init_student=['head']``.

    Args:
        student (nn.Module): The model, with a part ``head``.
        teacher (HeadTeacher | None): Of the same architecture.
        slots (list[Slot]): The losses; their taps for the teacher lie in
            its head.
        init_student (list[str]): ``['head']`` or nothing.

    Raises:
        ValueError: If there is no teacher.
        KeyError: If the student lacks the head or a tapped module.
    """

    def __init__(self, student: nn.Module, teacher: HeadTeacher | None,
                 slots: list[Slot], init_student: list[str]) -> None:
        super().__init__(student, teacher, slots, init_student)
        if teacher is None:
            raise ValueError('head_only: the features are a teacher\'s, but '
                             'there is no key `teacher`')
        self._features = Taps('head@input', student, 'student')
        self.frozen = [
            name for name, part in student.named_children()
            if name != 'head' and next(part.parameters(), None) is not None
        ]
        for name in self.frozen:
            student.get_submodule(name).requires_grad_(False)

    def train(self, mode: bool = True) -> 'HeadDistiller':
        """The student calls it after its other parts', as its last one."""
        super().train(mode)
        for name in self.frozen:
            self.student.get_submodule(name).eval()
        return self

    def init_student_weights(self) -> None:
        """The head's own initialisation, and the teacher's features.

        Raises:
            ValueError: If a frozen part is not the teacher's.
        """
        self.prepare()
        self.student.head.init_weights()
        for name in self.frozen:
            try:
                self.student.get_submodule(name).load_state_dict(
                    self.teacher.model.get_submodule(name).state_dict())
            except (AttributeError, RuntimeError) as error:
                raise ValueError(
                    f'head_only: {name} must be the one of teacher.cfg; '
                    f'{error}') from error
        print_log(
            f'Frozen, from {self.teacher}: {", ".join(self.frozen)}',
            logger='current')
        if self.init_student:
            inherit(self.student, self.teacher.model, self.init_student)
            self.init_student = []

    def observe(self, inputs: Tensor, data_samples: list,
                **kwargs) -> tuple[dict, dict]:
        """The student's statistics, and what the taps yield, by side."""
        with self.taps.record(self.student) as calls, \
                self._features.record(self.student) as head_calls:
            logged = type(self.student).loss(self.student, inputs,
                                             data_samples, **kwargs)
        taught = self.teacher.on_features(
            self._features.select(head_calls),
            next(self.student.head.parameters()))
        statistics = {k: v for k, v in logged.items() if 'loss' not in k}
        return statistics, dict(
            student=self.taps.select(calls), teacher=taught)
