"""Put low-bit layers into a model in place of its float layers, and back."""
import copy

import torch.nn as nn
from mmengine.logging import print_log
from torch.nn.utils.parametrize import is_parametrized

from mmcompress.registry import MODELS, STEPS
from mmcompress.selection import match_modules
from mmcompress.tables import format_table
from .layer import FLOAT_LAYERS, LowBitLayer, convert_layer, float_kind

# subclasses with a forward that only serves old versions of torch
_SAME_AS_TORCH = 'mmcv.cnn.bricks.wrappers'


def _set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition('.')
    setattr(model.get_submodule(parent), attribute, module)


def own_forward(cls: type, kind: type) -> type | None:
    """The class between ``cls`` and ``kind`` that computes otherwise."""
    for base in cls.__mro__[:cls.__mro__.index(kind)]:
        own = {'forward', '_conv_forward'} & vars(base).keys()
        if own and base.__module__ != _SAME_AS_TORCH:
            return base
    return None


def _why_not(layer: nn.Module, kind: type, parent: nn.Module) -> str | None:
    """Why a layer can't be replaced; None if it can."""
    if isinstance(parent, nn.MultiheadAttention):
        return ('nn.MultiheadAttention reads its weight and never calls it, '
                'so a layer in its place would do nothing')
    if is_parametrized(layer):
        return 'its weight is computed by a parametrization'
    if layer._forward_pre_hooks or layer._forward_hooks:
        return 'it has hooks (such as weight_norm), which would be lost'
    if isinstance(layer, LowBitLayer) or kind not in FLOAT_LAYERS:
        return None
    other = own_forward(type(layer), kind)
    if other is not None:
        return (f'{other.__module__}.{other.__qualname__} has a forward of '
                f'its own, which a layer in place of {kind.__name__} has not')
    return None


@STEPS.register_module()
class ReplaceLayers:
    """Step that replaces layers, keeping their names and weights.

    A layer that isn't trained stays so.

    Args:
        layer_cfg (dict | list[dict]): Config of the new layer, such as
            ``dict(type='mmcompress.IDaDetConv2d')``. It takes the arguments
            of the float layer that it derives from, and replaces layers of
            that class; or those that its attribute ``replaces`` names. Of
            several, the first that fits.
        include (list[str]): Patterns, see
            :func:`mmcompress.selection.selects`.
        exclude (list[str] | None): Patterns of what stays as it is.
    """

    def __init__(self,
                 layer_cfg: dict | list[dict],
                 include: list[str],
                 exclude: list[str] | None = None) -> None:
        self.layer_cfg = layer_cfg
        self.include = include
        self.exclude = exclude or []

    def _targets(self) -> list[tuple[tuple[type, ...], type, dict]]:
        """Replaced classes, new class and its other arguments."""
        cfgs = self.layer_cfg
        targets = []
        for cfg in [cfgs] if isinstance(cfgs, dict) else cfgs:
            options = dict(cfg)
            kind = options.pop('type')
            cls = kind
            if isinstance(kind, str):
                with MODELS.switch_scope_and_registry('mmcompress') as reg:
                    cls = reg.get(kind)
            if not isinstance(cls, type):
                raise TypeError(f'layer_cfg: {kind!r} is no class of a layer')
            replaces = (issubclass(cls, LowBitLayer)
                        and cls.replaces) or (float_kind(cls), )
            targets.append((replaces, cls, options))
        return targets

    def __call__(self, model: nn.Module) -> None:
        """Change the model in place, and log a table of what changed.

        Raises:
            ValueError: If a pattern selects no layer that can be replaced; if
                it selects one that computes something else than the class it
                derives from. Nothing is changed then.
        """
        targets = self._targets()
        kinds = tuple(kind for replaces, _, _ in targets for kind in replaces)
        names = match_modules(model, kinds, self.include, self.exclude)
        self._check(model, names, kinds)
        rows = []
        # a layer that stands in several places stays one layer
        replaced: dict[nn.Module, nn.Module] = {}
        for name in names:
            old = model.get_submodule(name)
            if old not in replaced:
                replaced[old] = self._convert(old, targets)
            _set_module(model, name, replaced[old])
            rows.append([
                name,
                type(old).__name__,
                type(replaced[old]).__name__,
                f'{sum(p.numel() for p in old.parameters()):,}'
            ])
        print_log(
            format_table(f'Replaced {len(rows)} layers',
                         ['layer', 'was', 'is', 'parameters'], rows),
            logger='current')

    def _check(self, model: nn.Module, names: list[str],
               kinds: tuple[type, ...]) -> None:
        reasons = {}
        for name in names:
            layer = model.get_submodule(name)
            kind = next(k for k in kinds if isinstance(layer, k))
            parent = model.get_submodule(name.rpartition('.')[0])
            reason = _why_not(layer, kind, parent)
            if reason is not None:
                reasons[name] = reason
        if reasons:
            lines = [f'{name}: {reason}' for name, reason in reasons.items()]
            raise ValueError(
                'these layers can not be replaced:\n' + '\n'.join(lines) +
                f'\nLeave them out: exclude={self.exclude + list(reasons)}')

    def _convert(self, old: nn.Module, targets: list) -> nn.Module:
        cls, options = next((cls, options)
                            for replaces, cls, options in targets
                            if isinstance(old, replaces))
        if isinstance(old, LowBitLayer):
            # an earlier step's
            old = old.to_float()
        if issubclass(cls, LowBitLayer):
            return cls.from_float(old, **options)
        return convert_layer(old, cls, **options)


@STEPS.register_module()
class ReplaceConvs(ReplaceLayers):
    """:class:`ReplaceLayers` for convolutions, by its old name.

    Args:
        conv_cfg (dict): The ``layer_cfg``.
        include (list[str]): As there.
        exclude (list[str] | None): As there.
    """

    def __init__(self,
                 conv_cfg: dict,
                 include: list[str],
                 exclude: list[str] | None = None) -> None:
        super().__init__(conv_cfg, include, exclude)


def float_twin(model: nn.Module) -> nn.Module:
    """The same network with plain layers in place of its low-bit ones.

    It computes something else, in the time that the float network takes.

    Args:
        model (nn.Module): Not changed.
    """
    twin = copy.deepcopy(model)
    plain: dict[nn.Module, nn.Module] = {}

    def make_plain(parent: nn.Module) -> None:
        for name, child in list(parent._modules.items()):
            if isinstance(child, LowBitLayer):
                if child not in plain:
                    plain[child] = child.to_float()
                child = plain[child]
                setattr(parent, name, child)
            if child is not None:
                # a plain layer may have fewer children
                make_plain(child)

    make_plain(twin)
    return twin
