"""The config of a pruned model, which inherits that of the dense one."""
from pprint import pformat
from typing import Any

from mmengine.config import Config

from mmcompress.hooks.standard import without_standard_hooks
from mmcompress.model.config import inner_model, without_distillation

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
_KEEP = 'mmcompress.KeepUnits'
# a search's own step and hook: what they found is in the weights
_SEARCH_STEP = 'MaskUnits'
_SEARCH_HOOK = 'UPopHook'
# under its name in the cache others expect the dense model
_CACHE_HOOK = 'CacheTeacherHook'


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


def pruned_steps(steps: list[dict], units: dict[str, int]) -> list[dict]:
    """Steps of the pruned model; it may have been pruned before.

    Args:
        steps (list[dict]): See :func:`dense_parts`.
        units (dict[str, int]): How many units stay, by the name of the group.
    """
    rest = []
    for step in steps:
        if _kind(step) == 'KeepUnits':
            units = {**step['units'], **units}
        else:
            rest.append(step)
    return [dict(type=_KEEP, units=units), *rest]


def channel_steps(steps: list[dict], channels: dict) -> list[dict]:
    """The same where channels of convolutions are removed.

    Args:
        steps (list[dict]): See :func:`dense_parts`.
        channels (dict): See the step ``KeepChannels``.
    """
    rest = []
    for step in steps:
        if _kind(step) == 'KeepChannels':
            channels = {**step['channels'], **channels}
        else:
            rest.append(step)
    # units of attentions are those of the dense model
    num_units = sum(_kind(step) == 'KeepUnits' for step in rest)
    step = dict(type='mmcompress.KeepChannels', channels=channels)
    return [*rest[:num_units], step, *rest[num_units:]]


def _literal(value: Any, indent: int) -> str:
    text = pformat(value, width=79 - indent, sort_dicts=False)
    return text.replace('\n', '\n' + ' ' * indent)


def _steps(steps: list[dict]) -> str:
    """The first one as one would write it, and the others."""
    keep, *rest = steps
    key = next(key for key in keep if key != 'type')
    kept = _literal(keep[key], 14 + len(key))
    lines = [f'dict(type={keep["type"]!r},\n             {key}={kept})']
    lines += [_literal(step, 8) for step in rest]
    return ',\n        '.join(lines)


def _expression(cfg: Config, model: dict) -> str:
    """The dense model, by a name in the base config where it has one."""
    found, text = cfg.model.to_dict(), '_base_.model'
    while found is not None:
        if found == model:
            return text
        key = next((k for k in ('student', 'model') if k in found), None)
        found, text = found.get(key), f'{text}.{key}'
    return _literal(model, 10)


def _stays(hook: dict | None) -> bool:
    """Whether a hook is neither a search's nor keeps the dense model."""
    return _kind(hook) not in (_SEARCH_HOOK, _CACHE_HOOK)


def _default_hooks(cfg: dict) -> str:
    """What differs from those of the base; all of them, where one goes."""
    hooks = cfg.get('default_hooks') or {}
    changed = {
        key: dict(name=None)
        for key, hook in hooks.items()
        if _kind(hook) == _CACHE_HOOK and hook.get('name') is not None
    }
    if without_standard_hooks(str((hooks, cfg.get('custom_hooks')))):
        changed['mmcompress'] = dict(type='mmcompress.StandardHooks')
    searches = [k for k, hook in hooks.items() if _kind(hook) == _SEARCH_HOOK]
    if searches:
        # mmengine takes None only for its own
        left = {
            key: {
                **(hooks.get(key) or {}),
                **changed.get(key, {})
            } or None
            for key in (hooks | changed) if key not in searches
        }
        changed = {'_delete_': True, **left}
    if not changed:
        return ''
    lines = [f'    {k}={_literal(v, len(k) + 5)}' for k, v in changed.items()]
    return '\ndefault_hooks = dict(\n' + ',\n'.join(lines) + ')\n'


def _hooks(cfg: Config) -> str:
    """Those of the base, but what belongs to the search or dense model."""
    plain = cfg.to_dict()
    text = _default_hooks(plain)
    custom = plain.get('custom_hooks') or []
    if not all(map(_stays, custom)):
        left = list(filter(_stays, custom))
        text += f'\ncustom_hooks = {_literal(left, 15)}\n'
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
        model=_expression(cfg, model),
        steps=_steps(steps))
    return text + _hooks(cfg)
