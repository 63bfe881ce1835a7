"""Classic knowledge distillation: match softened class distributions."""
import logging

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .base import DistillLoss
from .checks import check_tensors


def softened_kl(student: Tensor,
                teacher: Tensor,
                tau: float,
                class_axis: int = 1) -> Tensor:
    """Terms of the KL divergence between softened class distributions.

    Args:
        student (Tensor): Logits, any shape.
        teacher (Tensor): Logits of the same shape.
        tau (float): Softmax temperature.
        class_axis (int): Axis of the classes.

    Returns:
        Tensor: ``p_t * (log p_t - log p_s)`` in nats, same shape, at least
        float32. A sum over classes is KL(teacher || student).
    """
    log_p_s, log_p_t = (
        F.log_softmax(at_least_float32(x) / tau, dim=class_axis)
        for x in (student, teacher))
    return _terms(log_p_s, log_p_t)


def softened_binary_kl(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """KL divergence between softened yes-or-no distributions.

    Args:
        student (Tensor): Logits, any shape.
        teacher (Tensor): Logits of the same shape.
        tau (float): Temperature of the sigmoid.

    Returns:
        Tensor: ``p_t * log(p_t / p_s) + (1 - p_t) * log((1 - p_t) / (1 -
        p_s))`` in nats, same shape, at least float32.
    """
    student, teacher = (at_least_float32(x) / tau for x in (student, teacher))
    # 1 - sigmoid(x) is sigmoid(-x), without losing the digits near 1
    return sum(
        _terms(F.logsigmoid(sign * student), F.logsigmoid(sign * teacher))
        for sign in (1, -1))


def _terms(log_p_s: Tensor, log_p_t: Tensor) -> Tensor:
    # 0 where p_t is 0, as for a logit of minus infinity
    p_t = log_p_t.exp()
    return p_t * torch.where(p_t > 0, log_p_t - log_p_s, 0)


def class_loss(model: nn.Module, path: str) -> tuple[str, nn.Module] | None:
    """The loss of class scores in the head that a path leads into.

    Args:
        model (nn.Module): Of mmdet, mmseg or mmpretrain.
        path (str): Of a module of it.

    Returns:
        tuple[str, nn.Module] | None: Path and module; None if there is none.
    """
    modules = dict(model.named_modules())
    while path:
        for name in ('loss_cls', 'loss_decode', 'loss_module'):
            if f'{path}.{name}' in modules:
                return f'{path}.{name}', modules[f'{path}.{name}']
        path = path.rpartition('.')[0]
    return None


@MODELS.register_module()
class KDLoss(DistillLoss):
    """Loss of Hinton et al., NIPS 2014 workshop, arXiv:1503.02531.

    ``loss_weight * tau**2`` times the KL divergence from the teacher's class
    distribution to the student's, both softened by ``tau``. With
    ``activation='sigmoid'`` each class is a distribution of its own, yes or
    no, and their divergences are added up: for detectors whose class scores
    are sigmoids (RetinaNet, FCOS, GFL), multi-label data and single classes.

    Args:
        tau (float): Temperature.
        reduction (str): ``'batchmean'`` divides the sum by N only, so that it
            grows with the number of positions or queries; ``'mean'`` divides
            by all elements, classes included; ``'sum'``; ``'none'``.
        loss_weight (float): Defaults to 1.0.
        teacher_detach (bool): Whether the teacher gets no gradient.
        activation (str): ``'softmax'``: one class is right; ``'sigmoid'``:
            any number of classes. The one that the model's own loss applies
            to these logits. A dense head with several anchors has them and
            the classes on one axis, where only ``'sigmoid'`` makes sense.
        class_axis (int | None): Axis of the softmax. None: 1, for shapes
            (N, K) and (N, K, H, W); others must name it, such as -1 for
            queries and tokens (N, Q, K). Queries are compared by their
            index, which asks for models that agree on it.

    Raises:
        ValueError: If an argument is none of these, or in ``forward`` if the
            shapes differ, don't tell which axis the classes are on, or have
            a softmax over one class.
    """

    def __init__(self,
                 tau: float = 1.0,
                 reduction: str = 'batchmean',
                 loss_weight: float = 1.0,
                 teacher_detach: bool = True,
                 activation: str = 'softmax',
                 class_axis: int | None = None) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f'tau must be positive, got {tau}')
        if reduction not in ('batchmean', 'mean', 'sum', 'none'):
            raise ValueError("reduction must be 'batchmean', 'mean', 'sum' or "
                             f"'none', got {reduction!r}")
        if activation not in ('softmax', 'sigmoid'):
            raise ValueError("activation must be 'softmax' or 'sigmoid', got "
                             f'{activation!r}')
        if class_axis is not None and activation == 'sigmoid':
            raise ValueError('class_axis is that of the softmax; a sigmoid '
                             'looks at each class alone')
        if class_axis == 0:
            raise ValueError('class_axis must not be 0, the axis of images')
        self.tau = tau
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach
        self.activation = activation
        self.class_axis = class_axis
        self.images_first = activation == 'softmax' and class_axis is None

    def look_at_tap(self, model: nn.Module, path: str) -> None:
        """Warn if the model's own loss takes these logits for sigmoids."""
        name, own = class_loss(model, path) or (None, None)
        if self.activation == 'softmax' and getattr(own, 'use_sigmoid', False):
            print_log(
                f'KDLoss compares softmaxes of what {path} gives, but {name} '
                f'({type(own).__name__}) trains sigmoids. With several anchors'
                ' even their classes would share one softmax; give it '
                "activation='sigmoid'",
                logger='current',
                level=logging.WARNING)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student (Tensor): Logits, shape (N, K) or (N, K, H, W); others
                with ``class_axis`` or a sigmoid.
            teacher (Tensor): Logits of the same shape.

        Returns:
            Tensor: Scalar, 0 without images or RoIs; of the logits' shape for
            reduction ``'none'``.
        """
        check_tensors(self, student=student, teacher=teacher)
        if student.shape != teacher.shape:
            raise ValueError(
                f'KDLoss: student {tuple(student.shape)} and teacher '
                f'{tuple(teacher.shape)} differ in shape; both need the same '
                'classes, in the same order, which no adapter can replace, '
                'and the same positions')
        axis = self._axis(student)
        if not student.numel() and self.reduction != 'none':
            return self.zero(student)
        if self.teacher_detach:
            teacher = teacher.detach()
        if self.activation == 'sigmoid':
            kl = softened_binary_kl(student, teacher, self.tau)
        else:
            kl = softened_kl(student, teacher, self.tau, axis)
        kl = self.loss_weight * self.tau**2 * kl
        if self.reduction == 'batchmean':
            return kl.sum() / len(kl)
        if self.reduction == 'mean':
            return kl.sum() / kl.numel()
        return kl.sum() if self.reduction == 'sum' else kl

    def _axis(self, logits: Tensor) -> int | None:
        """Axis of the softmax, from 0; None for a sigmoid."""
        shape = tuple(logits.shape)
        if len(shape) < 2:
            raise ValueError(f'KDLoss: {shape} must be logits (N, K, ...), '
                             'with an axis of images and one of classes')
        if self.activation == 'sigmoid':
            return None
        axis = self.class_axis
        if axis is None and len(shape) not in (2, 4):
            raise ValueError(
                f'KDLoss: which axis of the logits {shape} are the classes? '
                'Only (N, K) and (N, K, H, W) are taken for granted; give '
                'class_axis=-1 for queries or tokens (N, Q, K), class_axis=1 '
                'for (N, K, ...)')
        axis = 1 if axis is None else axis
        if not -len(shape) < axis < len(shape):
            raise ValueError(f'KDLoss: class_axis={axis} is none of the axes '
                             f'of the logits {shape} past the first')
        if shape[axis] == 1:
            raise ValueError(
                f'KDLoss: the logits {shape} have one class, whose softmax is '
                "1, whatever they are; use activation='sigmoid'")
        return axis % len(shape)
