"""IE-KD: one half of the student inherits, the other one explores."""
import warnings
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .base import DistillLoss
from .checks import check_levels

# a factor that is shorter counts as zero
EPS = 1e-12


class Coder(nn.Module):
    """Three 3x3 convolutions that keep the size of a map.

    Args:
        in_channels (int): Channels of its input.
        out_channels (int): Channels of its output.
        use_bn (bool): Whether BN follows each convolution, and LeakyReLU
            precedes the first.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 use_bn: bool = True) -> None:
        super().__init__()
        self.use_bn = use_bn
        layers = [nn.LeakyReLU(0.1)] if use_bn else []
        for c_in, c_out in ((in_channels, in_channels),
                            (in_channels, out_channels), (out_channels,
                                                          out_channels)):
            conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode='fan_out')
            layers += [conv, nn.BatchNorm2d(c_out)] if use_bn else [conv]
            layers.append(nn.LeakyReLU(0.1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W).

        Raises:
            ValueError: If BN would normalize a single number.
        """
        n, _, h, w = x.shape
        if self.use_bn and self.training and n * h * w == 1:
            raise ValueError('a batch of one 1x1 map has no variance; use '
                             'use_bn=False, larger batches or larger maps')
        return self.layers(x)


class Coders(nn.ModuleList):
    """A coder for each level."""

    def __init__(self, num_levels: int, *args) -> None:
        super().__init__(Coder(*args) for _ in range(num_levels))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Code each level, shapes (N, C, H_i, W_i)."""
        return [coder(x) for coder, x in zip(self, features, strict=True)]


class Autoencoder(nn.Module):
    """Compresses features to factors, and back.

    Args:
        channels (int): Channels of the features.
        factor_channels (int): Channels of the factors.
        num_levels (int): Number of features.
        use_bn (bool): See :class:`Coder`.
    """

    def __init__(self,
                 channels: int,
                 factor_channels: int,
                 num_levels: int = 1,
                 use_bn: bool = True) -> None:
        super().__init__()
        self.encoder = Coders(num_levels, channels, factor_channels, use_bn)
        self.decoder = Coders(num_levels, factor_channels, channels, use_bn)

    def forward(
            self,
            features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Factors and reconstructions of features (N, channels, H_i, W_i)."""
        factors = self.encoder(features)
        return factors, self.decoder(factors)


def mean_distance(a: Tensor, b: Tensor, p: float) -> Tensor:
    """Mean of ``|a - b| ** p`` over all elements, to the power of ``1 / p``.

    The gradient is 0 where both are equal.
    """
    difference = torch.linalg.vector_norm(a - b, ord=p)
    return difference / a.numel()**(1 / p)


