"""What losses ask of their inputs, in sentences where it is not so."""
from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor


def check_levels(loss: nn.Module, channels: tuple[int, int], num_levels: int,
                 student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    """Check features against what a loss was made for.

    Args:
        loss (nn.Module): Named in the message.
        channels (tuple[int, int]): Of the student and of the teacher.
        num_levels (int): How many features both yield.
        student (Sequence[Tensor]): Shape (N, C_s, H_i, W_i).
        teacher (Sequence[Tensor]): Shape (N, C_t, H_i, W_i).

    Raises:
        ValueError: If levels, channels or sizes don't fit.
    """
    shapes = [[tuple(x.shape) for x in xs] for xs in (student, teacher)]
    fits = all(
        (s[1], t[1]) == channels and s[2:] == t[2:] for s, t in zip(*shapes))
    if not fits or any(len(xs) != num_levels for xs in shapes):
        raise ValueError(
            f'{type(loss).__name__} got student {shapes[0]} and teacher '
            f'{shapes[1]}, and was made for {num_levels} levels (num_levels) '
            f'of {channels} channels (student_channels, teacher_channels); '
            'sizes must agree')
