"""MGD: generate the teacher's whole feature from a part of the student's."""
from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss
from .checks import check_levels

MASK_TYPES = ('spatial', 'channel')


def random_mask(feature: Tensor, mask_type: str, ratio: float) -> Tensor:
    """Draw what is kept, for each image on its own.

    Args:
        feature (Tensor): Shape (N, C, H, W).
        mask_type (str): ``'spatial'`` or ``'channel'``.
        ratio (float): Probability that a position, or channel, is dropped.

    Returns:
        Tensor: 1 for kept and 0 for dropped, shape (N, 1, H, W) or
        (N, C, 1, 1).
    """
    n, c, h, w = feature.shape
    shape = (n, 1, h, w) if mask_type == 'spatial' else (n, c, 1, 1)
    noise = torch.rand(shape, device=feature.device)
    return (noise >= ratio).to(feature.dtype)


class MGDLevel(nn.Module):
    """MGD of one feature map; see :class:`MGDLoss`."""

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.align = nn.Identity() if student_channels == teacher_channels \
            else nn.Conv2d(student_channels, teacher_channels, 1)
        self.generation = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1))

    def forward(self, student: Tensor, mask: Tensor) -> Tensor:
        """Generate a feature of shape (N, teacher_channels, H, W).

        Args:
            student (Tensor): Shape (N, student_channels, H, W).
            mask (Tensor): From :func:`random_mask`.
        """
        return self.generation(self.align(student) * mask)


@MODELS.register_module()
class MGDLoss(DistillLoss):
    """Loss of MGD (Yang et al., ECCV 2022, arXiv:2205.01529).

    A random part of the student's feature is dropped, and two convolutions
    generate the teacher's whole feature from the rest. The loss is
    ``alpha_mgd`` times the sum of squared differences, divided by N: it grows
    with the size of the maps. The official authors choose ``alpha_mgd`` so
    that it is about as large as the student's own loss.

    For semantic segmentation the official configs add channel-wise
    distillation of the logits, here a :class:`CWDLoss` of its own.

    Args:
        student_channels (int): Channels of the student's features. A 1x1
            convolution adapts them where the teacher's differ.
        teacher_channels (int): Channels of the teacher's features.
        num_levels (int): Features that the taps yield.
        alpha_mgd (float): Weight of the loss: 2e-5 for one-stage detectors and
            segmentation, 5e-7 for two-stage detectors, 7e-5 for
            classification.
        lambda_mgd (float): Share that is dropped: 0.65, 0.75, 0.45, 0.15. 0
            keeps everything.
        mask_type (str): ``'spatial'`` drops positions, ``'channel'`` drops
            channels, as official for classification.

    Raises:
        ValueError: If ``mask_type`` is neither or ``lambda_mgd`` is not in
            [0, 1], or in ``forward`` if levels, channels or sizes don't fit.

    Attributes:
        draw_mask (Callable): Feature, mask type, share -> mask. Replace it on
            an instance to inject masks. Defaults to :func:`random_mask`.
    """

    takes_levels = True
    weight_names = ('alpha_mgd', )

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 num_levels: int = 1,
                 alpha_mgd: float = 2e-5,
                 lambda_mgd: float = 0.65,
                 mask_type: str = 'spatial') -> None:
        super().__init__()
        if mask_type not in MASK_TYPES:
            raise ValueError("mask_type must be 'spatial' or 'channel', got "
                             f'{mask_type!r}')
        if not 0 <= lambda_mgd <= 1:
            raise ValueError(f'lambda_mgd must be in [0, 1], got {lambda_mgd}')
        self.channels = student_channels, teacher_channels
        self.alpha_mgd = alpha_mgd
        self.lambda_mgd = lambda_mgd
        self.mask_type = mask_type
        self.draw_mask = random_mask
        self.levels = nn.ModuleList(
            MGDLevel(student_channels, teacher_channels)
            for _ in range(num_levels))

    def forward(self, student: Sequence[Tensor],
                teacher: Sequence[Tensor]) -> list[Tensor]:
        """Loss of each level.

        Args:
            student (Sequence[Tensor]): Shape (N, C_s, H_i, W_i).
            teacher (Sequence[Tensor]): Shape (N, C_t, H_i, W_i), without
                gradient.

        Returns:
            list[Tensor]: Scalars; 0 without images or RoIs.
        """
        check_levels(self, self.channels, len(self.levels), student, teacher)
        losses = []
        for level, s, t in zip(self.levels, student, teacher):
            if not s.numel():
                losses.append(self.zero(s))
                continue
            # a sum over a whole map overflows in half precision
            dtype = torch.promote_types(s.dtype, torch.float32)
            with torch.autocast(s.device.type, enabled=False):
                s, t = s.to(dtype), t.to(dtype)
                mask = self.draw_mask(t, self.mask_type, self.lambda_mgd)
                squares = (level(s, mask) - t).square().sum()
            losses.append(self.alpha_mgd * squares / len(s))
        return losses
