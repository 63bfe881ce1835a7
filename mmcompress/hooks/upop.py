"""Search for the units that a model can do without, by UPop."""
import logging
from functools import partial

import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from mmcompress.pruning.mask_gradients import MaskGradients
from mmcompress.pruning.masks import UnitMask, masked_units
from mmcompress.pruning.units import Units
from mmcompress.pruning.upop import lower_masks, progress, updates_at
from mmcompress.registry import HOOKS
from mmcompress.tables import format_table


def _clip_after(derive, clip, *args, **kwargs):
    """Clip gradients after the masks' have been derived from them."""
    derive()
    return clip(*args, **kwargs)


@HOOKS.register_module()
class UPopHook(Hook):
    """Lowers masks of units to 0 while the model trains.

    Every few steps all units are ranked by the gradients of their masks,
    summed since the start, whatever layer, tower or kind they belong to. As
    many as the schedule says get a mask below 1, the same one; the others
    get 1, also those that had less. At the end masks are 1 or exactly 0.
    Shi et al., ICML 2023, arXiv:2301.13741.

    The step :class:`mmcompress.pruning.MaskUnits` has to give the model
    masks. What a resumed run needs is in its checkpoints. Under gradient
    accumulation steps of the optimizer are counted, not iterations.

    Differs from the official code: attention channels weigh as many
    parameters as they have, not a rounded or a common number, see
    ``attn_weight``; L1 penalties of the masks are left out, since they change
    nothing but the value of the loss; under AMP gradients are summed, too.

    Args:
        p (float | None): Share that goes of the parameters that masks
            multiply, with those that read what they mask. None: the hook does
            nothing, for configs that inherit one of a search.
        interval (int): Optimizer steps from one ranking to the next.
        total (int | None): Steps of the search. Defaults to the whole
            training; after them masks stay.
        skip_first (bool): Whether masks stay 1 after the first step. False:
            as official code has it for models with two towers.
        attn_weight (str | float): What a channel of all heads counts, when
            parameters are counted. ``'params'``: both it and a hidden unit
            count as many parameters as leave with them. A number: as many
            hidden units; official code has 12 for DeiT-S and Segmenter-S,
            and 36 for BLIP and CLIP.

    Raises:
        ValueError: On a value that is not allowed; if there are no masks, if
            they are not those that a search begins with, if what they
            multiply is not trained, or the training is shorter than the
            search.
    """

    # before what copies or stores the model after an iteration
    priority = 'ABOVE_NORMAL'

    def __init__(self,
                 p: float | None,
                 interval: int,
                 total: int | None = None,
                 skip_first: bool = True,
                 attn_weight: str | float = 'params') -> None:
        if p is not None and not 0 < p < 1:
            raise ValueError(f'UPopHook: p must be between 0 and 1, got {p}')
        for name, value in dict(interval=interval, total=total).items():
            if value is not None and value < 1:
                raise ValueError(f'UPopHook: {name} must be positive, got '
                                 f'{value}')
        if attn_weight != 'params' and (isinstance(attn_weight, str)
                                        or attn_weight <= 0):
            raise ValueError("UPopHook: attn_weight must be 'params' or a "
                             f'positive number, got {attn_weight!r}')
        self.p = p
        self.interval = interval
        self.total = total
        self.skip_first = skip_first
        self.attn_weight = attn_weight

    # ---- Begin -------------------------------------------------------------

    def before_train(self, runner: Runner) -> None:
        """Find the masks, and listen to the optimizer."""
        if self.p is None:
            return
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        found = masked_units(model)
        if not found:
            raise ValueError(
                'UPopHook: the model has no masks that it could lower: give '
                "it some by model=dict(type='mmcompress.Compress', model=..., "
                "steps=[dict(type='mmcompress.MaskUnits')])")
        # the first group of those that share a mask
        self.masks: dict[UnitMask, Units] = {}
        for units, mask in found:
            self.masks.setdefault(mask, units)
        self._check(runner, model)
        self.weights = {
            mask: self._weight(units, model)
            for mask, units in self.masks.items()
        }
        wrapper = runner.optim_wrapper
        if (not isinstance(wrapper, OptimWrapper)
                or isinstance(wrapper, OptimWrapperDict)):
            raise ValueError('UPopHook: masks are lowered after the steps of '
                             f'one optimizer, got {type(wrapper).__name__}')
        self.gradients = MaskGradients(model)
        self._every = wrapper._accumulative_counts
        steps = -(-runner.max_iters // self._every)
        self._steps = steps if self.total is None else self.total
        if self._steps > steps:
            raise ValueError(
                f'UPopHook: the search has total={self.total} steps, but the '
                f'training only {steps}: its masks would never be 0')
        if self.interval >= self._steps:
            print_log(
                f'UPopHook: with interval={self.interval} and {self._steps} '
                'steps masks change only once, after the last step. That is '
                'pruning at once, not step by step',
                logger='current',
                level=logging.WARNING)
        self._clip = wrapper.clip_func if wrapper.clip_grad_kwargs else None
        if self._clip is not None:
            wrapper.clip_func = partial(_clip_after, self.gradients.derive,
                                        self._clip)

    def _check(self, runner: Runner, model: nn.Module) -> None:
        frozen = [
            units.name for units in self.masks.values()
            for layer, key, dim, _ in units.slots(model)
            if dim == 0 and not layer._parameters[key].requires_grad
        ]
        if frozen:
            raise ValueError(
                'UPopHook: masks get their gradients from those of the '
                'parameters, and these are not trained: train them, or leave '
                'their masks out by MaskUnits(exclude='
                f'{list(dict.fromkeys(frozen))})')
        is_lowered = any((mask.value != 1).any() for mask in self.masks)
        if runner.iter == 0 and is_lowered:
            raise ValueError(
                'UPopHook: a search begins with masks of 1, and the checkpoint'
                ' in load_from is one of another search, which has lowered '
                'some: load the dense model, or set resume=True')

    def _weight(self, units: Units, model: nn.Module) -> float:
        if self.attn_weight == 'params':
            return units.parameters_per_unit(model)
        return self.attn_weight if units.kind == 'attention' else 1

    # ---- Search ------------------------------------------------------------

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Change the masks after some of the optimizer's steps."""
        if self.p is None:
            return
        done = runner.iter + 1
        if done % self._every and done != runner.max_iters:
            return
        step = -(-done // self._every) - 1
        if step >= self._steps:
            return
        if updates_at(step, self._steps, self.interval, self.skip_first):
            self._update(runner, step)
        if step == self._steps - 1:
            self._log(runner)

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer's wrapper as it was."""
        if self.p is not None and self._clip is not None:
            runner.optim_wrapper.clip_func = self._clip

    def _update(self, runner: Runner, step: int) -> None:
        is_amp = isinstance(runner.optim_wrapper, AmpOptimWrapper)
        if not (self.gradients.num_steps or is_amp):
            raise RuntimeError(
                f'UPopHook: {type(runner.optim_wrapper).__name__} made no '
                'step with the parameters that masks multiply, so masks have '
                'no gradients')
        share = progress(step, self._steps, self.p)
        lower_masks(self.masks, self.weights, share, 1 - share / self.p)
        runner.message_hub.update_scalar('train/upop_share', share)

    def _log(self, runner: Runner) -> None:
        """Say what is left of each group."""
        rows, left, all_ = [], 0, 0
        for mask, units in self.masks.items():
            kept = int((mask.value == 1).sum())
            rows.append([units.name, units.kind, kept, units.num])
            left += kept * self.weights[mask]
            all_ += units.num * self.weights[mask]
        title = (f'UPop kept {left / all_:.1%} of what its units count; '
                 f'tools/deploy/prune.py removes the rest')
        runner.logger.info(
            format_table(title, ['group', 'kind', 'kept', 'of'], rows))
        if self.gradients.num_dropped:
            runner.logger.warning(
                f'UPopHook: {self.gradients.num_dropped} steps had gradients '
                'that are not finite, and count for no mask')
