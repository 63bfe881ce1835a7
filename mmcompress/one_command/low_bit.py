"""Steps that give a model few bits, and what stays float and why."""
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch.nn as nn
from torch.nn.utils.parametrize import is_parametrized

from mmcompress.lowbit import LowBitLayer
from mmcompress.lowbit.replace import own_forward
from mmcompress.quantization.calibrated_config import step_arguments
from mmcompress.quantization.first_last import first_and_last
from mmcompress.quantization.norms import has_branches
from mmcompress.selection import selects
from .families import Family, class_names, fits, part_of, row_of, table

# bits of weights and activations that calibration alone can give
_INTEGERS = {'8': (8, 8), 'w4a8': (4, 8), 'w4a4': (4, 4)}
BITS = (*_INTEGERS, 'ternary', '1')


@dataclass(frozen=True)
class LowBit:
    """Steps of ``mmcompress.Compress`` for a model.

    Attributes:
        steps (list[dict]): Configs of steps.
        stays_float (dict[str, str]): Why, by the patterns of layers that
            would have few bits otherwise.
        label (str): ``'w8a8'``, ``'w4a8'``, ``'w4a4'``, ``'ternary_a8'`` or
            ``'w1a1'``.
        note (str): What to expect, in a sentence; may be empty.
        model (dict): What the config of the model needs to be changed in to
            train so: ``dict(backbone=dict(norm_eval=False))``.
    """
    steps: list[dict]
    stays_float: dict[str, str] = field(default_factory=dict)
    label: str = 'float'
    note: str = ''
    model: dict = field(default_factory=dict)


# ---- Patterns --------------------------------------------------------------


def _candidates(name: str) -> list[str]:
    """Patterns that select a layer, the widest first."""
    parts = name.split('.')
    above = ['.'.join(parts[:i]) for i in range(1, len(parts) + 1)]
    word = max(i for i, part in enumerate(parts) if not part.isdigit())
    ends = ['*.' + '.'.join(parts[i:]) for i in range(word, 0, -1)]
    starred = [re.sub(r'\d+', '*', pattern) for pattern in above]
    return list(dict.fromkeys([*above, *starred, *ends]))


