"""Feature distillation by squared differences (FitNets)."""
import warnings

import torch
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss, channel_adapter
from .checks import check_maps, check_tensors


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
            the shapes differ, are not those of maps where there is an
            adapter, or leave a single number to be normalized.
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
        self.channels = student_channels, teacher_channels
        self.adapter = channel_adapter(
            student_channels, teacher_channels, norm_and_relu=True)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one level.

        Args:
            student (Tensor): Shape (N, ...); (N, C, H, W) with an adapter.
            teacher (Tensor): The same shape, without gradient.

        Returns:
            Tensor: Scalar; 0 without images or RoIs, and where the adapter's
            BN would see a single value, with a warning.
        """
        self._check(student, teacher)
        if not student.numel():
            return self.zero(student)
        if None not in self.channels:
            if self.training and student[:, 0].numel() == 1:
                warnings.warn(
                    'FeatureL2Loss: BN of the adapter cannot normalize one '
                    '1x1 map, which adds nothing; use larger maps or batches')
                return self.zero(student)
            student = self.adapter(student)
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

    def _check(self, student: Tensor, teacher: Tensor) -> None:
        if None not in self.channels:
            check_maps(self, student, teacher, self.channels)
        check_tensors(self, student=student, teacher=teacher)
        given = (f'FeatureL2Loss: student {tuple(student.shape)} and teacher '
                 f'{tuple(teacher.shape)}')
        if None in self.channels and student.shape != teacher.shape:
            raise ValueError(
                f'{given} differ in shape; student_channels and '
                'teacher_channels adapt the channels of maps, but not sizes')
        if student.dim() < 2:
            raise ValueError(f'{given} must be (N, ...), features of images')
        if self.normalize and teacher.shape[1:].numel() == 1:
            raise ValueError(f'{given}: one number, normalized, is its sign '
                             'and gets no gradient; use normalize=False')
