"""The step that gives a model the shapes that pruning left."""
import torch
import torch.nn as nn
from mmengine.logging import print_log

from mmcompress.model.config import without_downloads
from mmcompress.registry import STEPS
from mmcompress.tables import format_table
from .cutting import cut, known_units
from .structure import carry_structure


@STEPS.register_module()
class KeepUnits:
    """Step that builds a pruned model, whose checkpoint then loads.

    Shapes are right from the beginning, for optimizers, parallel wrappers and
    resumed trainings. Which units were kept is a matter of the weights:
    ``tools/deploy/prune.py`` writes both.

    What ``init_cfg`` would load into parts of the dense model is not loaded.

    Args:
        units (dict[str, int]): How many units each group keeps, by its name,
            such as ``{'backbone.layers.0.attn': 48, 'backbone.layers.0.ffn':
            1152}``: channels of each head, and hidden units. Groups that
            aren't named stay whole.

    Raises:
        TypeError: If a count is no integer.
        ValueError: If there is none, or one is not positive.
    """

    def __init__(self, units: dict[str, int]) -> None:
        if not units:
            raise ValueError('KeepUnits has nothing to do: units is empty. '
                             'Name groups of units, such as '
                             "units={'backbone.layers.0.ffn': 1152}")
        for name, num in units.items():
            if not isinstance(num, int) or isinstance(num, bool):
                raise TypeError(f'units: {name!r} needs a number of units, '
                                f'got {num!r}')
            if num < 1:
                raise ValueError(f'units: {name!r} must keep at least one '
                                 f'unit, got {num}')
        self.units = dict(units)

    def __call__(self, model: nn.Module) -> None:
        """Change the model in place, and log a table.

        Raises:
            KeyError: If the model has no group of a name.
            ValueError: If a group has fewer units, or can't be cut. Nothing
                is changed then.
        """
        groups = known_units(model, list(self.units))
        for name, num in self.units.items():
            if num > groups[name].num:
                raise ValueError(
                    f'units: {name!r} can not keep {num} units: it has '
                    f'{groups[name].num} in the dense model')
        names = [
            path for name, units in groups.items()
            if self.units[name] < units.num for path in units.names(model)
        ]
        cut(model, {
            name: torch.arange(n, device='cpu')
            for name, n in self.units.items()
        })
        carry_structure(model, names)
        without_downloads(model)
        rows = [[name, units.kind, self.units[name], units.num]
                for name, units in groups.items()]
        print_log(
            format_table('Pruned', ['units of', 'kind', 'kept', 'of'], rows),
            logger='current')
