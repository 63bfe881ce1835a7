"""How the training of a checkpoint differs from one that resumes it.

What a checkpoint holds wins: its learning rates, its schedules. A config that
says something else would not be followed, without a word.
"""
import inspect
import math
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from mmengine.dist import get_world_size
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmcompress.model.checkpoint import compare, weights_of

# what of a config decides how a training goes
_DECISIVE = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper',
             'param_scheduler', 'auto_scale_lr', 'custom_hooks', 'randomness')
# how an optimizer computes, not what
_IMPLEMENTATION = {'foreach', 'fused', 'capturable', 'differentiable'}
# of a scheduler's arguments, those that it changes or that say nothing
_NO_SETTINGS = {'optimizer', 'last_step', 'verbose'}
# what the loop itself says
_COUNTED = ('train_cfg.max_epochs', 'train_cfg.max_iters')
_ABSENT = '(nothing)'


def _plain(value: Any) -> Any:
    """A config's value as dicts, lists, strings and numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or type(value) in (str, bool, int, float):
        return value
    named = value if hasattr(value, '__qualname__') else type(value)
    return f'{named.__module__}.{named.__qualname__}'


def settings_of(runner: Runner) -> dict:
    """What a checkpoint should say of its training, as plain data.

    Args:
        runner (Runner): With its training loop built.

    Returns:
        dict: Batch size over all processes (None if it varies), samples of
            the data set, and the parts of the config that matter.
    """
    loader = runner.train_dataloader
    batch_size = loader.batch_size or getattr(loader.batch_sampler,
                                              'batch_size', None)
    if batch_size is not None:
        batch_size *= get_world_size()
    cfg = runner.cfg.to_dict()
    return dict(
        batch_size=batch_size,
        num_samples=len(loader.dataset),
        config=_plain({key: cfg[key]
                       for key in _DECISIVE if key in cfg}))


def _listed(items: list[str], most: int = 10) -> str:
    more = len(items) - most
    return ', '.join(items[:most]) + (f' and {more} more' if more > 0 else '')


def _differ(name: str, saved: Any, now: Any) -> str:
    return f'{name} is {saved} in the checkpoint, and now {now}'


def _same(saved: Any, now: Any) -> bool:
    """Whether two settings are equal, up to their types and rounding."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        return saved.keys() == now.keys() and all(
            _same(saved[key], now[key]) for key in saved)
    if isinstance(saved, (list, tuple)) and isinstance(now, (list, tuple)):
        return len(saved) == len(now) and all(map(_same, saved, now))
    try:
        return saved == now or math.isclose(saved, now)
    except TypeError:
        return False


def weight_differences(runner: Runner, checkpoint: dict) -> list[str]:
    """What of the weights has no place, or another shape.

    Args:
        runner (Runner): With its model built.
        checkpoint (dict): As it was loaded.
    """
    model = runner.model
    model = model.module if is_model_wrapper(model) else model
    fit = compare(weights_of(model.state_dict()), weights_of(checkpoint)).but()
    found = {
        'lacks {} keys of the model': fit.missing,
        'has {} keys that the model lacks': fit.left_over,
        'has {} keys of another shape than the model': fit.mismatched
    }
    return [
        f'{what.format(len(keys))}: {_listed(keys)}'
        for what, keys in found.items() if keys
    ]


def _by_name(value: Any) -> dict:
    """Of several optimizers or one, which has no name."""
    if isinstance(value, OptimWrapperDict):
        return dict(value.items())
    return value if isinstance(value, dict) else {'': value}


def group_differences(runner: Runner, checkpoint: dict) -> list[str]:
    """Of the groups of parameters, which an optimizer can't put up with.

    Args:
        runner (Runner): With its optimizer built.
        checkpoint (dict): As it was loaded.
    """
    found = []
    for name, saved, now in _optimizers(runner, checkpoint):
        sizes = [[len(group['params']) for group in groups]
                 for groups in (saved, now)]
        for i, (old, new) in enumerate(zip_longest(*sizes, fillvalue=0)):
            if old != new:
                found.append(
                    _differ(
                        f'the number of parameters in group {i} of the '
                        f'optimizer{name}', old, new))
    return found


def _optimizers(
        runner: Runner,
        checkpoint: dict) -> Iterator[tuple[str, list[dict], list[dict]]]:
    """Name, groups in the checkpoint and groups now of each optimizer."""
    saved = checkpoint.get('optimizer')
    if saved is None:
        return
    for name, wrapper in _by_name(runner.optim_wrapper).items():
        state = saved.get(name) if name else saved
        if state and 'param_groups' in state:
            yield (f' {name!r}' if name else '', state['param_groups'],
                   wrapper.optimizer.param_groups)


