"""Feature distillation by squared differences (FitNets)."""
import torch
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss, channel_adapter


def unit_norm(feature: Tensor, mult: float = 1.0) -> Tensor:
    """Scale each sample to L2 norm ``mult``; an all-zero sample stays zero.

    Args:
        feature (Tensor): Shape (N, ...).

    Returns:
        Tensor: Shape (N, D).
    """
    flat = feature.flatten(1)
    norm = flat.norm(dim=1, keepdim=True)
    # no epsilon: it would change every other value
    return flat / torch.where(norm > 0, norm, 1) * mult


@MODELS.register_module()
class FeatureL2Loss(DistillLoss):
    """Hint loss of FitNets (Romero et al., ICLR 2015, arXiv:1412.6550).

    The sum of squared differences of the features, divided by N. With
    ``student_channels`` and ``teacher_channels`` a trainable 1x1 convolution
    with BN and ReLU, the regressor of the paper, comes after the student.

    Differs from the paper: hints and labels are learnt together, not in two
    stages, and features are normalized by default, as in the code that
    published the configs' numbers.

    Args:
        loss_weight (float): Defaults to 1.0.
        normalize (bool): Scale each sample's feature to norm ``mult``.
        mult (float): That norm.
        div_element (bool): Divide by the number of elements, not by N.
        dist (bool): The distance itself, not its square; not divided.
        student_channels (int | None): With ``teacher_channels``: adapt.
        teacher_channels (int | None): See ``student_channels``.

    Raises:
        ValueError: If only one of the channels is given, or in ``forward`` if
            the shapes differ.
    """

    def __init__(self,
                 loss_weight: float = 1.0,
                 normalize: bool = True,
                 mult: float = 1.0,
                 div_element: bool = False,
                 dist: bool = False,
                 student_channels: int | None = None,
                 teacher_channels: int | None = None) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.normalize = normalize
        self.mult = mult
        self.div_element = div_element
        self.dist = dist
        self.adapter = channel_adapter(
            student_channels, teacher_channels, norm_and_relu=True)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one level.

        Args:
            student (Tensor): Shape (N, ...).
            teacher (Tensor): The same shape, without gradient.

        Returns:
            Tensor: Scalar.
        """
        student = self.adapter(student)
        if student.shape != teacher.shape:
            raise ValueError(
                f'FeatureL2Loss: student {tuple(student.shape)} and teacher '
                f'{tuple(teacher.shape)} differ in shape; student_channels '
                'and teacher_channels adapt channels, but not sizes')
        dtype = torch.promote_types(student.dtype, torch.float32)
        student, teacher = student.to(dtype), teacher.to(dtype)
        if self.normalize:
            student = unit_norm(student, self.mult)
            teacher = unit_norm(teacher, self.mult)
        squares = (student - teacher).square().sum()
        if self.dist:
            # the square root has no derivative at 0
            distance = torch.where(squares > 0, squares, 1).sqrt()
            return self.loss_weight * torch.where(squares > 0, distance,
                                                  squares)
        count = student.numel() if self.div_element else len(student)
        return self.loss_weight * squares / count
