"""Step that gives units masks, for a search to lower."""
import difflib

import torch.nn as nn

from mmcompress.registry import STEPS
from mmcompress.selection import selects
from .masks import add_masks
from .one_shot import copies_of
from .units import Units, find_units


@STEPS.register_module()
class MaskUnits:
    """Step that masks channels of attention heads and hidden units.

    Masks begin as 1, so the model computes what it did, and its checkpoint
    loads; :class:`mmcompress.hooks.UPopHook` lowers some to 0. They are in
    the checkpoints of the search, from which ``tools/deploy/prune.py`` makes
    a smaller model. Moving averages, as those of BLIP's retrieval, have the
    masks of what they average.

    Args:
        include (list[str] | None): Patterns of groups of units by their
            names, those of the attentions and feed-forward networks, see
            :func:`mmcompress.selection.selects`. Defaults to all.
        exclude (list[str] | None): Patterns of groups without masks.

    Raises:
        TypeError: If patterns are no list.
    """

    def __init__(self,
                 include: list[str] | None = None,
                 exclude: list[str] | None = None) -> None:
        for key, patterns in dict(include=include, exclude=exclude).items():
            if isinstance(patterns, str):
                raise TypeError(f'{key} is a list of patterns: write '
                                f'[{patterns!r}], not {patterns!r}')
        self.include = ['*'] if include is None else include
        self.exclude = exclude or []

    def __call__(self, model: nn.Module) -> None:
        """Change the model in place.

        Raises:
            TypeError: If a layer can't be masked.
            ValueError: If the model has no units, or a pattern selects none.
                Nothing is changed then.
        """
        groups = {units.name: units for units in find_units(model)}
        if not groups:
            raise ValueError(
                f'MaskUnits: {type(model).__name__} has no attention or '
                'feed-forward network whose units are known')
        wanted = self._select(self.include, 'include', groups)
        wanted -= self._select(self.exclude, 'exclude', groups)
        copies = copies_of(model)
        wanted -= copies.keys()
        wanted |= {name for name, other in copies.items() if other in wanted}
        if not wanted:
            raise ValueError('MaskUnits: exclude takes away everything that '
                             'include selects')
        add_masks(model, [groups[n] for n in groups if n in wanted], copies)

    def _select(self, patterns: list[str], key: str,
                groups: dict[str, Units]) -> set[str]:
        selected = set()
        for pattern in patterns:
            found = {name for name in groups if selects(pattern, name)}
            if not found:
                close = difflib.get_close_matches(pattern, groups, 3, 0.3)
                raise ValueError(
                    f'MaskUnits: {key}: {pattern!r} selects no group of '
                    f'units; closest: {", ".join(close or list(groups)[:3])}')
            selected |= found
        return selected
