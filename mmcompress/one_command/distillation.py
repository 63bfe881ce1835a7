"""From a recipe to losses with taps, for a student and its teacher."""
import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn as nn
from mmengine.config import Config

from .families import Family, find_family, row_of, table
from .meeting import (Mismatch, common_run, extra_tokens, first_path, maps_in,
                      noise_for, only_call, outputs_of, slice_tap)


@dataclass(frozen=True)
class Distillation:
    """What a student learns from its teacher.

    Attributes:
        losses (dict[str, dict]): As ``mmcompress.Distill`` takes them.
        recipe (str): Name of the recipe.
        why (str): What chose it, in a sentence or two.
    """
    losses: dict[str, dict]
    recipe: str
    why: str


@dataclass(frozen=True)
class _Sides:
    """Shapes of what both models give, by path."""
    student: dict[str, list]
    teacher: dict[str, list]

    def each(self, function: Callable) -> list:
        """A function of the name of a side and its shapes, for both."""
        return [
            function('student', self.student),
            function('teacher', self.teacher)
        ]


# ---- Kinds of losses -------------------------------------------------------


def _maps(spec: dict, sides: _Sides) -> dict:
    """Levels of equal strides, with numbers of channels."""
    paths = sides.each(lambda side, out: first_path(side, spec['taps'], out))
    shapes = [
        only_call(side, path, outputs)
        for side, path, outputs in (('student', paths[0], sides.student),
                                    ('teacher', paths[1], sides.teacher))
    ]
    levels = [
        maps_in(side, path, shape)
        for side, path, shape in zip(('student', 'teacher'), paths, shapes)
    ]
    *starts, length = common_run(*levels)
    if not length:
        sizes = [[f'{h}x{w}' for _, _, h, w in side] for side in levels]
        raise Mismatch(
            f'no strides agree: on one image {paths[0]} of the student gives '
            f'{", ".join(sizes[0])}, {paths[1]} of the teacher '
            f'{", ".join(sizes[1])}')
    channels = [{level[1]
                 for level in side[start:start + length]}
                for side, start in zip(levels, starts)]
    if spec.get('last') or max(map(len, channels)) > 1:
        # one loss has one number of channels
        starts = [start + length - 1 for start in starts]
        length = 1
    ours, theirs = (side[start][1] for side, start in zip(levels, starts))
    loss = copy.deepcopy(spec['loss'])
    loss['student'], loss['teacher'] = (slice_tap(
        path, shape, start,
        length) for path, shape, start in zip(paths, shapes, starts))
    if spec['channels'] == 'always' or ours != theirs:
        loss.update(student_channels=ours, teacher_channels=theirs)
    if 'levels' in spec:
        loss[spec['levels']] = length
    return loss


def _classes(shape: tuple) -> str:
    return f'{shape[1]} classes' if len(shape) == 2 else f'shapes {shape}'


def _equal(spec: dict, sides: _Sides) -> dict:
    """Outputs of equal shapes, such as logits."""
    paths = sides.each(lambda side, out: first_path(side, spec['taps'], out))
    shapes = [
        only_call(side, path, outputs)
        for side, path, outputs in (('student', paths[0], sides.student),
                                    ('teacher', paths[1], sides.teacher))
    ]
    if shapes[0] != shapes[1]:
        ours, theirs = (
            _classes(shape) if isinstance(shape, tuple) else f'shapes {shape}'
            for shape in shapes)
        raise Mismatch(f'{paths[0]} of the student gives {ours}, {paths[1]} '
                       f'of the teacher {theirs}, which mean something else')
    each = shapes[0] if isinstance(shapes[0], list) else [shapes[0]]
    if any(s is None or len(s) not in spec['dims'] for s in each):
        raise Mismatch(f'{paths[0]} gives {shapes[0]}, not a tensor of '
                       f'{" or ".join(map(str, spec["dims"]))} axes')
    fewest = spec.get('fewest_classes', 1)
    if each[0][1] < fewest:
        raise Mismatch(f'{paths[0]} tells {each[0][1]} classes apart, and '
                       f'with fewer than {fewest} there is nothing to learn')
    return dict(
        copy.deepcopy(spec['loss']), student=paths[0], teacher=paths[1])


def _tokens(spec: dict, sides: _Sides) -> dict:
    """Layers of plain vision transformers."""
    root = spec['taps'][0]
    taps = dict(
        low=[f'{root}.{path}' for path in spec['low']],
        high=f'{root}.{spec["high"]}')

    def looked_at(side: str, outputs: dict) -> tuple[int, int, int]:
        shapes = [
            only_call(side, first_path(side, [path], outputs), outputs)
            for path in (*taps['low'], taps['high'])
        ]
        grid, extra = extra_tokens(side, shapes[-1])
        return grid, extra, shapes[-1][2]

    (grid, extra, ours), (others, extra_t, theirs) = sides.each(looked_at)
    if grid != others:
        raise Mismatch(f'the student has {grid} x {grid} patches, the teacher '
                       f'{others} x {others}')
    loss = dict(
        copy.deepcopy(spec['loss']),
        student=taps,
        teacher=copy.deepcopy(taps),
        student_dims=ours,
        teacher_dims=theirs)
    if (extra, extra_t) != (1, 1):
        loss.update(student_extra_tokens=extra, teacher_extra_tokens=extra_t)
    return loss


