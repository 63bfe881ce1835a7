"""PKD: compare feature maps by their Pearson correlation."""
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss, channel_adapter
from .checks import check_maps


def standardize(feature: Tensor) -> Tensor:
    """Give each channel mean 0 and standard deviation 1 over the batch.

    Args:
        feature (Tensor): Shape (N, C, H, W), with more than one value in a
            channel.

    Returns:
        Tensor: Same shape.
    """
    std, mean = torch.std_mean(feature, dim=(0, 2, 3), keepdim=True)
    return (feature - mean) / (std + 1e-6)


@MODELS.register_module()
class PKDLoss(DistillLoss):
    """Loss of PKD (Cao et al., NeurIPS 2022, arXiv:2207.02039).

    Half the mean squared difference of the maps after each channel was
    standardized, which is 1 minus their correlation: scale and offset of a
    channel don't matter, so that detectors of different families can learn
    from each other.

    Statistics are those of the batch on the device.

    Args:
        loss_weight (float): Defaults to 1.0; the official configs have 6 or
            10.
        resize_stu (bool): Where sizes differ, resize the student's map to the
            teacher's. False: the other way round.
        student_channels (int | None): With ``teacher_channels``: a 1x1
            convolution adapts the student's channels to the teacher's.
        teacher_channels (int | None): See ``student_channels``.

    Raises:
        ValueError: If only one of the channels is given, or in ``forward`` if
            the shapes are not those of maps, or differ in more than height
            and width.
    """

    images_first = True

    def __init__(self,
                 loss_weight: float = 1.0,
                 resize_stu: bool = True,
                 student_channels: int | None = None,
                 teacher_channels: int | None = None) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.resize_stu = resize_stu
        self.channels = student_channels, teacher_channels
        self.adapter = channel_adapter(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one level.

        Args:
            student (Tensor): Shape (N, C, H, W).
            teacher (Tensor): Shape (N, C, H', W'), without gradient.

        Returns:
            Tensor: Scalar; 0 without images or RoIs, and for a single value
            per channel, with a warning.
        """
        check_maps(self, student, teacher, self.channels, same_size=False)
        if not student.numel() or not teacher.numel():
            return self.zero(student)
        student = self.adapter(student)
        # in half precision the 1e-6 next to the deviation is lost
        dtype = torch.promote_types(student.dtype, torch.float32)
        student, teacher = student.to(dtype), teacher.to(dtype)
        if student.shape != teacher.shape:
            if self.resize_stu:
                student = _resize(student, teacher)
            else:
                teacher = _resize(teacher, student)
        if student.numel() == student.shape[1]:
            warnings.warn('PKDLoss: one 1x1 map has no deviation to divide '
                          'by and adds nothing; use larger maps or batches')
            return self.zero(student)
        difference = standardize(student) - standardize(teacher)
        return self.loss_weight * difference.square().mean() / 2


def _resize(feature: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(feature, like.shape[2:], mode='bilinear')
