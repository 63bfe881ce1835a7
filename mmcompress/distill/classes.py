"""Teacher and student mean the same classes where their logits meet."""
import logging
from collections.abc import Sequence
from typing import Any

import torch.nn as nn
from mmengine.logging import print_log

from .taps import map_taps, parse_tap
from .teacher import Teacher

# what heads name the number of what they tell apart; of poses, keypoints
_NUMBERS = ('num_classes', 'num_keypoints', 'num_joints', 'out_channels')
_MOST = 20


def _number(name: str, module: nn.Module) -> int:
    """How many classes a head tells apart; 0 if it is no such head."""
    # a proposal network tells apart whether there is anything
    if 'head' not in name or 'rpn' in name:
        return 0
    pose = type(module).__module__.startswith('mmpose.')
    for key in _NUMBERS if pose else _NUMBERS[:1]:
        number = getattr(module, key, None)
        if isinstance(number, int) and number > 0:
            return number
    return 0


def _width(layer: nn.Module) -> int:
    """Features or channels that a layer gives; 0 of other modules."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    # the convolutions of torch and of mmcv have no class in common
    return getattr(layer, 'out_channels', 0)


def _is_output(layer: nn.Module, head: nn.Module, number: int) -> bool:
    """Whether a layer of a head gives something for each class."""
    anchors = getattr(head, 'num_base_priors', 1)
    return _width(layer) in {
        anchors * (number + background)
        for background in (0, 1)
    } if isinstance(anchors, int) else False


def classes_at(model: nn.Module, path: str) -> set[int]:
    """Numbers of classes of what a module computes.

    Args:
        model (nn.Module): The model.
        path (str): Name of the module.

    Returns:
        set[int]: Those of the heads that it is or has; of the head that it
        is the last layer of. Empty where it knows no classes, as a neck.
    """
    modules = dict(model.named_modules())
    if path not in modules:
        return set()
    numbers = {
        _number(name, module)
        for name, module in modules.items()
        if name == path or name.startswith(f'{path}.')
    }
    above = path
    while not numbers - {0} and '.' in above:
        above = above.rpartition('.')[0]
        number = _number(above, modules[above])
        if number and _is_output(modules[path], modules[above], number):
            numbers.add(number)
    return numbers - {0}


def _classes_tapped(model: nn.Module, taps: Any) -> set[int]:
    found: set[int] = set()

    def look(text: str) -> None:
        tap = parse_tap(text)
        # what follows a detector's logits is boxes
        if not tap.of_input and tap.index in (None, 0):
            found.update(classes_at(model, tap.path))

    map_taps(taps, look)
    return found


def _listed(names: Sequence[str]) -> str:
    more = f' and {len(names) - _MOST} more' if len(names) > _MOST else ''
    return ', '.join(names[:_MOST]) + more


def differing_names(mine: Sequence[str],
                    others: Sequence[str] | None) -> str | None:
    """In words, how the classes of a student and of its teacher differ.

    Args:
        mine (Sequence[str]): The teacher's, in the order of the labels.
        others (Sequence[str] | None): The student's; None if not known.

    Returns:
        str | None: None if they are the same, whatever the case of letters.
    """
    if others is None:
        return (f"The teacher's classes are {_listed(mine)}, by its "
                "checkpoint; the student's are not known here: see that its "
                'labels mean the same')
    plain, plain_others = ([' '.join(name.lower().split()) for name in names]
                           for names in (mine, others))
    if plain == plain_others:
        return None
    text = (f"The teacher's classes are {_listed(mine)}, by its checkpoint; "
            f"the student's are {_listed(others)}")
    first = next(
        (i for i, (a, b) in enumerate(zip(plain, plain_others)) if a != b),
        None)
    if first is not None:
        text += (f'. Label {first} is {mine[first]!r} to the teacher and '
                 f'{others[first]!r} to the student')
    if sorted(plain) == sorted(plain_others):
        text += ('. They are the same in another order: give the data of '
                 'the student the order of the teacher (`metainfo`)')
    return text


def check_classes(student: nn.Module, teacher: Teacher, taps: dict,
                  parts: Sequence[str]) -> None:
    """Look where a head is inherited or logits are compared.

    Args:
        student (nn.Module): The student.
        teacher (Teacher): Its teacher, which may have any classes where only
            its features are looked at.
        taps (dict): By side, taps by name of the loss.
        parts (Sequence[str]): What the student inherits.

    Raises:
        ValueError: If the numbers of classes differ there.
    """
    names = teacher.classes, teacher.student_data.classes
    meetings = {
        f'init_student: {part!r}':
        [classes_at(model, part) for model in (student, teacher.model)]
        for part in parts
    }
    meetings.update({
        f'losses.{name}': [
            _classes_tapped(model, taps[side].get(name))
            for model, side in ((student, 'student'), (teacher.model,
                                                       'teacher'))
        ]
        for name in taps['teacher']
    })
    met = {where: sides for where, sides in meetings.items() if all(sides)}
    for where, (ours, theirs) in met.items():
        if not ours & theirs:
            numbers = [', '.join(map(str, sorted(n))) for n in (ours, theirs)]
            raise ValueError(
                f'{where}: the student tells {numbers[0]} classes apart and '
                f'the teacher {numbers[1]}. Heads and logits of other classes '
                'mean something else: take what knows no classes, such as '
                "'neck', or a teacher that was trained on the student's "
                'classes'
                f'{_both(*names)}')
    if met and teacher.classes:
        text = differing_names(*names)
        if text:
            print_log(
                f'{"; ".join(met)}: {text}',
                logger='current',
                level=logging.WARNING)


def _both(mine: Sequence[str] | None, others: Sequence[str] | None) -> str:
    sides = [(f'; {side}: {_listed(names)}')
             for side, names in (('the teacher', mine), ('the student',
                                                         others)) if names]
    return ''.join(sides)
