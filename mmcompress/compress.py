"""Change layers of any mm model, by steps that a config lists."""
import difflib
from fnmatch import fnmatchcase

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.registry import MODELS as MMENGINE_MODELS

from mmcompress.registry import MODELS, STEPS
from mmcompress.tables import format_table


def build_inner(builder: str, cfg: dict, data_preprocessor: dict | None,
                unexpected: dict) -> nn.Module:
    """Build the model that one of our builders is about.

    Args:
        builder (str): Name of the builder, for messages.
        cfg (dict): Config of any mm model.
        data_preprocessor (dict | None): The model's, where the config has it
            outside of ``model``.
        unexpected (dict): Arguments that the builder doesn't know.

    Raises:
        TypeError: If there are unexpected arguments.
    """
    if unexpected:
        raise TypeError(
            f'mmcompress.{builder} got the keys {", ".join(unexpected)}, which'
            ' belong to the model of a base config: write '
            f"`model = dict(_delete_=True, type='mmcompress.{builder}', ...)`")
    if data_preprocessor is not None:
        cfg = {'data_preprocessor': data_preprocessor, **cfg}
    return MMENGINE_MODELS.build(cfg)


def selects(pattern: str, name: str) -> bool:
    """Whether a pattern selects a module.

    Args:
        pattern (str): Name of the module or of one above it, or its whole
            name with wildcards (``backbone.layer*.conv1``).
        name (str): As in ``model.named_modules()``.
    """
    return (name == pattern or name.startswith(f'{pattern}.')
            or fnmatchcase(name, pattern))


def match_modules(model: nn.Module, kind: type, include: list[str],
                  exclude: list[str]) -> list[str]:
    """Names of the modules of a kind that patterns select.

    Args:
        model (nn.Module): The model.
        kind (type): Class of the modules.
        include (list[str]): Patterns of what is wanted, see :func:`selects`.
        exclude (list[str]): Patterns of what is left out.

    Raises:
        ValueError: If a pattern selects nothing.
    """
    names = [
        name for name, m in model.named_modules(remove_duplicate=False)
        if isinstance(m, kind)
    ]
    # a pattern is often the name of something above
    existing = [name for name, _ in model.named_modules() if name]

    def select(patterns: list[str], key: str) -> set[str]:
        selected = set()
        for pattern in patterns:
            found = {name for name in names if selects(pattern, name)}
            if not found:
                close = difflib.get_close_matches(pattern, existing, 3, 0.3)
                raise ValueError(
                    f'{key}: {pattern!r} selects no {kind.__name__} of '
                    f'{type(model).__name__}; closest: '
                    f'{", ".join(close or names[:3]) or "it has none"}')
            selected |= found
        return selected

    wanted = select(include, 'include') - select(exclude, 'exclude')
    if not wanted:
        raise ValueError('exclude takes away everything that include selects')
    return [name for name in names if name in wanted]


@STEPS.register_module()
class ReplaceConvs:
    """Step that replaces convolutions, keeping their names and weights.

    Args:
        conv_cfg (dict): Config of the new layer, such as
            ``dict(type='mmcompress.IDaDetConv2d')``. It takes the arguments
            of :class:`torch.nn.Conv2d` and loads its state dict.
        include (list[str]): Patterns, see :func:`selects`.
        exclude (list[str] | None): Patterns of what stays as it is.
    """

    def __init__(self,
                 conv_cfg: dict,
                 include: list[str],
                 exclude: list[str] | None = None) -> None:
        self.conv_cfg = conv_cfg
        self.include = include
        self.exclude = exclude or []

    def __call__(self, model: nn.Module) -> None:
        """Change the model in place, and log a table of what changed.

        Raises:
            ValueError: If a pattern selects no convolution.
        """
        rows = []
        # a layer that stands in several places stays one layer
        replaced: dict[nn.Module, nn.Module] = {}
        for name in match_modules(model, nn.Conv2d, self.include,
                                  self.exclude):
            parent, _, attribute = name.rpartition('.')
            old = model.get_submodule(name)
            if old not in replaced:
                replaced[old] = self._convert(old)
            new = replaced[old]
            setattr(model.get_submodule(parent), attribute, new)
            rows.append([
                name,
                type(old).__name__,
                type(new).__name__, f'{old.weight.numel():,}'
            ])
        print_log(
            format_table(f'Replaced {len(rows)} convolutions',
                         ['layer', 'was', 'is', 'weights'], rows),
            logger='current')

    def _convert(self, old: nn.Conv2d) -> nn.Module:
        with MODELS.switch_scope_and_registry('mmcompress') as registry:
            new = registry.build({
                **self.conv_cfg,
                **dict(
                    in_channels=old.in_channels,
                    out_channels=old.out_channels,
                    kernel_size=old.kernel_size,
                    stride=old.stride,
                    padding=old.padding,
                    dilation=old.dilation,
                    groups=old.groups,
                    bias=old.bias is not None,
                    padding_mode=old.padding_mode)
            })
        new.to(old.weight).train(old.training)
        new.load_state_dict(old.state_dict())
        return new


def _refuse_packed(model: nn.Module, state_dict: dict, prefix: str,
                   *args) -> None:
    from mmcompress.binary.layers.base import refuse_packed
    refuse_packed(state_dict, prefix)


@MODELS.register_module()
def Compress(model: dict,
             steps: list[dict],
             data_preprocessor: dict | None = None,
             **unexpected) -> nn.Module:
    """Build a model and change its layers.

    The result is the model itself; its class and its parameter names stay.

    Args:
        model (dict): Config of any mm model.
        steps (list[dict]): Configs of steps, applied in this order.
        data_preprocessor (dict | None): The model's, where the config has it
            outside of ``model``.

    Returns:
        nn.Module: The changed model.

    Raises:
        TypeError: If keys of a base config were not deleted.
    """
    built = build_inner('Compress', model, data_preprocessor, unexpected)
    for step in steps:
        STEPS.build(step)(built)
    built.register_load_state_dict_pre_hook(_refuse_packed)
    return built
