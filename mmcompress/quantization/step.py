"""The step that quantizes a model's layers and attentions."""
from dataclasses import dataclass, fields, replace

import torch.nn as nn
from mmengine.logging import print_log
from torch.nn.utils.parametrize import is_parametrized

from mmcompress.lowbit import FLOAT, LowBitLayer
from mmcompress.registry import STEPS
from mmcompress.selection import match_modules, selects
from mmcompress.tables import format_table
from .attention.rules import (attention_rule, eight_bit_children, float_layers,
                              float_products, handled_children)
from .first_last import first_and_last
from .first_step import check_first_step
from .layers import Product
from .norms import freeze_norms, quantize_branches
from .quantizer import Quantizer
from .spec import Spec
from .swap import float_base, why_not

_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
_8_BITS = dict(
    weight=dict(type='LSQ', bits=8), activation=dict(type='LSQ', bits=8))


@dataclass(frozen=True)
class _Plan:
    """What the step is going to do, by the names of modules.

    Attributes:
        layers (dict[str, Spec]): Layers that are swapped.
        attentions (dict[str, Spec]): Attentions that get products.
        floats (dict[str, str]): What stays as it is, and why.
    """
    layers: dict[str, Spec]
    attentions: dict[str, Spec]
    floats: dict[str, str]


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        options = ' or '.join(map(repr, allowed))
        raise ValueError(f'{name} must be {options}, got {value!r}')


def _merge(base: dict | None, change: dict | int | None) -> dict | None:
    """Config of a quantizer, changed; a number stands for bits."""
    if change is None:
        return None
    if isinstance(change, int):
        change = dict(bits=change)
    if 'type' in change or base is None:
        return dict(change)
    return {**base, **change}


