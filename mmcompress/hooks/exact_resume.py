"""A resumed run that continues as if it had never been interrupted."""
import functools
import random
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import torch
from mmengine.dataset import worker_init_fn
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, Runner

from mmcompress.registry import HOOKS
from .resume_differences import (config_differences, group_differences,
                                 progress_differences, rate_differences,
                                 schedule_differences, settings_of,
                                 weight_differences)
from .skip_data import go_on_with_data, has_begun, sampler_of, seed_all


def random_state() -> Dict[str, Any]:
    """State of the generators of python, numpy and torch, as plain data."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state = dict(
        python=(version, torch.tensor(words), gauss),
        numpy=(name, torch.from_numpy(keys.astype(np.int64)), position,
               has_gauss, cached),
        torch=torch.get_rng_state())
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Dict[str, Any]) -> None:
    """Put back what :func:`random_state` returned.

    Args:
        state (dict): Its tensors may be on any device.
    """
    version, words, gauss = state['python']
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = state['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def seed_worker(worker_id: int, init: Callable, seed: int, epoch: int,
                rank: int) -> None:
    """Seed a worker of a data loader for one epoch.

    mmengine's own function leaves the epoch out, so that every epoch draws
    the same augmentations.

    Args:
        worker_id (int): Which worker of this process.
        init (Callable): mmengine's function, which runs before.
        seed (int): The run's seed.
        epoch (int): Number of the epoch.
        rank (int): Which process.
    """
    init(worker_id)
    seed_all(seed, epoch, rank, worker_id)


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Store the random states with each checkpoint; restore them on resume.

    With ``num_workers=0`` a resumed run then has the losses of the
    uninterrupted one, whatever its augmentation, its samplers and its model
    draw. With workers, seeds depend on the run's seed and the rank, and in
    trainings by epochs on the epoch and the worker: there the same holds if
    workers are not persistent, because nobody can store the states with which
    those go on. In trainings by iterations they depend on the iteration and
    the place in the batch, and earlier data is not loaded again.

    Validation is made neutral: it draws from the same generators, and a
    resumed run does not repeat the one that followed its checkpoint.

    The checkpoint must be of the same training: the same keys and shapes, the
    same groups of the optimizer, batch size, iterations per epoch, learning
    rates, schedules, and types of models, losses and optimizers. What differs
    is named in one error. Other changes of the config, such as more epochs,
    are named in a warning.

    Not restored: what a dataset or transform caches between images
    (``CachedMosaic``), and gradients accumulated when the checkpoint was
    written (choose its interval as a multiple of ``accumulative_counts``).

    Args:
        strict (bool): Whether a change of batch size, learning rates,
            schedules or types is an error. If not, it is a warning, and rates
            and schedules are the checkpoint's.

    Raises:
        RuntimeError: On resume, if the checkpoint is of another training.
    """

    # after every hook that may draw, before CheckpointHook (VERY_LOW, 90)
    priority = 85

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict
        self.states: List[dict] = []
        self.gathered_at: Optional[int] = None
        self.iters = 0
        self.settings: Optional[dict] = None
        self.resumed: Optional[dict] = None
        self.before_validation: Optional[dict] = None

    def before_run(self, runner: Runner) -> None:
        """Note the settings, before building changes the config."""
        # a test has no training loop, and asking for one would build it
        if isinstance(runner._train_loop, BaseLoop):
            self.settings = settings_of(runner)

    def _settings_of(self, runner: Runner) -> dict:
        # a hook that is registered later misses the beginning
        return self.settings or settings_of(runner)

    def before_train(self, runner: Runner) -> None:
        """Restore, now or when a loop over iterations takes its first batch.

        This is the last moment before the first epoch: what other hooks draw
        in ``before_train_epoch``, they drew after the checkpoint as well.
        """
        resumed, self.resumed = self.resumed, None
        restore = self._restorer(runner, resumed)
        if hasattr(runner.train_loop, 'dataloader_iterator'):
            go_on_with_data(runner, restore)
        else:
            restore()

    def _restorer(self, runner: Runner,
                  resumed: Optional[dict]) -> Callable[[], None]:
        """Give the sampler its seed; the rest is restored by what returns."""
        if resumed is None:
            return lambda: None
        seed = resumed['sampler_seed']
        sampler = sampler_of(runner.train_dataloader)
        # without a seed in its config, a run draws one, and mmengine builds
        # the sampler before it reads the checkpoint
        if seed is not None and getattr(sampler, 'seed', seed) != seed:
            sampler.seed = seed
            if has_begun(runner):
                runner.logger.warning(
                    'The workers have already begun to load images in another '
                    'order than the resumed run. Set `randomness=dict('
                    'seed=...)` to resume such runs exactly.')
        states = resumed['states']
        if len(states) != get_world_size():
            runner.logger.warning(
                f'The checkpoint was written by {len(states)} processes, and '
                f'{get_world_size()} resume it: the run continues, but '
                'differs from the uninterrupted one.')
        if get_rank() >= len(states):
            return lambda: None
        return functools.partial(set_random_state, states[get_rank()])

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the workers that this epoch will start."""
        loader = runner.train_dataloader
        init = loader.worker_init_fn
        if getattr(init, 'func', None) is seed_worker:
            init = init.keywords['init']
        # a function of the user's own stays
        if getattr(init, 'func', None) is worker_init_fn:
            loader.worker_init_fn = functools.partial(
                seed_worker,
                init=init,
                seed=runner.seed,
                epoch=runner.epoch,
                rank=get_rank())

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Gather the states where a checkpoint of an iteration follows."""
        self.iters += 1
        for hook in _checkpoint_hooks(runner):
            due = self.every_n_train_iters(runner, hook.interval,
                                           hook.save_begin)
            last = hook.save_last and self.is_last_train_iter(runner)
            if not hook.by_epoch and (due or last):
                self._gather()
                break

    def after_train_epoch(self, runner: Runner) -> None:
        """Gather the states where a checkpoint of an epoch follows."""
        if any(hook.by_epoch for hook in _checkpoint_hooks(runner)):
            self._gather()

    def before_val(self, runner: Runner) -> None:
        """Remember the states before validation."""
        # CheckpointHook may save again, the best one, before it ends
        if self.gathered_at != self.iters:
            self._gather()
        self.before_validation = random_state()

    def after_val(self, runner: Runner) -> None:
        """Continue as if there had been no validation."""
        if self.before_validation is not None:
            set_random_state(self.before_validation)
            self.before_validation = None

    def _gather(self) -> None:
        """Collect the states of all processes; all must call it."""
        self.states = all_gather_object(random_state())
        self.gathered_at = self.iters

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the states; runs in the first process only."""
        if self.gathered_at != self.iters:
            if get_world_size() > 1:
                runner.logger.warning(
                    'This checkpoint is not written by CheckpointHook: it '
                    'holds the random state of the first process only.')
            self.states = [random_state()]
        sampler = sampler_of(runner.train_dataloader)
        checkpoint['training'] = self._settings_of(runner)
        checkpoint['random_states'] = dict(
            states=self.states, sampler_seed=getattr(sampler, 'seed', None))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the states of a checkpoint that is resumed, and check it."""
        if not runner._resume:
            return
        self._compare(runner, checkpoint)
        self.resumed = checkpoint.get('random_states')
        if self.resumed is None:
            runner.logger.warning(
                'The checkpoint holds no random states: the resumed run '
                'differs from the uninterrupted one.')

    def _compare(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse what is of another training, tell of smaller changes."""
        settings = self._settings_of(runner)
        broken = [
            f'the checkpoint {what}'
            for what in weight_differences(runner, checkpoint)
        ] + group_differences(runner, checkpoint)
        kinds, others = config_differences(checkpoint, settings)
        counts, other = progress_differences(runner, checkpoint, settings)
        changed = [
            *counts, *rate_differences(runner, checkpoint),
            *schedule_differences(runner, checkpoint), *kinds
        ]
        other += others
        if broken or (changed and self.strict):
            found = [*broken, *changed, *other]
            raise RuntimeError(
                f'Cannot resume: {"; ".join(found)}. Was it written with '
                'another config? To start from its weights instead, use '
                '`load_from` without `resume`.' +
                ('' if broken else ' To go on all the same, with the learning '
                 'rates and schedules of the checkpoint, set '
                 'mmcompress.ExactResumeHook(strict=False).'))
        if changed or other:
            runner.logger.warning(
                'The resumed run goes on with other settings, so it differs '
                'from the uninterrupted one: '
                f'{"; ".join([*changed, *other])}.' +
                (' Learning rates and schedules are those of the checkpoint.'
                 if changed else ''))


def _checkpoint_hooks(runner: Runner) -> List[CheckpointHook]:
    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
