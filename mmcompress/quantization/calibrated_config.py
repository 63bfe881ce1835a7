"""The config of a model that was quantized by calibration."""
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pprint import pformat

from mmengine.config import Config

from mmcompress.hooks.standard import without_standard_hooks
from mmcompress.model.config import without_distillation
from mmcompress.model.config_text import expression

_HEAD = '''\
# Written by tools/quantize.py. Test it, or train it on:
#   python tools/test.py {name}.py {name}.pth
#   python tools/train.py {name}.py
_base_ = {base!r}

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model={model},
    steps=[
        {step}
    ])
load_from = '{{{{ fileDirname }}}}/{name}.pth'
'''
_HOOKS = '''
default_hooks = dict(mmcompress=dict(type='mmcompress.StandardHooks'))
'''


def step_arguments(
    weight: int,
    activation: int,
    attention: int = 8,
    residual: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = ()
) -> dict:
    """Arguments of the step ``QuantizeLayers``, as the tools write it.

    Args:
        weight (int): Bits of weights; the first convolution and the layers
            that predict have 8.
        activation (int): Bits of activations; likewise.
        attention (int): Bits of queries, keys, values and maps; 32: float.
        residual (bool): Whether what residual blocks add is quantized.
        include (Sequence[str]): Patterns of what is quantized; none: all.
        exclude (Sequence[str]): Patterns of what stays float.
    """
    step = dict(
        weight=dict(type='LSQ', bits=weight),
        activation=dict(type='LSQ', bits=activation, offset='zero_point'),
        first_last=dict(weight=dict(bits=8), activation=dict(bits=8)))
    if attention < 32:
        step['attention'] = dict(type='LSQ', bits=attention)
    if residual:
        step['residual'] = True
    for key, patterns in dict(include=include, exclude=exclude).items():
        if patterns:
            step[key] = list(patterns)
    return step


def _model(cfg: Config) -> str:
    """What of the config's model is quantized, as an expression.

    Raises:
        ValueError: If it is no part that an expression can name.
    """
    model = cfg.model
    wanted = without_distillation(model)
    for found, text in ((model, '_base_.model'), (model.get('student'),
                                                  '_base_.model.student')):
        if found is not None and dict(found) == dict(wanted):
            return text
    raise ValueError('the config wraps the model in several builders of '
                     "mmcompress; give the trained model's own config")


def _step(arguments: dict) -> str:
    arguments = dict(type='mmcompress.QuantizeLayers', **arguments)
    lines = []
    for key, value in arguments.items():
        text = pformat(value, width=60, compact=True, sort_dicts=False)
        lines.append(f'{key}={text}'.replace('\n', '\n' + ' ' * 17))
    return 'dict(\n' + ',\n'.join(' ' * 12 + line for line in lines) + ')'


def _no_decay(own: Iterable[str], scales: Iterable[str]) -> list[str]:
    """Custom keys that exempt parameters of quantizers from weight decay.

    Of several keys that are in a name, the longest counts, as `backbone` of
    DETR's config would: the end of the name that is longer outdoes it, the
    quantizer's own name at least.

    Args:
        own (Iterable[str]): Keys that the config has.
        scales (Iterable[str]): Names of the parameters.
    """
    keys = ['_quant']
    for name in scales:
        longest = max((len(key) for key in own if key in name), default=0)
        if longest >= len(keys[0]):
            ends = accumulate(
                reversed(name.split('.')), lambda end, part: f'{part}.{end}')
            keys += [end for end in ends
                     if '.' in end and len(end) > longest][:1]
    return list(dict.fromkeys(keys))


def tuning(cfg: Config,
           scales: Iterable[str] | None,
           rate: float = 0.1) -> dict:
    """What of `optim_wrapper` changes: the rate, and no decay of scales.

    Args:
        cfg (Config): Of the float model.
        scales (Iterable[str] | None): Names of the quantizers' parameters,
            which are to be exempted from weight decay; None without any.
        rate (float): What the learning rate is multiplied by.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer') or {}
    changed = {}
    if 'lr' in optimizer and rate != 1:
        changed['optimizer'] = dict(lr=float(f'{optimizer["lr"] * rate:.3g}'))
    if optimizer.get('weight_decay') is not None and scales is not None:
        own = (wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {}
        keys = {key: dict(decay_mult=0.) for key in _no_decay(own, scales)}
        changed['paramwise_cfg'] = dict(custom_keys=keys)
    return changed


def _training(cfg: Config, scales: Iterable[str]) -> str:
    """How it trains on: slowly, without decay of scales."""
    changed = tuning(cfg, scales)
    parts = []
    if 'optimizer' in changed:
        parts.append('# a tenth of what the float model began with\n    '
                     f'optimizer={expression(changed["optimizer"])}')
    if 'paramwise_cfg' in changed:
        keys = (',\n' + ' ' * 36).join(
            f'{key!r}: {expression(value)}'
            for key, value in changed['paramwise_cfg']['custom_keys'].items())
        parts.append(f'paramwise_cfg=dict(custom_keys={{{keys}}})')
    if not parts:
        return ''
    return '\noptim_wrapper = dict(\n    ' + ',\n    '.join(parts) + ')\n'


def config_text(cfg: Config,
                base: str,
                name: str,
                step: dict,
                scales: Iterable[str] = ()) -> str:
    """The config, which inherits that of the float model.

    Args:
        cfg (Config): Of the float model.
        base (str): Its path, from the new config's folder; or
            ``'mmdet::folder/name.py'``.
        name (str): Of the new config and its checkpoint, without suffix.
        step (dict): Arguments of the step ``QuantizeLayers``.
        scales (Iterable[str]): Names of the quantizers' parameters, which
            are to be exempted from weight decay.
    """
    text = _HEAD.format(
        name=name, base=base, model=_model(cfg), step=_step(step))
    hooks = str((cfg.get('default_hooks'), cfg.get('custom_hooks')))
    if without_standard_hooks(hooks):
        text += _HOOKS
    return text + _training(cfg, scales)
