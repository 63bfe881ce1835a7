"""The step that lets convolutions of any model filter their gradients."""
import logging

import torch.nn as nn
from mmengine.logging import print_log
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from mmcompress.lowbit import LowBitModule
from mmcompress.lowbit.replace import own_forward
from mmcompress.registry import STEPS
from mmcompress.selection import match_modules, selects
from mmcompress.tables import format_table
from .freeze import freeze, keep_norms_in_eval, trained_share
from .function import check_patch
from .layer import GradientFilterConv2d, filter_gradient, why_not_layer

_UNSUPPORTED = ('error', 'exact')


def _convolves(module: nn.Module) -> bool:
    """Whether a module is, or looks like, a convolution of any class."""
    if isinstance(module, nn.Conv2d):
        return True
    weight = module._parameters.get('weight')
    return (weight is not None and not is_lazy(weight) and weight.dim() > 2)


def _recomputes(model: nn.Module, name: str) -> str | None:
    """The module around a layer that computes its activations again."""
    parts = name.split('.')
    for i in range(len(parts)):
        above = '.'.join(parts[:i])
        module = model.get_submodule(above)
        if (getattr(module, 'with_cp', False)
                or type(module).__name__ == 'CheckpointWrapper'):
            return above or type(model).__name__
    return None


def _why_not(model: nn.Module, name: str, patch: int) -> str | None:
    """Why the gradient of a part of a model can't be filtered."""
    layer = model.get_submodule(name)
    if isinstance(layer, LowBitModule):
        return (f'{type(layer).__name__} is a low-bit layer, whose gradient '
                'is its own')
    if not isinstance(layer, nn.Conv2d):
        return f'{type(layer).__name__} is no Conv2d'
    if isinstance(layer, GradientFilterConv2d):
        return f'it filters its gradient already, with patch={layer.patch}'
    if is_parametrized(layer):
        return 'its weight is computed by a parametrization'
    other = own_forward(type(layer), nn.Conv2d)
    if other is not None:
        return (f'{other.__module__}.{other.__qualname__} has a forward of '
                'its own')
    above = _recomputes(model, name)
    if above is not None:
        return (f'{above} recomputes its activations (with_cp=True): it keeps '
                'its whole input, which defeats the saving')
    return why_not_layer(layer, patch)


