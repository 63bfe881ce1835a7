"""The config of a pruned model, which inherits that of the dense one."""
from typing import Any

from mmengine.config import Config

from mmcompress.hooks.standard import without_standard_hooks
from mmcompress.model.config import inner_model, without_distillation
from mmcompress.model.config_text import inner_expression, literal

_HEAD = '''\
# Written by tools/deploy/prune.py. Test it, or train it on:
#   python tools/test.py {name}.py {name}.pth
#   python tools/train.py {name}.py
_base_ = {base!r}

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model={model},
    steps=[
        {steps}
    ])
load_from = '{{{{ fileDirname }}}}/{name}.pth'
'''
_KEEPING = ('KeepUnits', 'KeepChannels')
# a search's own step: what it found is in the weights
_SEARCH_STEP = 'MaskUnits'


def _kind(cfg: Any) -> str:
    """Name of what a config builds, without the scope."""
    kind = (cfg or {}).get('type')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2]


def dense_parts(cfg: Config) -> tuple[dict, list[dict]]:
    """The model that was pruned or searched.

    Args:
        cfg (Config): Whole config.

    Returns:
        tuple[dict, list[dict]]: Its own config, and the steps that change it,
        without that of a search.
    """
    model, steps = inner_model(without_distillation(cfg.model.to_dict()))
    return model, [s for s in steps if _kind(s) != _SEARCH_STEP]


def with_pruning(steps: list[dict], kind: str, key: str,
                 numbers: dict) -> list[dict]:
    """Steps of the pruned model; it may have been pruned before.

    Each pruning counts what the one before has left. So a new one comes last
    of them, or is merged into the last one, if that is of its kind.

    Args:
        steps (list[dict]): See :func:`dense_parts`.
        kind (str): Name of the step, ``'KeepUnits'`` or ``'KeepChannels'``.
        key (str): Of its argument.
        numbers (dict): What stays, by name.
    """
    last = max((i for i, step in enumerate(steps) if _kind(step) in _KEEPING),
               default=-1)
    before, others = steps[:last + 1], steps[last + 1:]
    if before and _kind(before[-1]) == kind:
        numbers = {**before.pop()[key], **numbers}
    return [*before, {'type': f'mmcompress.{kind}', key: numbers}, *others]


def _step(step: dict) -> str:
    """As one would write it."""
    if _kind(step) not in _KEEPING or len(step) != 2:
        return literal(step, 8)
    key = next(key for key in step if key != 'type')
    kept = literal(step[key], 14 + len(key))
    return f'dict(type={step["type"]!r},\n             {key}={kept})'


# hooks that a pruned model must not inherit: a search, which is over, and what
# keeps a model under the name where others expect the dense one. mmengine
# leaves out none but its own
_STOPPED = dict(UPopHook=dict(p=None), CacheTeacherHook=dict(name=None))


def _hooks(cfg: Config) -> str:
    """What differs from those of the base."""
    hooks = cfg.to_dict().get('default_hooks') or {}
    custom = cfg.to_dict().get('custom_hooks') or []
    changed = {
        key: _STOPPED[_kind(hook)]
        for key, hook in hooks.items() if _kind(hook) in _STOPPED
    }
    if without_standard_hooks(str((hooks, custom))):
        changed['mmcompress'] = dict(type='mmcompress.StandardHooks')
    text = ''
    if changed:
        lines = ',\n'.join(f'    {k}={v!r}' for k, v in changed.items())
        text = f'\ndefault_hooks = dict(\n{lines})\n'
    left = [hook for hook in custom if _kind(hook) not in _STOPPED]
    if len(left) < len(custom):
        text += f'\ncustom_hooks = {literal(left, 15)}\n'
    return text


def config_text(cfg: Config, base: str, name: str, steps: list[dict]) -> str:
    """The config, which inherits that of the dense model.

    Args:
        cfg (Config): Of the dense model, or of a search.
        base (str): Its path, from the new config's folder; or
            ``'mmdet::folder/name.py'``.
        name (str): Of the new config and its checkpoint, without suffix.
        steps (list[dict]): Those of the new config.
    """
    model, _ = dense_parts(cfg)
    text = _HEAD.format(
        name=name,
        base=base,
        model=inner_expression(cfg, model) or literal(model, 10),
        steps=',\n        '.join(map(_step, steps)))
    return text + _hooks(cfg)
