"""USKD and tf-NKD: a network that makes its own soft labels."""
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss
from .checks import check_keys, check_tensors
from .labels import check_classifier, class_targets, log_softmax_without


def top_targets(target: Tensor) -> tuple[Tensor, Tensor]:
    """Labelled classes of each image and their shares.

    Args:
        target (Tensor): Class indices (N, ), or soft labels (N, C).

    Returns:
        tuple[Tensor, Tensor]: Indices and shares, both of shape (N, K). K is
        1, or 2 for soft labels: the two largest; among equal ones those of
        lower index.
    """
    if target.dim() == 1:
        index = target[:, None]
        return index, torch.ones_like(index, dtype=torch.float32)
    values, order = target.sort(dim=1, descending=True, stable=True)
    return order[:, :2], values[:, :2]


def soft_target(prob: Tensor, share: Tensor, power: int) -> Tensor:
    """Weights of the labelled classes: ``p**power`` around its batch mean.

    Args:
        prob (Tensor): Predicted probabilities of the labelled classes, shape
            (N, K).
        share (Tensor): Their labels, same shape.
        power (int): 2 in USKD, 1 in tf-NKD.

    Returns:
        Tensor: ``p**power + share - mean(p**power)``, 0 where the share is 0;
        without gradient, shape (N, K).
    """
    prob = prob.detach()**power
    weight = prob + share - prob.mean(0, keepdim=True)
    return torch.where(share > 0, weight, 0)


def rank_positions(weak: Tensor, final: Tensor, index: Tensor,
                   rank_score: str) -> Tensor:
    """Rank the classes by what two classifiers say.

    Args:
        weak (Tensor): Logits of the weak classifier, shape (N, C).
        final (Tensor): Logits of the network, shape (N, C).
        index (Tensor): Labelled classes, shape (N, K).
        rank_score (str): See :class:`USKDLoss`.

    Returns:
        Tensor: 1 for the likeliest class, shape (N, C), int64.
    """
    final = final.softmax(1) if rank_score == 'prob' else final.log_softmax(1)
    score = torch.zeros_like(final)
    for values in (weak.softmax(1), final):
        rest = 1 - values.gather(1, index).sum(1, keepdim=True)
        score += values / (rest + 1e-6)
    order = score.argsort(dim=1, descending=True, stable=True)
    positions = torch.arange(1, score.shape[1] + 1, device=score.device)
    return torch.empty_like(order).scatter_(1, order,
                                            positions.expand_as(order))


def zipf_labels(positions: Tensor, left_out: Tensor) -> Tensor:
    """Soft labels ``1 / position`` of the classes that are not left out.

    Args:
        positions (Tensor): From 1, shape (N, C).
        left_out (Tensor): Bool, shape (N, C).

    Returns:
        Tensor: Rows sum to 1, or to 0 without classes; shape (N, C), float64.
    """
    zipf = (1 / positions.double()).masked_fill(left_out, 0)
    return zipf / zipf.sum(1, keepdim=True).clamp(min=1e-12)


