"""Step that gives units masks, for a search to lower."""
import difflib

import torch.nn as nn

from mmcompress.registry import STEPS
from mmcompress.selection import selects
from .masks import add_masks
from .units import Units, find_units


@STEPS.register_module()
class MaskUnits:
    """Step that masks channels of attention heads and hidden units.

    Masks begin as 1, so the model computes what it did, and its checkpoint
    loads; :class:`mmcompress.hooks.UPopHook` lowers some to 0. They are in
    the checkpoints of the search, from which ``tools/deploy/prune.py`` makes
    a smaller model.

    Args:
        include (list[str] | None): Patterns of groups of units by their
            names, those of the attentions and feed-forward networks, see
            :func:`mmcompress.selection.selects`. Defaults to all.
        exclude (list[str] | None): Patterns of groups without masks.
        copies (dict[str, str] | None): By the name of a module that of the
            one whose masks it has, too, such as ``{'vision_backbone_m':
            'vision_backbone'}`` where one is the moving average of the other.

    Raises:
        TypeError: If patterns are no list.
    """

    def __init__(self,
                 include: list[str] | None = None,
                 exclude: list[str] | None = None,
                 copies: dict[str, str] | None = None) -> None:
        for key, patterns in dict(include=include, exclude=exclude).items():
            if isinstance(patterns, str):
                raise TypeError(f'{key} is a list of patterns: write '
                                f'[{patterns!r}], not {patterns!r}')
        self.include = ['*'] if include is None else include
        self.exclude = exclude or []
        self.copies = copies or {}

    def __call__(self, model: nn.Module) -> None:
        """Change the model in place.

        Raises:
            TypeError: If a layer can't be masked.
            ValueError: If the model has no units; if a pattern or a copy
                selects none. Nothing is changed then.
        """
        groups = {units.name: units for units in find_units(model)}
        if not groups:
            raise ValueError(
                f'MaskUnits: {type(model).__name__} has no attention or '
                'feed-forward network whose units are known')
        wanted = self._select(self.include, 'include', groups)
        wanted -= self._select(self.exclude, 'exclude', groups)
        if not wanted:
            raise ValueError('MaskUnits: exclude takes away everything that '
                             'include selects')
        copies = self._copied(groups, wanted)
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

    def _copied(self, groups: dict[str, Units],
                wanted: set[str]) -> dict[str, str]:
        """Which group has which other one's mask."""
        copied = {}
        for copy, source in self.copies.items():
            pairs = {
                name: source + name.removeprefix(copy)
                for name in groups
                if name in wanted and f'{name}.'.startswith(f'{copy}.')
            }
            if not pairs:
                raise ValueError(f'MaskUnits: copies: {copy!r} has no units '
                                 'that include and exclude select')
            for name, other in pairs.items():
                if other not in wanted:
                    raise ValueError(f'MaskUnits: copies: {name} would have '
                                     f'the masks of {other}, which has none')
                if groups[other].num != groups[name].num:
                    raise ValueError(
                        f'MaskUnits: copies: {name} has {groups[name].num} '
                        f'units, and {other} {groups[other].num}')
            copied.update(pairs)
        return copied
