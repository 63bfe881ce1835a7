"""NKD: the teacher's opinion on the target and on the rest, separately."""
import warnings

import torch
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss
from .labels import check_classifier, class_targets, log_softmax_without


@MODELS.register_module()
class NKDLoss(DistillLoss):
    """Normalized KD (Yang et al., ICCV 2023, arXiv:2303.13005).

    With ``y`` the labelled class, ``p`` and ``q`` the student's and the
    teacher's probabilities, and hats for those that remain normalized without
    class ``y``, at temperature ``temp``, the mean over the images of

    - ``loss_target``: ``-q[y] * log(p[y])``, at temperature 1,
    - ``loss_nontarget``: ``gamma * temp**2`` times the cross entropy of
      ``p^`` and ``q^``, an entropy that is not subtracted, so it is positive
      for equal logits, too.

    They are added to the student's own loss. After mixup or cutmix ``y`` is
    the class with the largest share. With two classes the second part is 0:
    a single class remains, and nothing is learnt from it.

    Args:
        temp (float): Temperature of the non-target classes. 1.0 for ImageNet,
            3.0 for CIFAR-100 in the official configs.
        gamma (float): Weight of the non-target part. 1.5 for CNNs on ImageNet,
            1.0 for vision transformers, 3.5 for CIFAR-100.

    Raises:
        ValueError: If ``temp <= 0``, or in ``forward`` if the logits differ in
            shape, there are fewer than 2 classes, or the labels don't fit.
    """

    def __init__(self, temp: float = 1.0, gamma: float = 1.5) -> None:
        super().__init__()
        if temp <= 0:
            raise ValueError(f'temp must be positive, got {temp}')
        self.temp = temp
        self.gamma = gamma

    def forward(self, student: Tensor, teacher: Tensor,
                data_samples: list) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            student (Tensor): Logits, shape (N, C).
            teacher (Tensor): Logits, shape (N, C).
            data_samples (list): mmpretrain's, with ``gt_label`` or
                ``gt_score``.

        Returns:
            dict[str, Tensor]: ``loss_target`` and ``loss_nontarget``; 0
            without images.
        """
        check_classifier(self, student=student, teacher=teacher)
        label = class_targets(self, data_samples, student)
        if not len(student):
            zero = self.zero(student)
            return dict(loss_target=zero, loss_nontarget=zero)
        if student.shape[1] == 2:
            warnings.warn('NKDLoss: of two classes one remains beside the '
                          'target, so that loss_nontarget is always 0; only '
                          'loss_target teaches, or use KDLoss')
        # softmax of large logits, in half precision, is 0 or 1
        dtype = torch.promote_types(student.dtype, torch.float32)
        student, teacher = student.to(dtype), teacher.detach().to(dtype)
        if label.dim() == 2:
            label = label.argmax(1)
        label = label[:, None]
        target = teacher.softmax(1).gather(1, label)
        target_loss = -(target * student.log_softmax(1).gather(1, label))

        is_target = torch.zeros_like(student, dtype=torch.bool)
        is_target.scatter_(1, label, True)
        log_p = log_softmax_without(student / self.temp, is_target)
        log_q = log_softmax_without(teacher / self.temp, is_target)
        others = log_q.exp().masked_fill(is_target, 0)
        others_loss = -(others * log_p).sum(1)
        return dict(
            loss_target=target_loss.mean(),
            loss_nontarget=self.gamma * self.temp**2 * others_loss.mean())