@MODELS.register_module()
class USKDLoss(DistillLoss):
    """Universal self-KD (Yang et al., ICCV 2023, arXiv:2303.13005).

    Needs no teacher. To the student's own loss it adds

    - ``loss_target``: ``alpha`` times the cross entropy with the network's own
      squared probability of the labelled class as weight,
      :func:`soft_target`,
    - ``loss_nontarget``: ``beta`` times the cross entropy over the other
      classes, whose soft labels follow Zipf's law in the order in which the
      network and a weak classifier rank them, :func:`rank_positions`,
    - ``loss_weak``: ``mu`` times the loss, with label smoothing 0.1, of that
      classifier, which sees a feature from the middle of the network.

    The tap is a dict, such as ``student=dict(feature='backbone.layer3',
    logits='head.fc')``; ``feature='backbone.layers.5'`` with ``pool='cls'``
    for a vision transformer of 12 blocks.

    Differs from the official code after July 2023, which ranks by log
    probabilities: the paper's numbers come from the version before, which is
    the default here.

    Args:
        channel (int): Channels of the feature.
        num_classes (int): Classes.
        alpha (float): See above; 0.1 for CIFAR-100 in the official config.
        beta (float): See above.
        mu (float): See above; 0.1 for CIFAR-100.
        pool (str): How a feature map (N, C, H, W), or tokens (N, L, C), become
            one vector: their ``'mean'``, or the first token, ``'cls'``,
            which a map has not.
        rank_score (str): The network ranks by ``'prob'``, or by ``'logprob'``.
        strict_targets (bool): Keep a second labelled class of share 0 among
            the others. It comes from mixing two images of a class; the
            official code drops it, and with it an arbitrary class.

    Raises:
        ValueError: If ``pool`` or ``rank_score`` is none of these, if there
            are fewer than 2 classes, or in ``forward`` if shapes, channels,
            classes or labels don't fit.
    """

    def __init__(self,
                 channel: int,
                 num_classes: int = 1000,
                 alpha: float = 1.0,
                 beta: float = 0.1,
                 mu: float = 0.005,
                 pool: str = 'mean',
                 rank_score: str = 'prob',
                 strict_targets: bool = False) -> None:
        super().__init__()
        if pool not in ('mean', 'cls'):
            raise ValueError(f"pool must be 'mean' or 'cls', got {pool!r}")
        if rank_score not in ('prob', 'logprob'):
            raise ValueError("rank_score must be 'prob' or 'logprob', got "
                             f'{rank_score!r}')
        if num_classes < 2:
            raise ValueError('USKDLoss ranks classes: num_classes must be at '
                             f'least 2, got {num_classes}')
        if num_classes == 2:
            warnings.warn('USKDLoss: of two classes one remains beside the '
                          'target, so that loss_nontarget is always 0')
        self.alpha = alpha
        self.beta = beta
        self.mu = mu
        self.pool = pool
        self.rank_score = rank_score
        self.strict_targets = strict_targets
        self.fc = nn.Linear(channel, num_classes)

    def _vector(self, feature: Tensor) -> Tensor:
        """One vector for each image, (N, channel)."""
        check_tensors(self, feature=feature)
        shape = tuple(feature.shape)
        if len(shape) not in (2, 3, 4) or not feature.numel():
            raise ValueError(f'USKDLoss: the feature {shape} must be a map '
                             '(N, C, H, W), tokens (N, L, C) or (N, C)')
        if len(shape) == 4 and self.pool == 'cls':
            raise ValueError(f"USKDLoss: pool='cls' takes the first token of "
                             f"(N, L, C); the map {shape} needs 'mean'")
        if feature.dim() == 4:
            feature = feature.flatten(2).mT
        if feature.dim() == 3:
            feature = feature[:, 0] if self.pool == 'cls' else feature.mean(1)
        return feature

    def forward(self, student: dict[str, Tensor],
                data_samples: list) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            student (dict[str, Tensor]): ``feature``, of shape (N, channel, H,
                W), (N, L, channel) or (N, channel), and ``logits``, of shape
                (N, num_classes).
            data_samples (list): mmpretrain's, with ``gt_label`` or
                ``gt_score``.

        Returns:
            dict[str, Tensor]: ``loss_target``, ``loss_nontarget`` and
            ``loss_weak``; 0 without images.
        """
        check_keys(self, ('feature', 'logits'), student=student)
        logits = student['logits']
        check_classifier(self, logits=logits)
        target = class_targets(self, data_samples, logits)
        if not len(logits):
            zero = self.zero(*student.values())
            return dict(loss_target=zero, loss_nontarget=zero, loss_weak=zero)
        feature = self._vector(student['feature'])
        if (feature.shape[1], logits.shape[1]) != (self.fc.in_features,
                                                   self.fc.out_features):
            raise ValueError(
                f'USKDLoss was made for {self.fc.in_features} channels '
                f'(channel) and {self.fc.out_features} classes (num_classes), '
                f'and got {feature.shape[1]} and {logits.shape[1]}')
        if len(feature) != len(logits):
            raise ValueError(f'USKDLoss: features of {len(feature)} images '
                             f'and logits of {len(logits)}')
        dtype = torch.promote_types(logits.dtype, torch.float32)
        with torch.autocast(logits.device.type, enabled=False):
            weak = self.fc(feature.to(dtype))
        logits = logits.to(dtype)
        index, share = top_targets(target)
        if target.dim() == 1:
            target = F.one_hot(target, logits.shape[1])
        smooth = 0.9 * target.to(dtype) + 0.1 / logits.shape[1]
        labels, left_out = self.nontarget_labels(weak, logits, index, share)
        return dict(
            loss_target=self.alpha *
            target_loss(logits, index, share.to(dtype), power=2),
            loss_nontarget=-self.beta *
            (labels * log_softmax_without(logits, left_out)).sum(1).mean(),
            loss_weak=-self.mu * (smooth * weak.log_softmax(1)).sum(1).mean())

    @torch.no_grad()
    def nontarget_labels(self, weak: Tensor, logits: Tensor, index: Tensor,
                         share: Tensor) -> tuple[Tensor, Tensor]:
        """Soft labels of the other classes, and which are left out."""
        positions = rank_positions(weak, logits, index, self.rank_score)
        left_out = torch.zeros_like(logits, dtype=torch.bool)
        is_target = share > 0 if self.strict_targets else \
            torch.ones_like(share, dtype=torch.bool)
        left_out.scatter_(1, index, is_target)
        labels = zipf_labels(positions, left_out)
        return labels.to(logits.dtype), left_out


def target_loss(logits: Tensor, index: Tensor, share: Tensor,
                power: int) -> Tensor:
    """Cross entropy of the labelled classes, with :func:`soft_target`."""
    log_prob = logits.log_softmax(1).gather(1, index)
    weight = soft_target(log_prob.exp(), share, power)
    return -(weight * log_prob).sum(1).mean()


@MODELS.register_module()
class TfNKDLoss(DistillLoss):
    """Teacher-free NKD (Yang et al., 2022, arXiv:2208.10139).

    Adds to the student's own loss the cross entropy of the labelled class (of
    the two largest, after mixup or cutmix), weighted by the label plus the
    deviation of the network's own probability from its mean over the batch.

    Raises:
        ValueError: In ``forward``, if there are fewer than 2 classes, or
            shapes or labels don't fit.
    """

    def forward(self, student: Tensor, data_samples: list) -> Tensor:
        """Compute the loss.

        Args:
            student (Tensor): Logits, shape (N, C).
            data_samples (list): mmpretrain's, with ``gt_label`` or
                ``gt_score``.

        Returns:
            Tensor: Scalar; 0 without images.
        """
        check_classifier(self, student=student)
        target = class_targets(self, data_samples, student)
        if not len(student):
            return self.zero(student)
        dtype = torch.promote_types(student.dtype, torch.float32)
        index, share = top_targets(target)
        return target_loss(student.to(dtype), index, share.to(dtype), power=1)
