"""Checkpoints of DWPose's official code, as plain mm checkpoints."""
from collections.abc import Mapping
from typing import Any

# what names of the wanted weights begin with, officially and plainly
_FIRST_STAGE = [('student.', '')]
_SECOND_STAGE = [
    ('teacher.backbone', 'backbone'),
    ('teacher.neck', 'neck'),
    ('student.head', 'head'),
    # a part of another method's loss, which mmpose's transfer takes along
    ('distill_losses.loss_mgd.down', 'head.down'),
]


def convert_dwpose(checkpoint: Mapping[str, Any],
                   two_dis: bool = False) -> dict[str, Any]:
    """Take the trained estimator out of an official distiller's checkpoint.

    It is for checkpoints of mmpose's ``DWPoseDistiller`` and of the authors'
    repository, which hold teacher and student; ours need no conversion.

    Args:
        checkpoint (Mapping): As it was read; weights under ``state_dict``.
        two_dis (bool): Whether it is of the second stage, whose backbone and
            neck are the teacher's and whose head is the student's.

    Returns:
        dict: ``meta`` (where the checkpoint has it) and ``state_dict`` with
        plain names, in the order of the checkpoint.

    Raises:
        ValueError: If the checkpoint is not of an official distiller.
    """
    state = checkpoint.get('state_dict', {})
    renamed = {
        new + key.removeprefix(old): value
        for key, value in state.items()
        for old, new in (_SECOND_STAGE if two_dis else _FIRST_STAGE)
        if key.startswith(old)
    }
    if not renamed:
        raise ValueError(
            'not a checkpoint of an official DWPose distiller: under '
            'state_dict, no name begins with "student.", but there are '
            f'{", ".join(list(state)[:3]) or "none"}')
    kept = {'meta': checkpoint['meta']} if 'meta' in checkpoint else {}
    return dict(**kept, state_dict=renamed)
