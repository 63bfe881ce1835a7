"""Attention transfer: look where the teacher looks."""
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcompress.distill import DistillLoss
from mmcompress.distill.losses.checks import check_tensors
from mmcompress.registry import MODELS


def attention_map(feature: Tensor) -> Tensor:
    """Sum of squares over the channels, as a vector of length 1.

    Args:
        feature (Tensor): Shape (N, C, H, W).

    Returns:
        Tensor: Shape (N, H * W); zero where the feature is zero.
    """
    # squares of half precision overflow from 256 on
    dtype = torch.promote_types(feature.dtype, torch.float32)
    return F.normalize(feature.to(dtype).square().sum(1).flatten(1), dim=1)


@MODELS.register_module()
class AttentionTransferLoss(DistillLoss):
    """Loss of attention transfer (Zagoruyko et al., ICLR 2017, 1612.03928).

    With the maps ``Q`` of :func:`attention_map`, the loss is ``beta / 2``
    times the mean over images of ``||Q_S - Q_T||^2``. The channels of student
    and teacher may differ; the sizes of their maps may not.

    Differs from the paper: the distance is squared, so that it has a
    derivative where student and teacher agree.

    Args:
        beta (float): Weight.

    Raises:
        TypeError: In ``forward``, if student or teacher is not a tensor.
        ValueError: If one is not a map, or heights or widths differ.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one level.

        Args:
            student (Tensor): Shape (N, C, H, W).
            teacher (Tensor): Shape (N, C', H, W), without gradient.

        Returns:
            Tensor: Scalar.
        """
        check_tensors(self, student=student, teacher=teacher)
        if student.dim() != 4 or len(student) != len(teacher) or \
                student.shape[2:] != teacher.shape[2:]:
            raise ValueError(
                f'AttentionTransferLoss: student {tuple(student.shape)} and '
                f'teacher {tuple(teacher.shape)} must be maps (N, C, H, W) of '
                'equal height and width, of the same images; tap modules of '
                'equal stride')
        if not student.numel():
            return self.zero(student)
        distance = attention_map(student) - attention_map(teacher)
        return self.beta / 2 * distance.square().sum(1).mean()