@STEPS.register_module()
class QuantizeLayers:
    """Step that quantizes layers, and the products of attentions, in place.

    Parameters keep their names, so that the float model's checkpoint loads.
    Quantizers begin with the first training step, unless
    ``tools/quantize.py`` calibrated them. In that step, one that nothing
    calls is an error: what it quantizes is read by something else.

    A table says what became of every layer.

    Args:
        weight (dict | None): Config of the weights' quantizer, such as
            ``dict(type='LSQ', bits=4)``, with one scale per output channel
            unless it says ``per='tensor'``; None: weights stay float.
        activation (dict | None): Of what is multiplied with weights.
        attention (dict | None): Of the queries, keys, values and maps of
            attentions, one scale per head; None: products of two activations
            stay float.
        softmax (dict | None): Of the maps. Defaults to ``attention``,
            unsigned.
        query_norm (dict | None): Config of a norm of the queries of each
            head, such as ``dict(type='IRM')``.
        key_norm (dict | None): The same of keys.
        include (list[str] | None): Patterns of the modules, see
            :func:`mmcompress.selection.selects`. Defaults to all.
        exclude (list[str] | None): Patterns of what stays float.
        first_last (dict | None): ``weight`` and ``activation`` of the first
            convolution, of the layers that predict, and of those that say
            where a deformable attention looks; by default LSQ of 8 bits.
            None: as the others.
        overrides (dict[str, dict] | None): By pattern, other configs or bits:
            ``{'backbone.layer4': dict(weight=8, activation=None)}``. Of
            several that match, the later ones change the earlier.
        act_granularity (str): ``'tensor'``: one scale for each input.
            ``'channel'``: one per input channel, as in released code of
            papers; there are no integer products then.
        attention_granularity (str): ``'head'`` or ``'tensor'``.
        norms (str): ``'trained'``: batch norms stay as they are.
            ``'frozen'``: they use their stored statistics in training, too,
            and are not trained, see
            :func:`~mmcompress.quantization.norms.freeze_norms`.
        residual (dict | bool): Whether what residual blocks add is quantized,
            as ONNX Runtime wants it; True: as activations, or a config.

    Raises:
        ValueError: On an unknown key or choice.
    """

    def __init__(self,
                 weight: dict | None = None,
                 activation: dict | None = None,
                 attention: dict | None = None,
                 softmax: dict | None = None,
                 query_norm: dict | None = None,
                 key_norm: dict | None = None,
                 include: list[str] | None = None,
                 exclude: list[str] | None = None,
                 first_last: dict | None = _8_BITS,
                 overrides: dict[str, dict] | None = None,
                 act_granularity: str = 'tensor',
                 attention_granularity: str = 'head',
                 norms: str = 'trained',
                 residual: dict | bool = False) -> None:
        for key, patterns in dict(include=include, exclude=exclude).items():
            if isinstance(patterns, str):
                raise TypeError(f'{key} is a list of patterns: write '
                                f'[{patterns!r}], not {patterns!r}')
        _check('act_granularity', act_granularity, ('tensor', 'channel'))
        _check('attention_granularity', attention_granularity,
               ('head', 'tensor'))
        _check('norms', norms, ('trained', 'frozen'))
        if residual is True and activation is None:
            raise ValueError('residual=True quantizes as activations are, and '
                             'these have no quantizer: give it a config, such '
                             "as residual=dict(type='LSQ', bits=8)")
        self.norms = norms
        self.residual = activation if residual is True else residual
        self.spec = Spec(weight, activation, attention, softmax, query_norm,
                         key_norm, act_granularity, attention_granularity)
        self.include = ['*'] if include is None else include
        self.exclude = exclude or []
        if first_last is _8_BITS:
            first_last = {
                key: cfg
                for key, cfg in _8_BITS.items()
                if getattr(self.spec, key) is not None
            }
        self.first_last = first_last
        self.overrides = overrides or {}
        allowed = [field.name for field in fields(Spec)]
        changes = dict(self.overrides, first_last=first_last or {})
        for where, change in changes.items():
            unknown = set(change) - set(allowed)
            if unknown:
                raise ValueError(
                    f'{where!r}: unknown keys {sorted(unknown)}; there are '
                    f'{", ".join(allowed)}')

    def __call__(self, model: nn.Module) -> None:
        """Change the model in place, and log a table.

        Raises:
            ValueError: If a pattern selects nothing that can be quantized; if
                it selects what can not. Nothing is changed then.
        """
        plan = self._plan(model)
        for name, spec in plan.attentions.items():
            attention = model.get_submodule(name)
            rule = attention_rule.find(attention)
            if rule is not None:
                # one that stands in several places is swapped once
                rule(attention, spec)
        for name, spec in plan.layers.items():
            layer = model.get_submodule(name)
            if not isinstance(layer, LowBitLayer):
                # one that stands in several places is swapped once
                spec.swap(layer)
        if self.norms == 'frozen':
            print_log(f'Froze {freeze_norms(model)} batch norms', 'current')
        if self.residual:
            quantize_branches(model, self.residual)
        for name, module in model.named_modules():
            if isinstance(module, Quantizer):
                module.path = name
        _log(model, plan)
        check_first_step(model)

    # ---- Plan --------------------------------------------------------------

    def _plan(self, model: nn.Module) -> _Plan:
        modules = dict(model.named_modules(remove_duplicate=False))
        layers = {
            name: module
            for name, module in modules.items() if isinstance(module, _LAYERS)
        }
        wanted = match_modules(model, _LAYERS, self.include, self.exclude)
        edges = first_and_last(layers) if self.first_last else set()
        attentions = {
            name: self._spec(name, False)
            for name, module in modules.items()
            if attention_rule.find(module) is not None and self._selects(name)
        }
        handled = {
            f'{name}.{child}'
            for name in attentions
            for child in handled_children(modules[name])
        }
        self._check_patterns(modules, handled)
        if self.first_last:
            edges |= {
                f'{name}.{child}'
                for name in attentions
                for child in eight_bit_children(modules[name])
            }
        plan = _Plan({}, attentions, {})
        reasons = {}
        for name, layer in layers.items():
            if name in handled:
                continue
            spec = self._spec(name, name in edges)
            parent = modules[name.rpartition('.')[0]]
            reason = float_layers(parent) or self._why_float(
                name, layer, spec, wanted)
            if reason is not None:
                plan.floats[name] = reason
                continue
            refusal = _why_not(layer, parent)
            if refusal is not None:
                reasons[name] = refusal
            spec.check()
            plan.layers[name] = spec
        if reasons:
            lines = [f'{name}: {reason}' for name, reason in reasons.items()]
            raise ValueError(
                'these layers can not be quantized:\n' + '\n'.join(lines) +
                f'\nLeave them out: exclude={self.exclude + list(reasons)}')
        self._add_products(plan, modules)
        if not (plan.layers or plan.attentions):
            raise ValueError('QuantizeLayers has nothing to do: ' +
                             '; '.join(f'{name}: {why}'
                                       for name, why in plan.floats.items()))
        return plan

    def _check_patterns(self, modules: dict, handled: set[str]) -> None:
        """Refuse patterns that would do nothing."""
        for pattern in self.overrides:
            if not any(selects(pattern, name) for name in modules):
                raise ValueError(
                    f'overrides: {pattern!r} selects no module of '
                    f'{type(modules[""]).__name__}')
        for name in sorted(handled):
            attention = name.rpartition('.')[0]
            for pattern in (*self.exclude, *self.overrides):
                if selects(pattern, name) and not selects(pattern, attention):
                    raise ValueError(
                        f'{pattern!r} selects {name}, which is quantized with '
                        f'its attention and as that is: name {attention} '
                        'instead')

    def _selects(self, name: str) -> bool:
        return (any(selects(pattern, name) for pattern in self.include)
                and not any(selects(p, name) for p in self.exclude))

    def _spec(self, name: str, is_edge: bool) -> Spec:
        """The configs for a module, the last of what matches."""
        spec = self.spec
        changes = [self.first_last] if is_edge else []
        changes += [
            change for pattern, change in self.overrides.items()
            if selects(pattern, name)
        ]
        for change in changes:
            spec = replace(
                spec, **{
                    key:
                    value if isinstance(value, str) else _merge(
                        getattr(spec, key), value)
                    for key, value in change.items()
                })
        return spec

    def _why_float(self, name: str, layer: nn.Module, spec: Spec,
                   wanted: list[str]) -> str | None:
        if isinstance(layer, LowBitLayer):
            return 'low-bit by an earlier step'
        if name not in wanted:
            return 'not selected'
        if spec.weight is None and spec.activation is None:
            return 'no quantizer is given for it'
        return None

    def _add_products(self, plan: _Plan, modules: dict) -> None:
        """Say which products of two activations stay float."""
        for name, module in modules.items():
            reason = float_products(module)
            if reason is not None and self._selects(name):
                plan.floats[name] = f'its products: {reason}'


