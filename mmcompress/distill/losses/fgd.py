"""FGD: imitate foreground, background and global relations of the neck."""
from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss
from .checks import check_levels, check_num_samples, gt_boxes


def attention(x: Tensor, temp: float) -> tuple[Tensor, Tensor]:
    """Where, and in which channels, a map is large.

    Args:
        x (Tensor): Shape (N, C, H, W).
        temp (float): Softmax temperature.

    Returns:
        tuple[Tensor, Tensor]: Spatial attention (N, H, W), which sums to
        H * W, and channel attention (N, C), which sums to C.
    """
    n, c, h, w = x.shape
    size = x.abs()
    spatial = (size.mean(1).flatten(1) / temp).softmax(1) * h * w
    channel = (size.mean((2, 3)) / temp).softmax(1) * c
    return spatial.view(n, h, w), channel


@torch.no_grad()
def foreground_background(boxes: Tensor, image_size: tuple[int, int],
                          feat_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Weights of the cells of one image.

    A cell in boxes weighs 1 / area of the smallest of them, in cells; the
    others weigh 1 / their number.

    Args:
        boxes (Tensor): (x1, y1, x2, y2) in pixels, shape (M, 4).
        image_size (tuple[int, int]): Height and width that the map covers.
        feat_size (tuple[int, int]): H and W of the map.

    Returns:
        tuple[Tensor, Tensor]: Foreground and background, shape (H, W).
    """
    (height, width), (h, w) = image_size, feat_size
    # divided first: the other order puts some borders into the next cell
    x1, x2 = (boxes[:, [0, 2]] / width * w).unbind(1)
    y1, y2 = (boxes[:, [1, 3]] / height * h).unbind(1)
    x1, y1, x2, y2 = x1.floor(), y1.floor(), x2.ceil(), y2.ceil()
    weight = 1 / (y2 + 1 - y1) / (x2 + 1 - x1)
    row = torch.arange(h, device=boxes.device).view(-1, 1, 1)
    col = torch.arange(w, device=boxes.device).view(-1, 1)
    inside = (row >= y1) & (row <= y2) & (col >= x1) & (col <= x2)
    # a column of zeros, so that there is a maximum without boxes
    weights = nn.functional.pad(torch.where(inside, weight, 0), (0, 1))
    foreground = weights.amax(-1)
    background = (foreground == 0).to(foreground)
    return foreground, background / background.sum().clamp(min=1)


class GlobalContext(nn.Module):
    """GcBlock: adds to every position what the whole map attends to."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask = nn.Conv2d(channels, 1, 1)
        self.add = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1),
            nn.LayerNorm([channels // 2, 1, 1]), nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 1))
        nn.init.kaiming_normal_(self.mask.weight, mode='fan_in')
        nn.init.zeros_(self.mask.bias)
        # the identity at first
        nn.init.zeros_(self.add[3].weight)
        nn.init.zeros_(self.add[3].bias)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, C, H, W)."""
        where = self.mask(x).flatten(2).softmax(-1)
        context = torch.einsum('ncp,nop->nc', x.flatten(2), where)
        return x + self.add(context[:, :, None, None])


class FGDLevel(nn.Module):
    """FGD of one level of the neck; see :class:`FGDLoss`."""

    def __init__(self, student_channels: int, teacher_channels: int,
                 temp: float) -> None:
        super().__init__()
        self.temp = temp
        self.align = nn.Identity() if student_channels == teacher_channels \
            else nn.Conv2d(student_channels, teacher_channels, 1)
        self.context_s = GlobalContext(teacher_channels)
        self.context_t = GlobalContext(teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor, foreground: Tensor,
                background: Tensor) -> dict[str, Tensor]:
        """The four terms, unweighted, each divided by N.

        Args:
            student (Tensor): Shape (N, C_s, H, W).
            teacher (Tensor): Shape (N, C, H, W).
            foreground, background (Tensor): Shape (N, H, W).
        """
        student, n = self.align(student), len(student)
        spatial_s, channel_s = attention(student, self.temp)
        spatial_t, channel_t = attention(teacher, self.temp)
        difference = (student - teacher).square() * channel_t[..., None, None]
        difference = difference.sum(1) * spatial_t
        relation = self.context_s(student) - self.context_t(teacher)
        return dict(
            foreground=(difference * foreground).sum() / n,
            background=(difference * background).sum() / n,
            attention=((channel_s - channel_t).abs().sum() +
                       (spatial_s - spatial_t).abs().sum()) / n,
            relation=relation.square().sum() / n)


@MODELS.register_module()
class FGDLoss(DistillLoss):
    """Loss of FGD (Yang et al., CVPR 2022, arXiv:2111.11837).

    On each level: squared differences in the ground truth's boxes and outside
    of them, weighted by the teacher's attention (focal); the L1 distance of
    the attentions; and squared differences after a context block (global).

    Args:
        student_channels (int): Channels of the student's levels. A 1x1
            convolution adapts them where the teacher's differ.
        teacher_channels (int): Channels of the teacher's levels.
        num_levels (int): Levels that the taps yield.
        temp (float): Temperature of the attentions.
        alpha_fgd (float): Weight of the foreground.
        beta_fgd (float): Weight of the background.
        gamma_fgd (float): Weight of the attentions.
        lambda_fgd (float): Weight of the relations.
        mask_ref (str): What the maps are taken to cover. ``'img_shape'``,
            the default and the official code's: the image before it was
            padded to the batch's size. But the maps cover the padding as
            well: in a padded image the boxes are stretched by its share, and
            those near the border mask padding instead of objects.
            ``'batch_input_shape'``, with padding, is the true geometry. The
            background and the teacher's attention cover the padding in
            either case.

    Raises:
        ValueError: If ``mask_ref`` is none of these or there is a single
            channel, or in ``forward`` if levels, channels, sizes or boxes
            don't fit.
    """

    takes_levels = True
    weight_names = ('alpha_fgd', 'beta_fgd', 'gamma_fgd', 'lambda_fgd')

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 num_levels: int,
                 temp: float = 0.5,
                 alpha_fgd: float = 1e-3,
                 beta_fgd: float = 5e-4,
                 gamma_fgd: float = 1e-3,
                 lambda_fgd: float = 5e-6,
                 mask_ref: str = 'img_shape') -> None:
        super().__init__()
        if mask_ref not in ('img_shape', 'batch_input_shape'):
            raise ValueError("mask_ref must be 'img_shape' or "
                             f"'batch_input_shape', got {mask_ref!r}")
        if teacher_channels < 2:
            raise ValueError('teacher_channels must be at least 2: the context'
                             f' block halves them; got {teacher_channels}')
        self.channels = student_channels, teacher_channels
        self.weights = dict(
            foreground=alpha_fgd, background=beta_fgd,
            attention=gamma_fgd, relation=lambda_fgd)  # yapf: disable
        self.mask_ref = mask_ref
        self.levels = nn.ModuleList(
            FGDLevel(student_channels, teacher_channels, temp)
            for _ in range(num_levels))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor],
                data_samples: list) -> list[Tensor]:
        """Loss of each level.

        Args:
            student (Sequence[Tensor]): Levels, shape (N, C_s, H_i, W_i).
            teacher (Sequence[Tensor]): Levels, shape (N, C_t, H_i, W_i).
            data_samples (list): mmdet's, with ``gt_instances.bboxes`` in
                pixels of the input, (x1, y1, x2, y2).

        Returns:
            list[Tensor]: Scalars; 0 without images.
        """
        check_levels(self, self.channels, len(self.levels), student, teacher)
        check_num_samples(self, data_samples, len(student[0]))
        boxes, sizes = gt_boxes(self, data_samples, self.mask_ref, 'mask_ref')
        losses = []
        for level, s, t in zip(self.levels, student, teacher):
            if not s.numel():
                losses.append(self.zero(s))
                continue
            masks = zip(*(foreground_background(b, size, s.shape[-2:])
                          for b, size in zip(boxes, sizes)))
            # the sums run over thousands of positions
            dtype = torch.promote_types(s.dtype, torch.float32)
            with torch.autocast(s.device.type, enabled=False):
                terms = level(*(x.to(dtype)
                                for x in (s, t, *map(torch.stack, masks))))
            losses.append(sum(w * terms[k] for k, w in self.weights.items()))
        return losses