def shorten(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Few patterns that select some layers and no others.

    Args:
        names (Sequence[str]): Of the layers.
        others (Sequence[str]): Layers that no pattern may select.
    """
    patterns: list[str] = []
    left = list(names)
    while left:
        best, most = left[0], [left[0]]
        for pattern in _candidates(left[0]):
            found = [name for name in left if selects(pattern, name)]
            if len(found) > len(most) or (len(found) == len(most)
                                          and len(pattern) < len(best)):
                if not any(selects(pattern, other) for other in others):
                    best, most = pattern, found
        patterns.append(best)
        left = [name for name in left if name not in most]
    return patterns


def _check(model: nn.Module, exclude: Sequence[str]) -> None:
    """Refuse patterns that select no layer.

    Raises:
        ValueError: Names the pattern.
    """
    names = [name for name, _ in model.named_modules() if name]
    for pattern in exclude:
        if not any(selects(pattern, name) for name in names):
            raise ValueError(f'exclude: {pattern!r} selects no module of '
                             f'{type(model).__name__}; '
                             'tools/misc/list_taps.py prints their names')


def _only_trains(model: nn.Module) -> dict[str, str]:
    """Parts that no image passes in testing, so that few bits gain nothing."""
    if part_of(model, 'auxiliary_head') is None:
        return {}
    return dict(auxiliary_head='only helps in training')


# ---- 1-bit convolutions ----------------------------------------------------


def _is_shortcut(name: str) -> bool:
    return bool(re.search(r'(^|\.)(downsample|shortcut|skip\w*)(\.|$)', name))


def _why_float(name: str, conv: nn.Conv2d, first: str, edges: set[str],
               rule: dict) -> str | None:
    """Why a convolution stays float in a 1-bit network; None if it doesn't."""
    fewest = rule['fewest_channels']
    other = own_forward(type(conv), nn.Conv2d)
    if isinstance(conv, LowBitLayer):
        return 'has few bits already'
    if name == first:
        return 'sees the image'
    if name in edges:
        return 'gives the predictions'
    if conv.groups > 1:
        kind = 'depthwise' if conv.groups == conv.in_channels else 'grouped'
        return f'{kind}: there is no 1-bit kernel for it'
    if conv.kernel_size == (1, 1) and _is_shortcut(name):
        return 'a 1x1 shortcut, which hands on real values'
    if conv.in_channels < fewest:
        return (f'fewer than {fewest} input channels: most of the time would '
                'go into packing')
    if conv.padding_mode != 'zeros':
        return f'its padding is {conv.padding_mode}, not zeros'
    if other is not None:
        return f'{other.__name__} computes in its own way'
    if is_parametrized(conv) or conv._forward_hooks or conv._forward_pre_hooks:
        return 'its weight is parametrized, or it has hooks'
    return None


def _thawed(model: nn.Module) -> dict:
    """Changes that let the norms of a backbone follow its new layers.

    Statistics of a float network do not fit a 1-bit one, and a stage that is
    frozen would keep the signs of its float weights.
    """
    backbone = part_of(model, 'backbone')
    changes = {}
    if getattr(backbone, 'norm_eval', False):
        changes['norm_eval'] = False
    frozen = getattr(backbone, 'frozen_stages', None)
    if isinstance(frozen, int) and frozen > 0:
        changes['frozen_stages'] = 0
    return dict(backbone=changes) if changes else {}


def _one_bit_convs(family: Family, model: nn.Module, rule: dict,
                   exclude: Sequence[str]) -> LowBit:
    layers = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    convs = {n: m for n, m in layers.items() if isinstance(m, nn.Conv2d)}
    edges = first_and_last(layers)
    asked = {**dict.fromkeys(exclude, 'asked for'), **_only_trains(model)}
    floats, binary = {}, []
    for name, conv in convs.items():
        reason = _why_float(name, conv, next(iter(convs)), edges, rule)
        for pattern, why in asked.items():
            if selects(pattern, name):
                reason = why
        if reason is None:
            binary.append(name)
        else:
            floats[name] = reason
    if not binary:
        reasons = '; '.join(dict.fromkeys(floats.values()))
        raise ValueError(
            f'no convolution of {type(model).__name__} can have 1 bit: '
            f'{reasons or "it has none"}. --bits 8 and w4a8 take all layers')
    stays = {}
    for reason in dict.fromkeys(floats.values()):
        names = [n for n, why in floats.items() if why == reason]
        others = [n for n in convs if floats.get(n) != reason]
        stays.update(dict.fromkeys(shorten(names, others), reason))
    step = dict(
        type='mmcompress.ReplaceConvs',
        conv_cfg=dict(rule['convs']),
        include=list(dict.fromkeys(n.partition('.')[0] for n in binary)))
    inside = [
        pattern for pattern in stays if any(
            selects(i, n) for i in step['include'] for n in floats
            if selects(pattern, n))
    ]
    if inside:
        step['exclude'] = inside
    linear = [n for n, m in layers.items() if isinstance(m, nn.Linear)]
    for pattern in shorten(linear, list(convs)):
        stays[pattern] = 'fully connected: no measurement of ours with 1 bit'
    return LowBit([step], stays, 'w1a1', rule['note'], _thawed(model))


# ---- Transformers ----------------------------------------------------------


def _one_bit_transformer(family: Family, model: nn.Module, rule: dict,
                         exclude: Sequence[str]) -> LowBit:
    step = dict(type='mmcompress.QuantizeLayers', **rule['layers'])
    backbone = class_names(part_of(model, 'backbone'))
    if backbone & set(rule['norms']):
        step.update(query_norm=dict(type='IRM'), key_norm=dict(type='IRM'))
    names = [name for name, _ in model.named_modules()]
    between = 'backbone.stages.*.downsample.reduction'
    if any(fnmatchcase(name, between) for name in names):
        step['overrides'] = {
            between:
            dict(
                weight=dict(type='ActBi', offset=None),
                activation=dict(type='ActBi'))
        }
    stays = {
        'the patch embedding and the layers that predict':
        'they are few, and the first and the last error cost the most'
    }
    if 'include' in rule:
        step['include'] = list(rule['include'])
        stays['all but ' + ', '.join(rule['include'])] = rule['note']
    floats = dict.fromkeys(exclude, 'asked for')
    if 'include' not in rule:
        floats.update(_only_trains(model))
    if floats:
        step['exclude'] = list(floats)
        stays.update(floats)
    return LowBit([step], stays, 'w1a1', rule['note'])


# ---- Integers of several bits ----------------------------------------------


def _depthwise(model: nn.Module) -> list[str]:
    kinds = (nn.Conv2d, nn.Linear, nn.MultiheadAttention)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, kinds)}
    found = [
        name for name, layer in layers.items() if isinstance(layer, nn.Conv2d)
        and 1 < layer.groups == layer.in_channels
    ]
    return shorten(found, [n for n in layers if n not in found])


