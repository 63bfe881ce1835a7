"""G2SD: first the features of a masked autoencoder, then those of a task."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .base import DistillLoss
from .checks import (check_keys, check_levels, check_lists, check_tensors,
                     describe, shapes_of)
from .labels import check_classifier


@MODELS.register_module()
class G2SDGenericLoss(DistillLoss):
    """Generic stage of G2SD (Huang et al., CVPR 2023, arXiv:2302.14771).

    Two layers predict, from what the student's decoder gives for each token,
    what a block of the teacher's decoder gives, normalized over its channels.
    The loss is the smooth L1 distance to it, as a mean over all elements.
    Predicting nothing but zeros has a loss of about 0.25.

    Both models are masked autoencoders that see the same patches: give
    ``shared_draws`` to ``Distill``.

    Args:
        student_dims (int): Width of the student's decoder.
        teacher_dims (int): Width of the teacher's decoder.
        supervise_all (bool): Whether all tokens count, visible and class
            tokens as well. False: only the patches that were masked.
        beta (float): Difference above which the loss is linear.

    Raises:
        ValueError: If ``beta <= 0``, or in ``forward`` if the widths or the
            numbers of tokens don't fit, or the models saw different patches.
    """

    reads_only = ('mask', )

    def __init__(self,
                 student_dims: int,
                 teacher_dims: int,
                 supervise_all: bool = True,
                 beta: float = 2.0) -> None:
        super().__init__()
        if beta <= 0:
            raise ValueError(f'beta must be positive, got {beta}')
        self.dims = student_dims, teacher_dims
        self.supervise_all = supervise_all
        self.beta = beta
        self.predictor = nn.Sequential(
            nn.Linear(student_dims, teacher_dims), nn.GELU(),
            nn.Linear(teacher_dims, teacher_dims))
        for layer in (self.predictor[0], self.predictor[2]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @staticmethod
    def target(hidden: Tensor) -> Tensor:
        """Normalize each token of the teacher, shape (N, 1 + L, C)."""
        hidden = at_least_float32(hidden.detach())
        # autocast would do this in float32, too, but not in float64
        return F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6)

    def forward(self, student: dict, teacher: dict) -> Tensor:
        """Compute the loss.

        Args:
            student (dict): ``hidden``, shape (N, 1 + L, student_dims), of
                which the first token is the class token, and ``mask``, shape
                (N, L), 1 where a patch was masked.
            teacher (dict): The same, with teacher_dims.

        Returns:
            Tensor: Scalar; 0 without images.
        """
        self._check(student, teacher)
        if not student['hidden'].numel():
            return self.zero(student['hidden'])
        loss = F.smooth_l1_loss(
            at_least_float32(self.predictor(student['hidden'])),
            self.target(teacher['hidden']),
            reduction='none',
            beta=self.beta).mean(2)
        if self.supervise_all:
            return loss.mean()
        masked = student['mask'].to(loss)
        # not zero, where nothing was masked
        return (loss[:, 1:] * masked).sum() / masked.sum().clamp(min=1)

    def _check(self, student: dict, teacher: dict) -> None:
        check_keys(self, ('hidden', 'mask'), student=student, teacher=teacher)
        hidden = [side['hidden'] for side in (student, teacher)]
        masks = [side['mask'] for side in (student, teacher)]
        for name, x, mask in zip(('student', 'teacher'), hidden, masks):
            check_tensors(self, **{f'{name}.hidden': x})
            if not isinstance(mask, torch.Tensor) or mask.dim() != 2 or \
                    x.dim() != 3 or len(x) != len(mask):
                raise ValueError(
                    f'G2SDGenericLoss: hidden {tuple(x.shape)} and mask '
                    f'{describe(mask)} of the {name} must be (N, 1 + L, C) '
                    'and (N, L)')
        shapes = shapes_of(hidden)
        if tuple(shape[-1] for shape in shapes) != self.dims:
            raise ValueError(
                f'G2SDGenericLoss: the decoders give {shapes}, and '
                f'student_dims and teacher_dims are {self.dims}')
        num_tokens = {m.shape[1] + 1 for m in masks} | {s[1] for s in shapes}
        if len(num_tokens) > 1:
            raise ValueError(
                'G2SDGenericLoss: a class token and the same patches are '
                f'needed; hidden {shapes}, masks '
                f'{shapes_of(masks)}')
        if not torch.equal(*(mask.bool() for mask in masks)):
            raise ValueError(
                'G2SDGenericLoss: student and teacher saw different patches; '
                "give Distill shared_draws='backbone.random_masking', and "
                'both backbones the same mask_ratio')


@MODELS.register_module()
class HardKDLoss(DistillLoss):
    """Cross entropy with the teacher's decision.

    Hard distillation of DeiT (Touvron et al., ICML 2021, arXiv:2012.12877),
    which G2SD's specific stage applies to the distillation token.

    Args:
        loss_weight (float): Defaults to 1.0.

    Raises:
        ValueError: In ``forward``, if the shapes differ or are not those of
            2 or more classes.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student (Tensor): Logits, shape (N, C).
            teacher (Tensor): Logits, shape (N, C).

        Returns:
            Tensor: Scalar; 0 without images.
        """
        check_classifier(self, student=student, teacher=teacher)
        if not len(student):
            return self.zero(student)
        return self.loss_weight * F.cross_entropy(
            at_least_float32(student), teacher.argmax(1))


@MODELS.register_module()
class G2SDDetLoss(DistillLoss):
    """Specific stage of G2SD for two-stage detectors.

    A position counts as much as the teacher's RPN believes in an object
    there, ``m = max_a sigmoid(o_t)`` over the anchors. Of each level,

    - ``loss_feat``: ``distill_feat_weight`` times the squared difference of
      the features, after a 3x3 convolution of the student's,
    - ``loss_cls``: ``distill_cls_weight`` times the binary cross entropy of
      the objectness,

    summed over channels or anchors and averaged over positions with weights
    ``m``; then summed over levels. Officially both grow from zero within 500
    iterations: ``schedule=dict(type='IterWarmup', num_iters=500)``.

    Taps: ``dict(feats='neck', objectness='rpn_head[0]')`` for both.

    Args:
        student_channels (int): Of the student's features.
        teacher_channels (int): Of the teacher's features.
        num_levels (int): How many levels the necks give.
        distill_feat_weight (float): Defaults to 1e-3.
        distill_cls_weight (float): Defaults to 0.1.

    Raises:
        ValueError: In ``forward``, if levels, channels, sizes or numbers of
            anchors don't fit.
    """

    weight_names = ('distill_feat_weight', 'distill_cls_weight')

    def __init__(self,
                 student_channels: int = 256,
                 teacher_channels: int = 256,
                 num_levels: int = 5,
                 distill_feat_weight: float = 1e-3,
                 distill_cls_weight: float = 0.1) -> None:
        super().__init__()
        self.channels = student_channels, teacher_channels
        self.num_levels = num_levels
        self.distill_feat_weight = distill_feat_weight
        self.distill_cls_weight = distill_cls_weight
        self.adapters = nn.ModuleList(
            nn.Conv2d(student_channels, teacher_channels, 3, padding=1)
            for _ in range(num_levels))

    def forward(self, student: dict, teacher: dict) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            student (dict): ``feats``, a tensor (N, student_channels, H_i,
                W_i) per level, and ``objectness``, logits (N, A, H_i, W_i).
            teacher (dict): The same, with teacher_channels.

        Returns:
            dict[str, Tensor]: ``loss_feat`` and ``loss_cls``, scalars; 0
            without images.
        """
        self._check(student, teacher)
        if not all(feat.numel() for feat in student['feats']):
            zero = self.zero(*student['feats'], *student['objectness'])
            return dict(loss_feat=zero, loss_cls=zero)
        feat_loss = cls_loss = 0
        for adapter, f_s, f_t, o_s, o_t in zip(self.adapters, student['feats'],
                                               teacher['feats'],
                                               student['objectness'],
                                               teacher['objectness']):
            adapted, f_t, o_s, o_t = map(at_least_float32,
                                         (adapter(f_s), f_t, o_s, o_t))
            p_t = o_t.detach().sigmoid()
            m = p_t.amax(1)
            # sigmoid underflows where the teacher sees nothing at all
            total = m.sum().clamp(min=torch.finfo(m.dtype).tiny)
            squares = (f_t.detach() - adapted).square().sum(1)
            entropy = F.binary_cross_entropy_with_logits(
                o_s, p_t, reduction='none').sum(1)
            feat_loss += (m * squares).sum() / total
            cls_loss += (m * entropy).sum() / total
        return dict(
            loss_feat=self.distill_feat_weight * feat_loss,
            loss_cls=self.distill_cls_weight * cls_loss)

    def _check(self, student: dict, teacher: dict) -> None:
        check_keys(
            self, ('feats', 'objectness'), student=student, teacher=teacher)
        check_levels(self, self.channels, self.num_levels, student['feats'],
                     teacher['feats'])
        objectness = [side['objectness'] for side in (student, teacher)]
        check_lists(
            self, **{
                'student.objectness': objectness[0],
                'teacher.objectness': objectness[1]
            })
        shapes = [shapes_of(levels) for levels in objectness]
        sizes = [feat.shape[2:] for feat in student['feats']]
        if shapes[0] != shapes[1] or \
                [s[2:] for s in shapes[0]] != sizes or \
                any(len(s) != 4 for s in shapes[0]):
            raise ValueError(
                f'G2SDDetLoss: objectness of student {shapes[0]} and teacher '
                f'{shapes[1]}, features of sizes {list(map(tuple, sizes))}; '
                'both RPNs need the same anchors, on all levels of the neck')