@STEPS.register_module()
class FilterGradients:
    """Step that lets convolutions compute their gradients by patches.

    A layer becomes a :class:`GradientFilterConv2d` and stays the same object
    with the same parameters and names; checkpoints load as before, and what
    is trained is a plain mm model. The step may also choose what trains.
    Without ``layers``, that is all that it does.

    Args:
        layers (dict[str, int]): Side of the patch, in positions of the
            output, by pattern, see :func:`mmcompress.selection.selects`.
        exclude (list[str] | None): Patterns of what stays exact.
        freeze (list[str] | None): Patterns of what isn't trained, applied in
            this order; with ``~`` in front, of what is.
        norm_eval (bool): Whether all batch norms use their running
            statistics, also in training.
        stride_correction (bool): See :class:`GradientFilterConv2d`.
        unsupported (str): ``'error'``, or ``'exact'`` to leave selected
            layers that can't be filtered as they are, and warn of them.

    Raises:
        TypeError: If ``layers`` is no dict, or a list is a string.
        ValueError: If nothing is to be done, or an argument is none of those
            above; when called, if a pattern selects nothing, two select the
            same layer with different patches, or a layer can't be filtered.
            No layer is changed then.
    """

    def __init__(self,
                 layers: dict[str, int],
                 exclude: list[str] | None = None,
                 freeze: list[str] | None = None,
                 norm_eval: bool = False,
                 stride_correction: bool = True,
                 unsupported: str = 'error') -> None:
        if not isinstance(layers, dict):
            raise TypeError('layers must be a dict of patterns and sides of '
                            f"patches, such as {{'backbone.layer4': 2}}, got "
                            f'{layers!r}')
        if not layers and not freeze and not norm_eval:
            raise ValueError('FilterGradients: without layers, freeze and '
                             'norm_eval there is nothing to do')
        if unsupported not in _UNSUPPORTED:
            raise ValueError(f'unsupported={unsupported!r} is none of '
                             f'{", ".join(map(repr, _UNSUPPORTED))}')
        for key, patterns in dict(exclude=exclude, freeze=freeze).items():
            if isinstance(patterns, str):
                raise TypeError(f'{key} must be a list, such as '
                                f'[{patterns!r}]')
        if exclude and not layers:
            raise ValueError('exclude: there are no layers to exclude from')
        for patch in layers.values():
            check_patch(patch)
        self.layers = dict(layers)
        self.exclude = exclude or []
        self.freeze = freeze or []
        self.norm_eval = norm_eval
        self.stride_correction = stride_correction
        self.unsupported = unsupported

    def __call__(self, model: nn.Module) -> None:
        """Change the model in place, and log a table of what changed."""
        patches = self._patches(model)
        reasons = self._reasons(model, patches)
        if self.norm_eval:
            num = keep_norms_in_eval(model)
            print_log(f'{num} batch norms use their running statistics',
                      'current')
        freeze(model, self.freeze)
        rows = []
        for name, patch in patches.items():
            if name in reasons:
                continue
            layer = model.get_submodule(name)
            # a layer that stands in several places is one layer
            if not isinstance(layer, GradientFilterConv2d):
                filter_gradient(layer, patch, self.stride_correction)
            trains = 'yes' if layer.weight.requires_grad else 'no'
            rows.append([
                name, f'{layer.kernel_size[0]}x{layer.kernel_size[1]}',
                layer.stride[0], layer.dilation[0], patch, layer.path, trains
            ])
        if rows:
            header = ('layer', 'kernel', 'stride', 'dilation', 'patch', 'path',
                      'trains')
            print_log(
                format_table(f'{len(rows)} layers filter their gradients',
                             list(header), rows), 'current')
        print_log(trained_share(model), 'current')

    def _patches(self, model: nn.Module) -> dict[str, int]:
        """Patches of the selected layers and of what looks like one."""
        convs = {
            name: module
            for name, module in model.named_modules(remove_duplicate=False)
            if _convolves(module)
        }
        kinds = (nn.Conv2d, *{type(m) for m in convs.values()})
        patches: dict[str, int] = {}
        owner: dict[nn.Module, tuple[str, int]] = {}
        for pattern, patch in self.layers.items():
            for name in match_modules(model, kinds, [pattern], [], 'layers'):
                if name not in convs:
                    continue
                first = owner.setdefault(convs[name], (pattern, patch))
                if first[1] != patch:
                    raise ValueError(
                        f'layers: {first[0]!r} wants patch={first[1]} of '
                        f'{name}, and {pattern!r} patch={patch}')
                patches[name] = patch
        left_out: set[str] = set()
        for pattern in self.exclude:
            found = {name for name in patches if selects(pattern, name)}
            if not found:
                raise ValueError(
                    f'exclude: {pattern!r} selects none of what layers '
                    f'select: {", ".join(patches)}')
            left_out |= found
        if patches and left_out == set(patches):
            raise ValueError('exclude takes away everything that layers '
                             'select')
        return {n: p for n, p in patches.items() if n not in left_out}

    def _reasons(self, model: nn.Module, patches: dict) -> dict[str, str]:
        """Why layers stay exact, by name."""
        reasons = {
            name: reason
            for name, patch in patches.items()
            if (reason := _why_not(model, name, patch)) is not None
        }
        if not reasons:
            return reasons
        lines = '\n'.join(f'{name}: {why}' for name, why in reasons.items())
        if self.unsupported == 'exact' and len(reasons) == len(patches):
            raise ValueError('of none of the selected layers the gradient can '
                             f'be filtered:\n{lines}')
        if self.unsupported == 'error':
            raise ValueError(
                f'the gradients of these layers can not be filtered:\n{lines}'
                f'\nLeave them out: exclude={self.exclude + list(reasons)}, '
                "or have those that can't be filtered stay exact: "
                "unsupported='exact'")
        print_log(f'The gradients of these layers stay exact:\n{lines}',
                  'current', logging.WARNING)
        return reasons
