"""Channel-wise distillation: match where each channel is active."""
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss, channel_adapter
from .checks import check_maps


def channel_wise_kl(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """KL divergence of each channel's distribution over positions.

    Args:
        student (Tensor): Shape (N, C, H, W).
        teacher (Tensor): Shape (N, C, H, W).
        tau (float): Softmax temperature.

    Returns:
        Tensor: KL(teacher || student) in nats, shape (N, C), at least float32.
    """
    # a softmax over thousands of positions underflows in half precision
    dtype = torch.promote_types(student.dtype, torch.float32)
    log_p_s = F.log_softmax(student.flatten(2).to(dtype) / tau, dim=-1)
    log_p_t = F.log_softmax(teacher.flatten(2).to(dtype) / tau, dim=-1)
    kl = F.kl_div(log_p_s, log_p_t, reduction='none', log_target=True)
    return kl.sum(-1)


@MODELS.register_module()
class CWDLoss(DistillLoss):
    """Loss of CWD (Shu et al., ICCV 2021, arXiv:2011.13256).

    Each channel becomes a distribution over its ``H * W`` positions; the loss
    is ``loss_weight * tau**2`` times the mean over images and channels of the
    KL divergence from the teacher's to the student's.

    Args:
        tau (float): Softmax temperature. Defaults to 1.0, as for features;
            the paper uses 4.0 for segmentation logits.
        loss_weight (float): Defaults to 1.0.
        student_channels (int | None): With ``teacher_channels``: a 1x1
            convolution adapts the student's channels to the teacher's.
        teacher_channels (int | None): See ``student_channels``.

    Raises:
        ValueError: If ``tau <= 0``, or in ``forward`` if the shapes are not
            those of maps, or differ.
    """

    images_first = True

    def __init__(self,
                 tau: float = 1.0,
                 loss_weight: float = 1.0,
                 student_channels: int | None = None,
                 teacher_channels: int | None = None) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f'tau must be positive, got {tau}')
        self.tau = tau
        self.loss_weight = loss_weight
        self.channels = student_channels, teacher_channels
        self.adapter = channel_adapter(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one level.

        Args:
            student (Tensor): Shape (N, C, H, W).
            teacher (Tensor): Shape (N, C, H, W), without gradient.

        Returns:
            Tensor: Scalar; 0 without images or RoIs, and for maps of one
            position, with a warning.
        """
        check_maps(self, student, teacher, self.channels)
        if not student.numel():
            return self.zero(student)
        if student.shape[2:].numel() == 1:
            warnings.warn('CWDLoss compares positions, and maps of one '
                          f'position, {tuple(student.shape)}, add nothing; '
                          'tap what comes before the pooling')
        kl = channel_wise_kl(self.adapter(student), teacher, self.tau)
        return self.loss_weight * self.tau**2 * kl.mean()
