"""The configs that a run writes: short, and to go on from."""
import os.path as osp
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config

from mmcompress.hooks.standard import without_standard_hooks
from mmcompress.model.config_text import (Code, base_of, config_file,
                                          expression, inner_expression)
from mmcompress.pruning.pruned_config import dense_parts
from mmcompress.quantization.calibrated_config import tuning
from .plan import Plan
from .schedule import training_keys

_MODEL = '''\
Written by tools/compress.py:
  {command}
Test it, or use it as any config of its library:
  python tools/test.py {name}.py {name}.pth'''
_TRAIN = '''\
Written by tools/compress.py: how {name}.pth {was} trained. Go on, or again:
  python tools/train.py {file}'''
_CLIP = dict(max_norm=35, norm_type=2)


def _from_folder(path: str, folder: Path) -> str:
    """A file as a config in a folder names it; a URL as it is."""
    if '://' in path or '::' in path:
        return path
    return '{{ fileDirname }}/' + osp.relpath(path, folder)


def _hooks(cfg: Config) -> dict:
    hooks = str((cfg.get('default_hooks'), cfg.get('custom_hooks')))
    if without_standard_hooks(hooks):
        return dict(mmcompress=dict(type='mmcompress.StandardHooks'))
    return {}


def _changed(model: Code | dict, changes: dict) -> Code | dict:
    """A model with other values of some of its keys."""
    if not isinstance(model, Code):
        inner = {
            key:
            _changed(model[key], value) if isinstance(value, dict) else value
            for key, value in changes.items()
        }
        return {**model, **inner}
    keys = []
    for key, value in changes.items():
        if isinstance(value, dict):
            value = _changed(Code(f'{model}.{key}'), value)
        keys.append(f'{key}={expression(value)}')
    return Code(f'dict({model}, {", ".join(keys)})')


def model_config(plan: Plan, steps: list[dict], base: str) -> str:
    """The config of the compressed model, as text.

    Args:
        plan (Plan): Of the run.
        steps (list[dict]): All that change the dense model.
        base (str): What it inherits.
    """
    options, cfg = plan.options, plan.cfg
    keys = dict(_base_=base)
    dense, _ = dense_parts(cfg)
    inner = inner_expression(cfg, dense)
    model = Code(inner) if inner else dense
    changes = plan.low_bit.model if plan.low_bit else {}
    if changes:
        model = _changed(model, changes)
    if steps:
        keys['model'] = dict(
            _delete_=True,
            type='mmcompress.Compress',
            model=model,
            steps=steps)
    elif inner != '_base_.model':
        # the student of what trained it
        keys['model'] = Code(f'dict({inner}, _delete_=True)')
    keys['load_from'] = f'{{{{ fileDirname }}}}/{plan.name}.pth'
    if steps and _hooks(cfg):
        keys['default_hooks'] = _hooks(cfg)
    comment = _MODEL.format(command=options.command(), name=plan.name)
    return config_file(comment, keys)


def write_model_config(plan: Plan, steps: list[dict]) -> Path:
    """Write the config of the compressed model.

    Args:
        plan (Plan): Of the run.
        steps (list[dict]): All that change the dense model.

    Returns:
        Path: ``NAME.py`` in the folder of the run.
    """
    options = plan.options
    base = base_of(plan.cfg, options.config, bool(options.cfg_options),
                   plan.folder, f'{plan.name}_base.py')
    path = plan.folder / f'{plan.name}.py'
    path.write_text(model_config(plan, steps, base))
    return path


def write_training_config(plan: Plan,
                          start: str,
                          scales: Iterable[str] | None,
                          losses: dict | None = None,
                          alone: bool = False) -> Path:
    """Write the config of the training.

    Args:
        plan (Plan): Of the run, with a budget.
        start (str): Checkpoint that it starts from.
        scales (Iterable[str] | None): Names of the quantizers' parameters.
        losses (dict | None): Those of the distillation, as they are weighed.
        alone (bool): Without the teacher, to compare with.

    Returns:
        Path: ``NAME_train.py``, or ``NAME_alone_train.py``.
    """
    options, cfg = plan.options, plan.cfg
    keys = dict(_base_=f'./{plan.name}.py')
    if plan.distillation and not alone:
        config, checkpoint = options.distill_from
        if '::' not in config:
            config = osp.relpath(config, plan.folder)
        if '://' not in checkpoint:
            checkpoint = osp.relpath(checkpoint, plan.folder)
        keys['model'] = dict(
            _delete_=True,
            type='mmcompress.Distill',
            student=Code('_base_.model'),
            teacher=dict(cfg=config, checkpoint=checkpoint),
            losses=losses or plan.distillation.losses)
    keys['load_from'] = _from_folder(start, plan.folder)
    keys['randomness'] = dict(seed=options.seed)
    wrapper = tuning(cfg, scales, plan.budget.rate)
    own = cfg.get('optim_wrapper') or {}
    if plan.budget.rate == 1 and not own.get('clip_grad') and own:
        wrapper['clip_grad'] = _CLIP
    # nothing can be merged with a None of the base
    wrapper = {
        key:
        dict(_delete_=True, **value) if own.get(key, {}) is None else value
        for key, value in wrapper.items()
    }
    if wrapper:
        keys['optim_wrapper'] = wrapper
    schedule = training_keys(cfg, plan.budget)
    schedule['default_hooks'] = {**_hooks(cfg), **schedule['default_hooks']}
    keys.update(schedule)
    file = f'{plan.name}{"_alone" * alone}_train.py'
    was = 'without its teacher would be' if alone else 'is'
    comment = _TRAIN.format(name=plan.name, was=was, file=file)
    path = plan.folder / file
    path.write_text(config_file(comment, keys))
    return path