def _why_not(layer: nn.Module, parent: nn.Module) -> str | None:
    """Why a selected layer can't be quantized; None if it can."""
    if float_base(layer) is None:
        return None
    if isinstance(parent, nn.MultiheadAttention):
        return ('nn.MultiheadAttention reads its weight and never calls it: '
                'select the attention, not only this child of it')
    if is_parametrized(layer) or 'weight' not in layer._parameters:
        return 'its weight is computed by a parametrization or a hook'
    return why_not(layer)


# ---- Table -----------------------------------------------------------------


def _describe(quantizer: Quantizer | None) -> str:
    if quantizer is None:
        return 'float'
    scales = f' x{quantizer.size}' if quantizer.size > 1 else ''
    return f'{quantizer.bits} {type(quantizer).__name__}{scales}'


def _row(name: str, module: LowBitLayer) -> list[str]:
    """Bits of both operands and whose they are."""
    bits = module.operand_bits()
    own = dict(module.named_children())
    weight = '-'
    if bits.weight is not None:
        weight = _describe(own.get('weight_quant'))
    others = [
        _describe(child) for key, child in own.items()
        if isinstance(child, Quantizer) and key != 'weight_quant'
    ]
    return [name, type(module).__name__, weight, ', '.join(others) or 'float']


def _log(model: nn.Module, plan: _Plan) -> None:
    rows = [
        _row(name, module) for name, module in model.named_modules()
        if isinstance(module, LowBitLayer) and any(
            isinstance(child, Quantizer) for child in module.children())
    ]
    title = f'Quantized {len(rows)} layers and products'
    header = ['module', 'is', 'weight', 'activations']
    print_log(format_table(title, header, rows), logger='current')
    floats = [[name, type(model.get_submodule(name)).__name__, why]
              for name, why in plan.floats.items()]
    floats += [[name, 'Product', 'no quantizer is given for it']
               for name, module in model.named_modules()
               if isinstance(module, Product)
               and FLOAT in module.operand_bits().activations]
    if floats:
        print_log(
            format_table('Stays as it is', ['module', 'is', 'why'], floats),
            logger='current')
