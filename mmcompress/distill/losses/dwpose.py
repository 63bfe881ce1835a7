"""DWPose: match the last feature, and where each keypoint is believed."""
from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss
from .checks import check_lists, check_maps, shapes_of
from .cwd import channel_wise_kl


@MODELS.register_module()
class DWPoseFeatureLoss(DistillLoss):
    """Feature loss of DWPose (Yang et al., ICCVW 2023, arXiv:2307.15880).

    ``alpha_fea / N`` times the sum of squared differences of the features,
    over channels and positions.

    Differs from the paper, as its code: not divided by C * H * W as well,
    with ``alpha_fea`` accordingly.

    Args:
        student_channels (int): Channels of the student's feature. A 1x1
            convolution adapts them where the teacher's differ.
        teacher_channels (int): Channels of the teacher's feature.
        alpha_fea (float): Weight; 7e-5 in all official configs.

    Raises:
        ValueError: In ``forward``, if the shapes don't fit.
    """

    weight_names = ('alpha_fea', )

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 alpha_fea: float = 7e-5) -> None:
        super().__init__()
        self.channels = student_channels, teacher_channels
        self.alpha_fea = alpha_fea
        self.align = nn.Identity() if student_channels == teacher_channels \
            else nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one level.

        Args:
            student (Tensor): Shape (N, C_s, H, W).
            teacher (Tensor): Shape (N, C_t, H, W), without gradient.

        Returns:
            Tensor: Scalar; 0 without images.
        """
        check_maps(self, student, teacher, self.channels)
        if not student.numel():
            return self.zero(student)
        student = self.align(student)
        # a sum over thousands of squares overflows in half precision
        dtype = torch.promote_types(student.dtype, torch.float32)
        difference = student.to(dtype) - teacher.to(dtype)
        return self.alpha_fea * difference.square().sum() / len(difference)


@MODELS.register_module()
class DWPoseLogitLoss(DistillLoss):
    """Logit loss of DWPose (Yang et al., ICCVW 2023, arXiv:2307.15880).

    SimCC logits, times ``beta``, are a distribution over bins for each
    keypoint and axis. The loss is ``weight`` times the mean over images and
    keypoints of the KL divergence from the teacher's to the student's, added
    up over the axes. Keypoints that nobody labelled count like the others:
    there the teacher is all that the student has.

    Args:
        weight (float): 0.1 in the first stage and 1 in the second.
        beta (float | None): Factor of the logits. None: that of the
            student's ``head.loss_module``.

    Raises:
        ValueError: If ``beta <= 0``; in ``forward``, if the logits don't fit,
            or if there is no ``beta``.
    """

    takes_levels = True
    weight_names = ('weight', )

    def __init__(self, weight: float = 1.0, beta: float | None = None) -> None:
        super().__init__()
        if beta is not None and beta <= 0:
            raise ValueError(f'beta must be positive, got {beta}')
        self.weight = weight
        self.beta = beta

    def forward(self,
                student: Sequence[Tensor],
                teacher: Sequence[Tensor],
                student_model: nn.Module | None = None) -> Tensor:
        """Compute the loss.

        Args:
            student (Sequence[Tensor]): Logits along x, shape (N, K, W), and
                along y, shape (N, K, H), for K keypoints.
            teacher (Sequence[Tensor]): The same shapes.
            student_model (nn.Module | None): Where ``beta`` is looked up.

        Returns:
            Tensor: Scalar, in nats; 0 without images.
        """
        self._check(student, teacher)
        if not student[0].numel():
            return self.zero(*student)
        # the factor is the inverse of a temperature
        tau = 1 / self._beta(student_model)
        return self.weight * sum(
            channel_wise_kl(s, t.detach(), tau).mean()
            for s, t in zip(student, teacher))

    def _check(self, student: Sequence[Tensor],
               teacher: Sequence[Tensor]) -> None:
        check_lists(self, student=student, teacher=teacher)
        wants = ('it wants the two outputs of SimCC heads, (N, K, W) and '
                 '(N, K, H), with the same keypoints, input_size and '
                 'simcc_split_ratio')
        shapes = shapes_of(student), shapes_of(teacher)
        if shapes[0] != shapes[1] or \
                [len(s) for s in shapes[0]] != [3, 3] or \
                shapes[0][0][:2] != shapes[0][1][:2]:
            raise ValueError(f'DWPoseLogitLoss got student {shapes[0]} and '
                             f'teacher {shapes[1]}; {wants}')

    def _beta(self, student_model: nn.Module | None) -> float:
        if self.beta is not None:
            return self.beta
        head = getattr(student_model, 'head', None)
        beta = getattr(getattr(head, 'loss_module', None), 'beta', None)
        if beta is None:
            raise ValueError('DWPoseLogitLoss: the student has no '
                             'head.loss_module.beta; give `beta`')
        return beta
