"""A distiller is attached to its student, and found there."""
from typing import Any

import torch.nn as nn

from mmcompress.hooks.standard import remind_of_hooks
from mmcompress.model.checkpoint import is_plain
from .distiller import Distiller


def _refuse_foreign_weights(student: nn.Module, keys: Any) -> None:
    """Load hook: mmengine only warns when no key of a checkpoint fits."""
    own = {k for k, _ in student.named_parameters() if is_plain(k)}
    if own and own <= set(keys.missing_keys):
        raise RuntimeError(
            f'no key of the checkpoint belongs to {type(student).__name__}; '
            f'it has keys such as {", ".join(keys.unexpected_keys[:3])}')


def attach(distiller: Distiller, check_weights: bool = True) -> nn.Module:
    """Let a distiller's loss stand in for its student's own.

    Args:
        distiller (Distiller): It.
        check_weights (bool): Whether it warns of unbalanced weights.

    Returns:
        nn.Module: The student, whose ``distill`` is the distiller.
    """
    if not check_weights:
        distiller.weight_check = None
    student = distiller.student
    student.distill = distiller
    # on the instance: its class, and so whatever asks for it, stays the same
    student.loss = distiller.loss
    student.init_weights = distiller.init_student_weights
    student.register_load_state_dict_post_hook(_refuse_foreign_weights)
    student.register_forward_pre_hook(remind_of_hooks)
    return student


def distiller_of(model: nn.Module) -> Distiller | None:
    """What trains a model beside its own losses; None without any.

    Args:
        model (nn.Module): Any model, without a wrapper.
    """
    found = getattr(model, 'distill', None)
    return found if isinstance(found, Distiller) else None
