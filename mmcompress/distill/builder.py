"""Build a student with a distiller attached, from a config."""
import inspect
from functools import partial

import torch.nn as nn

from mmcompress.builder import build_inner
from mmcompress.registry import MODELS, SCHEDULES
from .attached import attach
from .distiller import INPUTS, Distiller, Slot
from .head_distiller import HeadDistiller, HeadTeacher
from .shared_draws import SharedDraws, SharingDistiller
from .teacher import Teacher


def build_slot(name: str, cfg: dict) -> Slot:
    """Build a loss and check that its taps are what it looks at.

    Args:
        name (str): Key in the loss dict; must begin with ``loss_``.
        cfg (dict): Config of the loss, with its taps under ``student`` and
            ``teacher`` and optionally a ``schedule``.

    Raises:
        ValueError: If the name doesn't begin so, or a tap is missing
            or is not looked at.
        TypeError: If the loss asks for what the distiller doesn't have.
    """
    if not name.startswith('loss_'):
        raise ValueError(f'losses.{name}: mmengine adds up what has "loss" in '
                         f'its name, and the rest is logged by what follows '
                         f'"loss_"; call it loss_{name}')
    cfg = dict(cfg)
    taps = {side: cfg.pop(side, None) for side in ('student', 'teacher')}
    schedule = cfg.pop('schedule', None)
    with MODELS.switch_scope_and_registry('mmcompress') as registry:
        loss = registry.build(cfg)
        schedule = schedule and SCHEDULES.build(schedule)
    wants = list(inspect.signature(loss.forward).parameters)
    if not set(wants) <= set(INPUTS):
        raise TypeError(f'{type(loss).__name__}.forward names {wants}; a loss '
                        f'gets only {", ".join(INPUTS)}')
    for side, tap in taps.items():
        if tap is None and side in wants:
            raise ValueError(f'losses.{name}: {type(loss).__name__} needs a '
                             f'tap `{side}`')
        if tap is not None and side not in wants:
            raise ValueError(f'losses.{name}: {type(loss).__name__} does not '
                             f'look at the {side}; drop {side}={tap!r}')
    arguments = inspect.signature(type(loss)).parameters
    weights = {
        key: cfg.get(key, arguments[key].default)
        for key in loss.weight_names if key in arguments
    }
    return Slot(name, loss, wants, taps, schedule, weights)


@MODELS.register_module()
def Distill(student: dict,
            losses: dict,
            teacher: dict | None = None,
            init_student: list[str] | None = None,
            head_only: bool = False,
            shared_draws: str | dict | None = None,
            check_weights: bool = True,
            data_preprocessor: dict | None = None,
            **unexpected) -> nn.Module:
    """Build a model that learns from a teacher.

    The result *is* the student: its type, its parameter names and its
    ``predict`` are untouched. ``student.distill`` is the :class:`Distiller`,
    whose ``loss`` stands in for the student's own.

    Args:
        student (dict): Config of any mm model.
        losses (dict): Name -> config of a distillation loss with its taps.
        teacher (dict | None): ``cfg``, ``checkpoint`` and other arguments of
            :class:`mmcompress.distill.teacher.Teacher`.
        init_student (list[str] | None): Names of the student's parts that
            start from the teacher's weights ("inheriting").
        head_only (bool): Only the head learns, on the teacher's frozen
            features; see :class:`HeadDistiller`.
        shared_draws (str | dict | None): A method of both models that draws
            random numbers, such as ``'backbone.random_masking'``: they draw
            the same. See :class:`SharedDraws`.
        check_weights (bool): Whether to warn, in the first steps, of a loss
            whose gradient dwarfs that of the student's own ones, or drowns.
        data_preprocessor (dict | None): The student's, where the config has
            it outside of ``model``.

    Returns:
        nn.Module: The student.

    Raises:
        TypeError: If keys of a base config were not deleted, or if ``losses``
            is no dict.
        ValueError: If ``shared_draws`` is given with ``head_only``.
        KeyError: If the student lacks a tapped module or a method of
            ``shared_draws``.
    """
    if head_only and shared_draws:
        raise ValueError('shared_draws: with head_only there is only one '
                         'forward, whose draws need not be shared')
    model = build_inner('Distill', student, data_preprocessor, unexpected)
    if not isinstance(losses, dict):
        raise TypeError('mmcompress.Distill: losses must be a dict of names '
                        "and configs, such as dict(loss_fgd=dict(type='"
                        f"mmcompress.FGDLoss', ...)), got {losses!r}")
    distiller = HeadDistiller if head_only else Distiller
    if shared_draws:
        distiller = partial(SharingDistiller, SharedDraws(shared_draws))
    teacher_type = HeadTeacher if head_only else Teacher
    return attach(
        distiller(model, None if teacher is None else teacher_type(**teacher),
                  [build_slot(name, cfg) for name, cfg in losses.items()],
                  init_student or []), check_weights)
