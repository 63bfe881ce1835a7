"""Mutual learning: two models are trained together, each teaches the other."""
from typing import Any

import torch.nn as nn
from torch import Tensor

from mmcompress.builder import build_inner
from mmcompress.model.config import build_model, read_config
from mmcompress.registry import MODELS
from .attached import attach
from .builder import build_slot
from .distiller import Distiller, Slot
from .taps import Taps, map_taps

SIDES = dict(student='teacher', teacher='student')


def opposite(cfg: dict) -> dict:
    """Config of the same loss, in which the teacher learns from the student.

    What comes in pairs, such as ``student_channels`` and
    ``teacher_channels``, and the taps, change places.
    """
    swapped = {}
    for key, value in cfg.items():
        side, *rest = key.split('_', 1)
        other = '_'.join([SIDES.get(side, side), *rest])
        swapped[other if other in cfg else key] = value
    return swapped


def detached(tapped: Any) -> Any:
    """What a tap yields, without gradient."""
    return map_taps(tapped, lambda x: x.detach() if isinstance(x, Tensor)
                    else x)  # yapf: disable


def seen_of(own: list[Slot], others: list[Slot]) -> dict:
    """What losses see of a model: its own, and those of the other model."""
    specs = {slot.name: slot.taps['student'] for slot in own}
    specs.update((slot.name, slot.taps['teacher']) for slot in others)
    return {name: taps for name, taps in specs.items() if taps}


class MutualDistiller(Distiller):
    """Two models learn from each other, by the same losses.

    The peer belongs to the distiller, and so to the optimizer and to the
    checkpoint. It sees the student's preprocessed inputs.

    Args:
        student (nn.Module): The model that remains.
        peer (nn.Module): The model that is trained beside it.
        slots (list[Slot]): Losses of the student; the peer is the teacher.
        peer_slots (list[Slot]): Losses of the peer; the student is the
            teacher.

    Raises:
        TypeError: If a loss looks at whole models.
        KeyError: If a model lacks a tapped module.
    """

    def __init__(self, student: nn.Module, peer: nn.Module, slots: list[Slot],
                 peer_slots: list[Slot]) -> None:
        super().__init__(student, None, [], [])
        self._slots = slots + peer_slots
        for slot in self._slots:
            if {'student_model', 'teacher_model'} & {*slot.wants}:
                raise TypeError(
                    f'losses.{slot.name}: {type(slot.loss).__name__} looks at '
                    'whole models and so is not for mutual learning')
            self.add_module(slot.name, slot.loss)
        self.peer = peer
        self._own = [slot.name for slot in slots]
        self.taps = Taps(seen_of(slots, peer_slots), student, 'student')
        self.peer_taps = Taps(seen_of(peer_slots, slots), peer, 'peer')

    def init_student_weights(self) -> None:
        """Both models' ``init_weights``."""
        super().init_student_weights()
        self.peer.init_weights()

    def learner(self, slot: Slot) -> nn.Module:
        """The model that learns from a loss."""
        return self.student if slot.name in self._own else self.peer

    def tutor(self, slot: Slot) -> nn.Module:
        """The model that it learns from."""
        return self.peer if slot.name in self._own else self.student

    def observe(self, inputs: Tensor, data_samples: list | None,
                **kwargs) -> tuple[dict, dict]:
        """Both models' own losses, and what the taps yield, by role."""
        # the student may change its input in place
        peer_inputs = inputs.clone()
        losses, seen = super().observe(inputs, data_samples, **kwargs)
        with self.peer_taps.record(self.peer) as calls:
            peer_losses = self.peer.loss(peer_inputs, data_samples, **kwargs)
        models = seen['student'], self.peer_taps.select(calls)
        roles = dict(student={}, teacher={})
        for slot in self._slots:
            own = slot.name in self._own
            learner, teacher = models if own else reversed(models)
            roles['student'][slot.name] = learner.get(slot.name)
            roles['teacher'][slot.name] = detached(teacher.get(slot.name))
        losses.update((f'peer_{k}', value) for k, value in peer_losses.items())
        return losses, roles


@MODELS.register_module()
def MutualDistill(student: dict,
                  peer: dict | str,
                  losses: dict,
                  check_weights: bool = True,
                  data_preprocessor: dict | None = None,
                  **unexpected) -> nn.Module:
    """Build a model that is trained together with a peer.

    As :func:`mmcompress.Distill`, whose teacher is a peer that learns, too
    (Zhang et al., CVPR 2018, arXiv:1706.00384): both have their own losses,
    and each distillation loss works in both directions, in which the other
    model gets no gradient. ``loss_x_peer`` and ``peer_loss`` are the peer's.

    The result is the student; the peer is ``distill.peer``.

    Differs from the official code of mutual learning: both models take their
    step at the same time, with one optimizer.

    Args:
        student (dict): Config of any mm model.
        peer (dict | str): The same, or what
            :func:`mmcompress.model.config.read_config` takes.
        losses (dict): Name -> config of a distillation loss with its taps, as
            the student's; the taps for the teacher are the peer's.
        check_weights (bool): See :func:`mmcompress.Distill`.
        data_preprocessor (dict | None): The student's, where the config has
            it outside of ``model``.

    Returns:
        nn.Module: The student.

    Raises:
        TypeError: If keys of a base config were not deleted, or a loss looks
            at whole models.
        KeyError: If a model lacks a tapped module.
    """
    model = build_inner('MutualDistill', student, data_preprocessor,
                        unexpected)
    return attach(
        MutualDistiller(
            model, build_model(read_config(peer, key='peer')),
            [build_slot(name, cfg) for name, cfg in losses.items()], [
                build_slot(f'{name}_peer', opposite(cfg))
                for name, cfg in losses.items()
            ]), check_weights)
