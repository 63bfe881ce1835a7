"""Whether the losses can teach, and pull about as hard as the task."""
import logging
from math import isfinite, prod
from typing import Any

import torch.nn as nn
from mmengine.logging import print_log

from .gradient_norms import gradient_norm
from .taps import each_tap, map_taps, parse_tap, tensors_of

# steps in which the gradients are compared
STEPS = [2**i for i in range(8)]
# how many times as hard as the task a loss may pull, at most and at least;
# in the first steps, when heads send small gradients, 128 / step times that
MOST, LEAST = 30, 0.01
# small gradients survive half precision, as with a GradScaler
SCALE = 1024.0


def _levels_without(tapped: Any) -> list[int] | None:
    """Which levels have no gradient; None if all have."""
    levels = tapped if isinstance(tapped, (list, tuple)) else [tapped]
    without = [
        i for i, level in enumerate(levels)
        if any(t.is_floating_point() and not t.requires_grad
               for t in tensors_of(level))
    ]  # yapf: disable
    return without or None


def check_learns(name: str, spec: Any, tapped: Any, reads_only: tuple,
                 model: nn.Module) -> None:
    """Refuse taps whose output has no gradient: nothing could learn there.

    Args:
        name (str): Of the loss.
        spec (Any): Its taps of the student.
        tapped (Any): What they yield.
        reads_only (tuple): See :class:`DistillLoss`.
        model (nn.Module): The student.

    Raises:
        ValueError: If an output has no gradient; says why.
    """
    if 'student' in reads_only:
        return
    if isinstance(spec, dict):
        spec = {k: v for k, v in spec.items() if k not in reads_only}
    for tap, value in each_tap(map_taps(spec, parse_tap), tapped):
        without = _levels_without(value)
        if not without:
            continue
        parameters = list(model.get_submodule(tap.path).parameters())
        which = ''
        if isinstance(value, (list, tuple)) and len(without) < len(value):
            which = f' in {", ".join(f"[{i}]" for i in without)}'
            why = 'what gives it is frozen or detached'
        elif not any(p.requires_grad for p in model.parameters()):
            why = 'all parameters of the student are frozen'
        elif tap.of_input:
            why = 'what comes before it is frozen or detached, or the images'
        elif any(p.requires_grad for p in parameters):
            why = f'{tap.path} detaches it or computes it without gradients'
        else:
            why = (f'neither {tap.path} nor what comes before it is trained '
                   '(frozen_stages, requires_grad=False), or it is detached')
        raise ValueError(
            f'losses.{name}: what the student\'s tap {tap.text!r} yields has '
            f'no gradient{which}, so that the loss can train nothing but its '
            f'own parameters: {why}. Tap what is trained, or train what is '
            'tapped; where a loss only looks at an entry of a dict of taps, '
            'its class names the key in `reads_only`')


def learning_taps(tapped: Any, reads_only: tuple[str, ...]) -> Any:
    """What a loss taps, without what it only looks at.

    There it has no gradient, and the task may have any.
    """
    if not isinstance(tapped, dict):
        return tapped
    return {k: v for k, v in tapped.items() if k not in reads_only}


class WeightCheck:
    """Warns of a loss that dwarfs the student's own ones, or drowns in them.

    It compares the norms of the gradients at what the loss taps, in
    :data:`STEPS`: in each, that costs one more backward per loss, down to the
    taps. All processes measure in the same steps, whatever they see, since a
    synchronised norm may lie in between.
    """

    def __init__(self) -> None:
        self.num_steps = 0
        self.ratios: dict[str, list[float]] = {}
        self.warned: set[str] = set()

    def __call__(self, task: dict, entries: dict[str, dict],
                 tapped: dict[str, Any], factors: dict[str,
                                                       float]) -> list[str]:
        """Compare, where the step is one of those.

        Args:
            task (dict): The student's own losses.
            entries (dict): Loss dicts by name of the distillation loss.
            tapped (dict): What its taps of the student yield.
            factors (dict): Factors of the schedules, which don't count.

        Returns:
            list[str]: Losses to warn of, which :attr:`ratios` tells more of.
        """
        self.num_steps += 1
        if self.num_steps not in STEPS:
            return []
        try:
            for name, own in entries.items():
                pull, task_pull = (
                    self._pull(losses, tapped.get(name))
                    for losses in (own, task))
                # zero: nothing to compare with, or nothing yet
                if pull and task_pull:
                    self.ratios.setdefault(name, []).append(pull / task_pull /
                                                            factors[name])
        except RuntimeError as error:
            print_log(
                'The gradients of the losses could not be compared at '
                f'{name}: {error}',
                logger='current')
        early = STEPS[-1] / self.num_steps
        odd = [
            name for name in self.ratios if name not in self.warned
            and not LEAST / early <= self.ratio(name) <= MOST * early
        ]
        self.warned.update(odd)
        return odd

    @staticmethod
    def _pull(losses: dict, tapped: Any) -> float:
        """Norm of the gradient; 0 where there is none, or it overflows."""
        norm = gradient_norm(losses, tapped, SCALE)
        norm = 0.0 if norm is None else norm.item()
        return norm if isfinite(norm) else 0.0

    @property
    def done(self) -> bool:
        """Whether all steps are over."""
        return self.num_steps >= STEPS[-1]

    def ratio(self, name: str) -> float:
        """Geometric mean over the last measurements."""
        last = self.ratios[name][-3:]
        return prod(last)**(1 / len(last))


def weight_warning(name: str, taps: Any, ratio: float,
                   weights: dict[str, float], scheduled: bool) -> None:
    """Warn of a loss, with the weight that would balance it.

    Args:
        name (str): Of the loss.
        taps (Any): Of the student.
        ratio (float): How many times as hard as the task it pulls.
        weights (dict): Its weights by name; may be empty.
        scheduled (bool): Whether it has a schedule.
    """
    factor = 1 / ratio
    if weights:
        advice = ', '.join(f'{k}={v * factor:.2g}' for k, v in weights.items())
    elif scheduled:
        advice = f'the factors of its schedule times {factor:.2g}'
    else:
        advice = ("schedule=dict(type='mmcompress.PiecewiseLinear', "
                  f'points=[(0, {factor:.2g})])')
    effect = ('it replaces the task there'
              if ratio > 1 else 'it changes next to nothing')
    print_log(
        f'losses.{name} pulls {ratio:.2g} times as hard at {taps} as the '
        f'student\'s own losses together (norms of the gradients): {effect}. '
        f'Both pull alike with {advice} (times {factor:.2g}); try from a '
        'third to ten times that. Weights belong to the data and the models '
        'that they were chosen for. `check_weights=False` in Distill turns '
        'this check off',
        logger='current',
        level=logging.WARNING)
