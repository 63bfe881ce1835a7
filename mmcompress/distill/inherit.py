"""Inheriting: parts of the student start from the teacher's weights."""
import torch
import torch.nn as nn
from mmengine.logging import print_log

from mmcompress.tables import format_table


@torch.no_grad()
def inherit(student: nn.Module, teacher: nn.Module,
            parts: list[str]) -> list[list]:
    """Copy the teacher's parameters and buffers of the named parts.

    Args:
        student (nn.Module): Receives them.
        teacher (nn.Module): Gives them.
        parts (list[str]): Names of modules, such as ``'neck'``; everything
            below them is copied where name and shape agree.

    Returns:
        list[list]: Rows (part, tensors of the student, copied, skipped
        because of what), which are also logged as a table.

    Raises:
        ValueError: If nothing of a part can be copied.
    """
    source = teacher.state_dict()
    target = student.state_dict()
    rows = []
    for part in parts:
        keys = [k for k in target if k == part or k.startswith(part + '.')]
        absent = [k for k in keys if k not in source]
        differ = [
            k for k in keys
            if k in source and source[k].shape != target[k].shape
        ]
        copied = [k for k in keys if k not in absent and k not in differ]
        if not copied:
            raise ValueError(
                f'init_student: nothing of {part!r} can be copied: the '
                f'student has {len(keys)} tensors there, {len(absent)} of '
                f'them not in the teacher, {len(differ)} of another shape')
        for key in copied:
            target[key].copy_(source[key])
        skipped = [f'{key}: not in the teacher' for key in absent] + [
            f'{key}: {tuple(source[key].shape)} in the teacher, '
            f'{tuple(target[key].shape)} in the student' for key in differ
        ]
        rows.append([part, len(keys), len(copied), skipped])
    print_log(
        format_table('Inherited from the teacher',
                     ['part', 'tensors', 'copied', 'skipped'],
                     [[*row[:3], '\n'.join(row[3]) or '-'] for row in rows]),
        logger='current')
    return rows