def unit(factor: Tensor) -> Tensor:
    """Each sample's factor, flat and divided by its L2 norm.

    Args:
        factor (Tensor): Shape (N, K, H, W).

    Returns:
        Tensor: Shape (N, K * H * W). A factor of zeros stays zero and gets no
        gradient: divided by almost zero, that would be 1e12.
    """
    factor = factor.flatten(1)
    norm = torch.linalg.vector_norm(factor, dim=1, keepdim=True)
    return torch.where(norm > EPS, factor / norm.clamp(min=EPS), 0)


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Pool maps (N, K, H, W) to the smaller of both sizes."""
    size = [min(sizes) for sizes in zip(a.shape[2:], b.shape[2:])]
    return F.adaptive_avg_pool2d(a, size), F.adaptive_avg_pool2d(b, size)


def dissimilarity(factor: Tensor, teacher: Tensor, kind: str,
                  p: float) -> Tensor:
    """What inheritance minimizes.

    Args:
        factor (Tensor): Shape (N, K, H, W).
        teacher (Tensor): Shape (N, K, H', W'); pooled where sizes differ.
        kind (str): ``'norm'``: :func:`mean_distance` of the unit factors;
            ``'cos'``: one minus the mean of their cosines.
        p (float): Of the distance.

    Returns:
        Tensor: Scalar.
    """
    factor, teacher = map(unit, same_size(factor, teacher))
    if kind == 'norm':
        return mean_distance(factor, teacher, p)
    return 1 - (factor * teacher).sum(1).mean()


def similarity(factor: Tensor, teacher: Tensor, kind: str, p: float) -> Tensor:
    """What exploration minimizes; as :func:`dissimilarity`.

    ``'norm'`` is minus the distance; ``'cos'`` the mean of the cosines'
    absolute values.
    """
    if kind == 'norm':
        return -dissimilarity(factor, teacher, kind, p)
    factor, teacher = map(unit, same_size(factor, teacher))
    return (factor * teacher).sum(1).abs().mean()


@MODELS.register_module()
class IEKDLoss(DistillLoss):
    """Loss of IE-KD (Huang et al., CVPR 2021, arXiv:2107.00181).

    The student's channels are divided once. Three convolutions make a factor
    of each half. The first half inherits: its factor becomes similar to the
    teacher's. The second half explores: its factor becomes dissimilar.

    - ``loss_inh``: ``inh_weight`` times :func:`dissimilarity`.
    - ``loss_exp``: ``exp_weight`` times :func:`similarity`; not positive with
      ``'norm'``.
    - ``loss_rec``: only with ``teacher_channels``.

    The teacher's factors come from an autoencoder that was trained before:
    the teacher is a :class:`mmcompress.distill.FeatureAutoencoder`, tapped at
    ``'autoencoder.encoder'``. With ``teacher_channels``, the teacher is tapped
    at its features, and the autoencoder is trained at the same time, by their
    reconstruction; two students that learn from each other need that.

    Losses are averaged over levels. Where maps differ in size, the larger
    factor is pooled to the smaller.

    Differs from the official code: what is trained is divided, as in the
    paper; there it is what is frozen. A half's factor of zeros gets no
    gradient.

    Args:
        student_channels (int): Channels of the student's features.
        factor_channels (int): Channels K of the factors.
        inh_loss (str): ``'norm'`` or ``'cos'``.
        exp_loss (str): ``'norm'`` or ``'cos'``.
        p (float): Of the distance of ``'norm'``.
        inh_weight (float): Weight of inheritance. The distance is a mean over
            many elements, hence the default of 50; about 1 with ``'cos'``.
        exp_weight (float): Weight of exploration; the same.
        divide (str): ``'natural'``: the first ``student_channels // 2``
            channels inherit; ``'random'``: as many, drawn at the start.
        use_bn (bool): See :class:`Coder`.
        num_levels (int): Features that the taps yield.
        teacher_channels (int | None): Channels of the teacher's features;
            None if the tap yields factors.

    Raises:
        ValueError: If an argument is none of these, or in ``forward`` if
            levels, batches or channels don't fit.
    """

    takes_levels = True
    weight_names = ('inh_weight', 'exp_weight')

    def __init__(self,
                 student_channels: int,
                 factor_channels: int = 32,
                 inh_loss: str = 'norm',
                 exp_loss: str = 'norm',
                 p: float = 1,
                 inh_weight: float = 50.0,
                 exp_weight: float = 50.0,
                 divide: str = 'natural',
                 use_bn: bool = True,
                 num_levels: int = 1,
                 teacher_channels: int | None = None) -> None:
        super().__init__()
        for name, value, allowed in (('inh_loss', inh_loss, ('norm', 'cos')),
                                     ('exp_loss', exp_loss, ('norm', 'cos')),
                                     ('divide', divide, ('natural',
                                                         'random'))):
            if value not in allowed:
                raise ValueError(f'{name} must be {allowed[0]!r} or '
                                 f'{allowed[1]!r}, got {value!r}')
        if p < 1:
            raise ValueError(f'p must be at least 1, got {p}')
        if student_channels < 2:
            raise ValueError('student_channels must be at least 2, to be '
                             f'divided; got {student_channels}')
        self.channels = (student_channels, factor_channels
                         if teacher_channels is None else teacher_channels)
        self.inh_loss = inh_loss
        self.exp_loss = exp_loss
        self.p = p
        self.inh_weight = inh_weight
        self.exp_weight = exp_weight
        self.use_bn = use_bn
        # buffers: a random division must survive a resume
        channels = torch.randperm(student_channels) if divide == 'random' \
            else torch.arange(student_channels)
        half = student_channels // 2
        self.register_buffer('inh_index', channels[:half])
        self.register_buffer('exp_index', channels[half:])
        self.embed_inh = Coders(num_levels, half, factor_channels, use_bn)
        self.embed_exp = Coders(num_levels, student_channels - half,
                                factor_channels, use_bn)
        self.autoencoder = None if teacher_channels is None else Autoencoder(
            teacher_channels, factor_channels, num_levels, use_bn)

    def forward(self, student: Sequence[Tensor],
                teacher: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Losses of each level.

        Args:
            student (Sequence[Tensor]): Features, shape
                (N, student_channels, H_i, W_i).
            teacher (Sequence[Tensor]): Factors, shape
                (N, factor_channels, H_i, W_i), or features, of
                ``teacher_channels``. They get no gradient.

        Returns:
            dict[str, list[Tensor]]: Scalars. All are 0 without images, and
            where BN would see a single value, with a warning.
        """
        self._check(student, teacher)
        if self._skips(student):
            zero = [self.zero(*student)] * len(student)
            names = [] if self.autoencoder is None else ['loss_rec']
            return {name: zero for name in (*names, 'loss_inh', 'loss_exp')}
        losses = {}
        # means over whole maps lose precision in half
        with torch.autocast(student[0].device.type, enabled=False):
            student = [at_least_float32(x) for x in student]
            teacher = [at_least_float32(x.detach()) for x in teacher]
            if self.autoencoder is not None:
                teacher, losses['loss_rec'] = self._learn_factors(teacher)
            losses['loss_inh'] = [
                self.inh_weight * dissimilarity(f, t, self.inh_loss, self.p)
                for f, t in zip(self.inherited(student), teacher)
            ]
            losses['loss_exp'] = [
                self.exp_weight * similarity(f, t, self.exp_loss, self.p)
                for f, t in zip(self.explored(student), teacher)
            ]
        return {
            name: [level / len(levels) for level in levels]
            for name, levels in losses.items()
        }

    def inherited(self, student: Sequence[Tensor]) -> list[Tensor]:
        """Factors of the inheriting channels, (N, K, H_i, W_i)."""
        return self.embed_inh([x[:, self.inh_index] for x in student])

    def explored(self, student: Sequence[Tensor]) -> list[Tensor]:
        """Factors of the exploring channels, (N, K, H_i, W_i)."""
        return self.embed_exp([x[:, self.exp_index] for x in student])

    def _learn_factors(
            self, teacher: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Factors without gradient, and what trains the autoencoder."""
        factors, rebuilt = self.autoencoder(teacher)
        losses = [
            mean_distance(r, t, self.p) for r, t in zip(rebuilt, teacher)
        ]
        return [factor.detach() for factor in factors], losses

    def _check(self, student: Sequence[Tensor],
               teacher: Sequence[Tensor]) -> None:
        name = ('factor_channels'
                if self.autoencoder is None else 'teacher_channels')
        check_levels(
            self,
            self.channels,
            len(self.embed_inh),
            student,
            teacher,
            same_size=False,
            names=f'student_channels, {name}')

    def _skips(self, student: Sequence[Tensor]) -> bool:
        """Whether there is nothing to compare, or nothing to normalize by."""
        fewest = min(x[:, 0].numel() for x in student)
        if fewest == 1 and self.use_bn and self.training:
            warnings.warn('IEKDLoss: one 1x1 map has no variance for BN, and '
                          'the batch adds nothing; use use_bn=False, larger '
                          'batches or larger maps')
            return True
        return fewest == 0