def rate_differences(runner: Runner, checkpoint: dict) -> list[str]:
    """Of learning rates and other settings of the optimizer.

    Args:
        runner (Runner): With its optimizer and schedulers built.
        checkpoint (dict): As it was loaded.
    """
    found = []
    for name, saved, now in _optimizers(runner, checkpoint):
        for old, new in zip(saved, now):
            for key in sorted((old.keys() & new.keys()) - _IMPLEMENTATION):
                # of what is scheduled, where it began
                begin = f'initial_{key}'
                if key in ('params',
                           'param_names') or begin in old or (begin in new):
                    continue
                if not _same(old[key], new[key]):
                    key = key.removeprefix('initial_')
                    found.append(
                        _differ(f'{key} of the optimizer{name}',
                                old.get(f'initial_{key}', old.get(key)),
                                new.get(f'initial_{key}', new.get(key))))
    return list(dict.fromkeys(found))


def _settings(scheduler: Any) -> set[str]:
    """Attributes of a scheduler that its arguments set."""
    arguments = {
        name
        for cls in type(scheduler).__mro__
        for name in inspect.signature(cls.__init__).parameters
    }
    return (arguments & vars(scheduler).keys()) - _NO_SETTINGS


def schedule_differences(runner: Runner, checkpoint: dict) -> list[str]:
    """Of the schedules of learning rates and momenta.

    Args:
        runner (Runner): With its schedulers built.
        checkpoint (dict): As it was loaded.
    """
    saved = checkpoint.get('param_schedulers')
    if saved is None or runner.param_schedulers is None:
        return []
    found = []
    saved = _by_name(saved)
    for name, schedulers in _by_name(runner.param_schedulers).items():
        states = saved.get(name, [])
        if len(states) != len(schedulers):
            found.append(
                _differ('the number of schedulers', len(states),
                        len(schedulers)))
            continue
        for state, scheduler in zip(states, schedulers):
            kind = type(scheduler).__name__
            now = vars(scheduler)
            # what it lacks is a setting of another kind of scheduler
            keys = _settings(scheduler) | {
                key
                for key in state if key[0] != '_' and key not in now
            }
            for key in sorted(keys):
                values = state.get(key, _ABSENT), now.get(key, _ABSENT)
                if not _same(*values):
                    found.append(_differ(f'{key} of {kind}', *values))
    return list(dict.fromkeys(found))


def progress_differences(runner: Runner, checkpoint: dict,
                         settings: dict) -> tuple[list[str], list[str]]:
    """Of how iterations are counted.

    Args:
        runner (Runner): With its training loop built.
        checkpoint (dict): As it was loaded.
        settings (dict): Of the runner, see :func:`settings_of`.

    Returns:
        tuple[list[str], list[str]]: What goes wrong, and what needn't.
    """
    loop, loader = runner.train_loop, runner.train_dataloader
    info = checkpoint.get('message_hub', {}).get('runtime_info', {})
    meta, then = checkpoint['meta'], checkpoint.get('training', {})
    wrong, other = [], []
    if isinstance(loop, EpochBasedTrainLoop):
        if info.get('max_epochs') and info.get('max_iters'):
            per_epoch = info['max_iters'] // info['max_epochs']
            if per_epoch != len(loader):
                wrong.append(
                    _differ('the number of iterations per epoch', per_epoch,
                            len(loader)))
        total = 'max_epochs'
    elif isinstance(loop, IterBasedTrainLoop):
        if meta.get('epoch'):
            wrong.append('the checkpoint is of a training by epochs, and now '
                         'it goes by iterations')
        total = 'max_iters'
    else:
        total = None
    if total in info and info[total] != getattr(loop, total):
        other.append(_differ(total, info[total], getattr(loop, total)))
    for key, kind in (('batch_size', wrong), ('num_samples', other)):
        if then.get(key) is not None and then[key] != settings[key]:
            what = dict(
                batch_size='the batch size, over all processes,',
                num_samples='the number of training samples')[key]
            kind.append(_differ(what, then[key], settings[key]))
    return wrong, other


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f'{path}.{key}' if path else key)
    elif isinstance(value, list) and value:
        for i, item in enumerate(value):
            yield from _leaves(item, f'{path}[{i}]')
    else:
        yield path, value


def config_differences(checkpoint: dict,
                       settings: dict) -> tuple[list[str], list[str]]:
    """Of the parts of the config that decide how a training goes.

    Args:
        checkpoint (dict): As it was loaded.
        settings (dict): Of the runner, see :func:`settings_of`.

    Returns:
        tuple[list[str], list[str]]: Other types of models, losses and
            optimizers, and all else.
    """
    then = checkpoint.get('training', {}).get('config', {})
    now = settings['config']
    wrong, other = [], []
    for part in then.keys() & now.keys():
        old, new = (dict(_leaves(cfg[part], part)) for cfg in (then, now))
        for path in dict.fromkeys([*old, *new]):
            values = [leaves.get(path, _ABSENT) for leaves in (old, new)]
            if _same(*values) or path in _COUNTED:
                continue
            is_kind = (
                part in ('model', 'optim_wrapper', 'param_scheduler')
                and path.endswith('.type') and 'init_cfg' not in path)
            (wrong if is_kind else other).append(_differ(path, *values))
    return sorted(wrong), sorted(other)
