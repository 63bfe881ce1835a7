"""Classic knowledge distillation: match softened class distributions."""
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss


def softened_kl(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Terms of the KL divergence between softened class distributions.

    Args:
        student (Tensor): Logits, shape (N, K, ...).
        teacher (Tensor): Logits, shape (N, K, ...).
        tau (float): Softmax temperature.

    Returns:
        Tensor: ``p_t * (log p_t - log p_s)`` in nats, shape (N, K, ...), at
        least float32. A sum over classes is KL(teacher || student). Where
        ``p_t`` is 0, as for a logit of minus infinity, the term is 0.
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    log_p_s = F.log_softmax(student.to(dtype) / tau, dim=1)
    log_p_t = F.log_softmax(teacher.to(dtype) / tau, dim=1)
    p_t = log_p_t.exp()
    return p_t * torch.where(p_t > 0, log_p_t - log_p_s, 0)


@MODELS.register_module()
class KDLoss(DistillLoss):
    """Loss of Hinton et al., NIPS 2014 workshop, arXiv:1503.02531.

    ``loss_weight * tau**2`` times the KL divergence from the teacher's class
    distribution to the student's, both softened by ``tau``.

    Args:
        tau (float): Softmax temperature.
        reduction (str): ``'batchmean'`` divides the sum by N only, so that it
            grows with the number of positions of dense logits; ``'mean'``
            divides by all elements, classes included; ``'sum'``; ``'none'``.
        loss_weight (float): Defaults to 1.0.
        teacher_detach (bool): Whether the teacher gets no gradient.

    Raises:
        ValueError: If ``tau`` or ``reduction`` is none of these, or in
            ``forward`` if the shapes differ.
    """

    def __init__(self,
                 tau: float = 1.0,
                 reduction: str = 'batchmean',
                 loss_weight: float = 1.0,
                 teacher_detach: bool = True) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f'tau must be positive, got {tau}')
        if reduction not in ('batchmean', 'mean', 'sum', 'none'):
            raise ValueError("reduction must be 'batchmean', 'mean', 'sum' or "
                             f"'none', got {reduction!r}")
        self.tau = tau
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student (Tensor): Logits, shape (N, K) or (N, K, H, W).
            teacher (Tensor): Logits of the same shape.

        Returns:
            Tensor: Scalar; of the logits' shape for reduction ``'none'``.
        """
        if student.shape != teacher.shape:
            raise ValueError(
                f'KDLoss: student {tuple(student.shape)} and teacher '
                f'{tuple(teacher.shape)} differ in shape; both need the same '
                'classes, in the same order')
        if self.teacher_detach:
            teacher = teacher.detach()
        kl = self.loss_weight * self.tau**2 * softened_kl(
            student, teacher, self.tau)
        if self.reduction == 'batchmean':
            return kl.sum() / len(kl)
        if self.reduction == 'mean':
            return kl.sum() / kl.numel()
        return kl.sum() if self.reduction == 'sum' else kl
