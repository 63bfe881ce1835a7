"""Shared draws: teacher and student draw the same random numbers."""
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn as nn
from torch import Tensor

from .distiller import Distiller, Slot
from .teacher import Teacher


def draw_seed() -> int:
    """A seed from torch's generator, as one draw of the training."""
    return int(torch.randint(2**62, ()))


def _owner(model: nn.Module, path: str, side: str) -> tuple[nn.Module, str]:
    """The module that a method belongs to, and the method's name."""
    module, _, method = path.rpartition('.')
    try:
        owner = model.get_submodule(module)
    except AttributeError:
        owner = None
    if not callable(getattr(owner, method, None)):
        raise KeyError(f'shared_draws: the {side} ({type(model).__name__}) '
                       f'has no method {path!r}')
    return owner, method


@contextmanager
def _seeded(owner: nn.Module, method: str, seed: int) -> Iterator[None]:
    """Let a method draw from generators with this seed, and from no other."""
    draw: Callable = getattr(owner, method)
    own = {k: v for k, v in vars(owner).items() if k == method}

    def seeded(*args, **kwargs):
        device = next(owner.parameters()).device
        devices = [device] if device.type == 'cuda' else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return draw(*args, **kwargs)

    setattr(owner, method, seeded)
    try:
        yield
    finally:
        delattr(owner, method)
        vars(owner).update(own)


class SharedDraws:
    """Lets a method of teacher and student draw the same in each step.

    It is for models that mask their input at random, where the teacher's
    features are worth something only if the same is masked. Whatever else is
    random in the models, such as dropout, stays independent.

    Args:
        methods (str | dict): Path of the method, such as
            ``'backbone.random_masking'``, or a dict of one for ``student``
            and one for ``teacher``.

    Attributes:
        draw_seed (Callable): Gives the seed of a step. Replace it on an
            instance to inject draws. Defaults to :func:`draw_seed`.
    """

    def __init__(self, methods: str | dict) -> None:
        if isinstance(methods, str):
            methods = dict(student=methods, teacher=methods)
        if methods.keys() != {'student', 'teacher'}:
            raise ValueError('shared_draws is the path of a method, or a dict '
                             f'with student and teacher, got {methods}')
        self.methods = dict(methods)
        self.draw_seed = draw_seed

    def check(self, model: nn.Module, side: str) -> None:
        """Check that a model has the method.

        Raises:
            KeyError: If not.
        """
        _owner(model, self.methods[side], side)

    @contextmanager
    def step(self, student: nn.Module, teacher: nn.Module) -> Iterator[None]:
        """Within this, the methods draw the same.

        Args:
            student (nn.Module): Has ``methods['student']``.
            teacher (nn.Module): Has ``methods['teacher']``.
        """
        seed = self.draw_seed()
        models = dict(student=student, teacher=teacher)
        with ExitStack() as stack:
            for side, path in self.methods.items():
                owner = _owner(models[side], path, side)
                stack.enter_context(_seeded(*owner, seed))
            yield


class SharingDistiller(Distiller):
    """A distiller whose models draw the same random numbers.

    Args:
        draws (SharedDraws): What they share.
        student (nn.Module): See :class:`Distiller`, as the others.
        teacher (Teacher | None): Must be given.
        slots (list[Slot]): The losses.
        init_student (list[str]): Parts that start from the teacher's weights.

    Raises:
        ValueError: If there is no teacher.
        KeyError: If the student lacks the method or a tapped module.
    """

    def __init__(self, draws: SharedDraws, student: nn.Module,
                 teacher: Teacher | None, slots: list[Slot],
                 init_student: list[str]) -> None:
        if teacher is None:
            raise ValueError('shared_draws: there is no key `teacher` to '
                             'share with')
        super().__init__(student, teacher, slots, init_student)
        draws.check(student, 'student')
        self.draws = draws

    def prepare(self) -> None:
        """Build the teacher, unless that was done."""
        super().prepare()
        self.draws.check(self.teacher.model, 'teacher')

    def observe(self, inputs: Tensor, data_samples: list | None,
                **kwargs) -> tuple[dict, dict]:
        """The student's own losses, and what the taps yield, by side."""
        with self.draws.step(self.student, self.teacher.model):
            return super().observe(inputs, data_samples, **kwargs)