_KINDS = dict(maps=_maps, equal=_equal, tokens=_tokens)

# ---- The recipe ------------------------------------------------------------


def _paths(names: list[str]) -> list[str]:
    """All that the losses of some recipes may tap."""
    paths = []
    for name in names:
        for spec in table()['recipes'][name]['losses'].values():
            paths += spec['taps']
            below = [*spec.get('low', []), *filter(None, [spec.get('high')])]
            paths += [f'{spec["taps"][0]}.{path}' for path in below]
    return list(dict.fromkeys(paths))


def _losses(name: str, sides: _Sides) -> dict[str, dict]:
    specs = table()['recipes'][name]['losses']
    return {
        key: _KINDS[spec['kind']](spec, sides)
        for key, spec in specs.items()
    }


def _observe(names: list[str], student_cfg: Config, student: nn.Module,
             teacher_cfg: Config, teacher: nn.Module) -> _Sides:
    batch = noise_for(student, student_cfg)
    paths = _paths(names)
    ours = outputs_of(student, student_cfg, batch, paths)
    try:
        theirs = outputs_of(teacher, teacher_cfg, batch, paths)
    except Exception as error:
        size = ' x '.join(map(str, batch['inputs'].shape[2:]))
        raise ValueError(
            f'the teacher ({type(teacher).__name__}) fails on images of '
            f'{size} pixels, which the student takes: '
            f'{type(error).__name__}: {error}') from error
    return _Sides(ours, theirs)


def _order(family: Family, teacher_family: Family) -> list[str]:
    """Recipes, the one to try first at the front."""
    if teacher_family.name == family.name:
        return list(family.recipes)
    first = row_of(family).get('other_family', [])
    return list(dict.fromkeys([*first, *family.recipes]))


def distillation(family: Family, recipe: str | None, student_cfg: Config,
                 student: nn.Module, teacher_cfg: Config,
                 teacher: nn.Module) -> Distillation:
    """What a student learns from a teacher, and where.

    Both run once on two made-up images: numbers of channels, and which levels
    have equal strides, are those found then.

    Args:
        family (Family): The student's.
        recipe (str | None): Name of a recipe; None for the recommended one,
            or the first of the others that fits.
        student_cfg (Config): Whole config.
        student (nn.Module): Left as it is.
        teacher_cfg (Config): Whole config.
        teacher (nn.Module): Left as it is; any network of the same task.

    Returns:
        Distillation: Losses with their default weights.

    Raises:
        ValueError: If the tasks differ, the recipe is unknown or doesn't fit,
            or none does; says why, and what would.
    """
    teacher_family = find_family(teacher_cfg, teacher)
    if teacher_family.task != family.task:
        raise ValueError(
            f'the student ({type(student).__name__}) is for {family.task}, '
            f'the teacher ({type(teacher).__name__}) for '
            f'{teacher_family.task}: take a teacher of the same task')
    names = _order(family, teacher_family)
    if recipe is not None and recipe not in names:
        raise ValueError(f'recipe {recipe!r} is none for a {family.name}; '
                         f'there are {", ".join(names)}')
    sides = _observe(names, student_cfg, student, teacher_cfg, teacher)
    fit, reasons = {}, {}
    for name in names:
        try:
            fit[name] = _losses(name, sides)
        except Mismatch as mismatch:
            reasons[name] = str(mismatch)
    if recipe is not None and recipe in reasons:
        others = f'what fits: {", ".join(fit)}' if fit else 'no other does'
        raise ValueError(f'recipe {recipe!r} does not fit: {reasons[recipe]}; '
                         f'{others}')
    if not fit:
        lines = '\n'.join(f'{name}: {why}' for name, why in reasons.items())
        raise ValueError('no recipe fits this student and this teacher:\n'
                         f'{lines}')
    chosen = recipe or next(iter(fit))
    why = [f'{family.name}: {family.evidence}']
    if recipe is not None and recipe != names[0]:
        why = [f'asked for; recommended is {names[0]} ({why[0]})']
    if teacher_family.name != family.name:
        why.append(f'the teacher is another kind ({teacher_family.name})')
    if recipe is None:
        passed = names[:names.index(chosen)]
        why += [f'not {name}: {reasons[name]}' for name in passed]
    note = table()['recipes'][chosen].get('why')
    return Distillation(fit[chosen], chosen,
                        '; '.join(why + [note] if note else why))