def _stays_float(model: nn.Module, exclude: Sequence[str]) -> dict[str, str]:
    stays = {}
    for rule in table()['stays_float']:
        if fits(model, rule):
            stays.update(dict.fromkeys(_depthwise(model), rule['reason']))
    return {
        **stays,
        **_only_trains(model),
        **dict.fromkeys(exclude, 'asked for')
    }


def _has_attention(model: nn.Module) -> bool:
    return any('Attention' in type(m).__name__ for m in model.modules())


def steps_for_bits(family: Family,
                   bits: str,
                   model: nn.Module,
                   exclude: Sequence[str] = (),
                   for_onnx: bool = False) -> LowBit:
    """Steps that give a model few bits, as the table recommends for its kind.

    Args:
        family (Family): The model's.
        bits (str): ``'8'``, ``'w4a8'``, ``'w4a4'``: as ``tools/quantize.py``
            quantizes; ``'ternary'``: weights of -1, 0 and 1, activations of
            8 bits; ``'1'``: 1-bit convolutions, or Bi-ViT's quantizers.
        model (nn.Module): A float model; left as it is.
        exclude (Sequence[str]): Patterns of what else stays float.
        for_onnx (bool): With 8 and 4 bits: whether what residual blocks add
            and what attentions multiply is quantized, as ONNX Runtime wants
            it; packed models compute both in float.

    Raises:
        ValueError: If ``bits`` is something else, a pattern selects nothing,
            or no layer can have so few bits; says why.
    """
    if bits not in BITS:
        raise ValueError(f'bits {bits!r} is none of {", ".join(BITS)}')
    _check(model, exclude)
    if bits == '1':
        rule = table()['one_bit'][row_of(family)['one_bit']]
        make = _one_bit_convs if 'convs' in rule else _one_bit_transformer
        return make(family, model, rule, exclude)
    stays = _stays_float(model, exclude)
    if bits in _INTEGERS:
        weight, activation = _INTEGERS[bits]
        step = step_arguments(
            weight,
            activation,
            attention=8 if for_onnx else 32,
            residual=for_onnx and has_branches(model),
            exclude=list(stays))
        if not for_onnx and _has_attention(model):
            stays['products in attentions'] = (
                'packed models compute them in float; with --export onnx they '
                'have 8 bits')
        label = f'w{weight}a{activation}'
    else:
        step = dict(table()['ternary'][row_of(family)['ternary']])
        if stays:
            step['exclude'] = list(stays)
        label = 'ternary_a8'
    return LowBit([dict(type='mmcompress.QuantizeLayers', **step)], stays,
                  label)
