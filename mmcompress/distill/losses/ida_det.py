"""IDa-Det: imitate the neck where teacher and student disagree most."""
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .base import DistillLoss
from .checks import check_keys, check_lists, check_num_samples, shapes_of


def confident_boxes(proposals: Tensor, score_thr: float,
                    nms_thr: float) -> Tensor:
    """Confident proposals of one network on one image.

    Args:
        proposals (Tensor): (x1, y1, x2, y2, score), shape (N, 5).
        score_thr (float): Only proposals with a higher score are kept.
        nms_thr (float): A box is dropped if its IoU with a better one is
            higher.

    Returns:
        Tensor: Kept rows, best first, shape (M, 5).
    """
    from mmcv.ops import nms  # absent from mmcv-lite
    proposals = proposals[proposals[:, 4] > score_thr]
    if not len(proposals):
        return proposals
    single = proposals.to(torch.float32)
    _, keep = nms(single[:, :4].contiguous(), single[:, 4].contiguous(),
                  nms_thr)
    return proposals[keep]


def project(boxes: Tensor,
            feat_size: tuple[int, int],
            image_size: tuple[int, int],
            variant: str = 'fixed') -> Tensor:
    """Cells of a feature map that boxes cover.

    Args:
        boxes (Tensor): (x1, y1, x2, y2, ...) in pixels, shape (M, >= 4).
        feat_size (tuple[int, int]): Height and width of the feature map.
        image_size (tuple[int, int]): Height and width of the image that the
            map covers: with padding, but without it in ``'official'``.
        variant (str): ``'official'`` takes rows from x and columns from y.

    Returns:
        Tensor: (row1, row2, col1, col2) with exclusive ends, shape (M, 4).
    """
    h, w = feat_size
    height, width = image_size
    x, y = boxes[:, [0, 2]], boxes[:, [1, 3]]
    if variant == 'official':
        rows, cols = (x / width * h).round(), (y / height * w).round()
    else:
        rows = (y * h / height).round().clamp(0, h)
        cols = (x * w / width).round().clamp(0, w)
    return torch.cat((rows, cols), dim=1).long()


def region_discrepancy(student: Tensor,
                       teacher: Tensor,
                       regions: Tensor,
                       variant: str = 'fixed') -> Tensor:
    """Information discrepancy of pairs of crops.

    A channel of a crop becomes a distribution over its n positions by a
    softmax; ``mean**2 / variance`` of its probabilities tells how spread it
    is. The discrepancy is the mean over positions of the sum over channels of
    the absolute difference between student and teacher.

    Args:
        student (Tensor): Feature map of one image, shape (C, H, W).
        teacher (Tensor): Same shape.
        regions (Tensor): From :func:`project`, shape (M, 4).
        variant (str): ``'official'``: a constant channel gives infinity or
            NaN, the sum is divided by the height of the crop and multiplied by
            its width.

    Returns:
        Tensor: Shape (M, ). Crops with less than two rows or columns have no
        value: -1, or 0 in ``'official'``.
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    both = torch.stack((student.to(dtype), teacher.to(dtype)))
    official = variant == 'official'
    result = both.new_full((len(regions), ), 0.0 if official else -1.0)
    for i, (r1, r2, c1, c2) in enumerate(regions.tolist()):
        if r2 - r1 < 2 or c2 - c1 < 2:
            continue
        p = both[:, :, r1:r2, c1:c2].flatten(2).softmax(dim=-1)
        n = p.shape[-1]
        if official:
            spread = p.mean(-1)**2 / p.var(-1)
            difference = (spread[1] - spread[0]).abs().sum()
            result[i] = difference / (r2 - r1) * (c2 - c1)
        else:
            # the mean probability is 1 / n
            spread = 1 / (n**2 * p.var(-1) + 1e-6)
            result[i] = (spread[1] - spread[0]).abs().sum() / n
    return result


def select(discrepancy: Tensor,
           gamma: float,
           variant: str = 'fixed') -> Tensor:
    """Indices of the regions with the largest discrepancy.

    Args:
        discrepancy (Tensor): From :func:`region_discrepancy`, shape (M, ).
        gamma (float): Share of them to select.
        variant (str): ``'official'`` counts and selects regions without a
            value as well; otherwise at least one region is selected if any
            has a value, and the earlier one wins a tie.

    Returns:
        Tensor: Shape (K, ).
    """
    if variant == 'official':
        num = len(discrepancy)
        return discrepancy.argsort()[num - round(gamma * num):]
    num = int((discrepancy >= 0).sum())
    num = min(num, max(1, round(gamma * num)))
    return discrepancy.sort(descending=True, stable=True).indices[:num]


def paint(regions: Tensor,
          feat_size: tuple[int, int],
          variant: str = 'fixed') -> Tensor:
    """Union of regions.

    Args:
        regions (Tensor): From :func:`project`, shape (K, 4).
        feat_size (tuple[int, int]): Height and width of the feature map.
        variant (str): ``'official'`` paints full rows, for both the row range
            and the column range.

    Returns:
        Tensor: Boolean, shape (H, W).
    """
    h, w = feat_size
    r1, r2, c1, c2 = regions.T.unsqueeze(-1)
    row = torch.arange(h, device=regions.device)
    col = torch.arange(w, device=regions.device)
    in_rows = (row >= r1) & (row < r2)
    if variant == 'official':
        in_rows = in_rows | ((row >= c1) & (row < c2))
        return in_rows.any(0).unsqueeze(-1).expand(h, w)
    in_cols = (col >= c1) & (col < c2)
    return (in_rows.unsqueeze(-1) & in_cols.unsqueeze(1)).any(0)


def entropy_loss(student: Tensor,
                 teacher: Tensor,
                 mask: Tensor,
                 sigma: Tensor,
                 det_weight: float = 1e-3,
                 variant: str = 'fixed') -> Tensor:
    """Entropy distillation loss of one level.

    With the squared difference ``D2`` of the features, the mean over the
    masked elements of ``D2 + D2 / sigma**2 + det_weight * log(sigma**2)``.

    Args:
        student (Tensor): Adapted feature map, shape (N, C, H, W).
        teacher (Tensor): Same shape.
        mask (Tensor): 1 where to imitate, else 0, shape (N, H, W).
        sigma (Tensor): One element.
        det_weight (float): Weight of the logarithm.
        variant (str): ``'official'`` sums the logarithm over all elements,
            though it divides by the number of masked ones.

    Returns:
        Tensor: Scalar, at least float32. 0 with zero gradients when nothing
        is masked (not in ``'official'``).
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    difference = teacher.to(dtype) - student.to(dtype)
    mask = mask.unsqueeze(1).to(dtype)
    num_masked = mask.sum() * student.shape[1]
    squares = (mask * difference**2).sum()
    sigma = at_least_float32(sigma).squeeze()
    num_logs = student.numel() if variant == 'official' else num_masked
    # more digits of log(sigma**2) near sigma = 1
    log = 2 * sigma.abs().log() * num_logs
    total = squares + squares / sigma**2 + det_weight * log
    return total / num_masked.clamp(min=1)


@torch.no_grad()
def predict_proposals(detector: nn.Module, outputs: tuple, metas: list[dict],
                      cfg: dict) -> list[Tensor]:
    """Proposals from what a detector's ``rpn_head`` returned.

    Args:
        detector (nn.Module): mmdet's two-stage detector.
        outputs (tuple): Scores and deltas, a list of levels each.
        metas (list[dict]): ``metainfo`` of the images.
        cfg (dict): ``train_cfg.rpn_proposal`` of the student.

    Returns:
        list[Tensor]: (x1, y1, x2, y2, score) in pixels of the network's
        input, shape (N, 5), for each image.
    """
    single = [[x.detach().to(torch.float32) for x in levels]
              for levels in outputs]
    results = detector.rpn_head.predict_by_feat(
        *single, batch_img_metas=metas, cfg=cfg, rescale=False)
    return [
        torch.cat((r.bboxes, r.scores.unsqueeze(-1)), dim=1) for r in results
    ]


@MODELS.register_module()
class IDaDetLoss(DistillLoss):
    """Loss of IDa-Det (Xu et al., ECCV 2022, arXiv:2210.03477).

    Confident proposals of both networks are pooled (without a joint NMS). On
    each level and image, the share ``gamma`` of them with the largest
    information discrepancy between the networks' neck features is selected,
    and the student's features, through a 3x3 convolution per level, learn
    the teacher's inside of the union of the selected boxes. ``sigma`` is a
    learnt scalar. See :func:`region_discrepancy` and :func:`entropy_loss`.

    It looks at ``dict(neck='neck', rpn='rpn_head')`` of both detectors. Both
    necks need the same channels and sizes. Along with the loss it logs the
    mean number of selected boxes per image and level (``num_boxes``), and the
    mean share of the map inside of them (``mask_area``).

    Differs from the official code (``variant='official'`` restores it): boxes
    are projected with the right axes and the padded image size; boxes with
    less than two rows or columns of a level are no candidates there; only the
    boxes are imitated, not full rows; the discrepancy is finite and divided
    by the box's area; the logarithm of ``sigma`` counts for masked elements
    only. Both differ from the paper, whose covariance of two
    samples is not invertible.

    Args:
        channels (int): Channels of both necks.
        num_levels (int): Levels of both necks.
        score_thr (float): Proposals with a higher score are candidates.
        nms_thr (float): IoU threshold of the NMS within each network's.
        gamma (float): Share of the candidates to select, in (0, 1].
        det_weight (float): Weight of ``log(sigma**2)``.
        sigma_init (float): Initial ``sigma``.
        hint_neck_w (float): Weight of the loss, a mean over the levels.
        variant (str): ``'fixed'`` or ``'official'``.

    Raises:
        ValueError: If ``gamma`` or ``variant`` is none of these, or in
            ``forward`` if the shapes differ.
    """

    takes_levels = True
    weight_names = ('hint_neck_w', )

    def __init__(self,
                 channels: int = 256,
                 num_levels: int = 5,
                 score_thr: float = 0.85,
                 nms_thr: float = 0.1,
                 gamma: float = 0.6,
                 det_weight: float = 1e-3,
                 sigma_init: float = 1.000001,
                 hint_neck_w: float = 0.5,
                 variant: str = 'fixed') -> None:
        super().__init__()
        if not 0 < gamma <= 1:
            raise ValueError(f'gamma must be in (0, 1], got {gamma}')
        if variant not in ('fixed', 'official'):
            raise ValueError(
                f"variant must be 'fixed' or 'official', got {variant}")
        self.num_levels = num_levels
        self.score_thr = score_thr
        self.nms_thr = nms_thr
        self.gamma = gamma
        self.det_weight = det_weight
        self.hint_neck_w = hint_neck_w
        self.variant = variant
        self.adapters = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1)
            for _ in range(num_levels))
        for adapter in self.adapters:
            weight = torch.randn_like(adapter.weight).fmod(2)
            adapter.weight.data.copy_(1e-4 * weight)
        self.sigma = nn.Parameter(torch.full((1, 1, 1, 1), sigma_init))

    @torch.no_grad()
    def boxes(self, student: list[Tensor],
              teacher: list[Tensor]) -> list[Tensor]:
        """Pool the confident proposals of both networks, for each image.

        Args:
            student (list[Tensor]): Shape (N, 5) for each image.
            teacher (list[Tensor]): The same.

        Returns:
            list[Tensor]: The teacher's boxes first, shape (M, 5) each.
        """
        return [
            torch.cat([
                confident_boxes(proposals, self.score_thr, self.nms_thr)
                for proposals in pair
            ]) for pair in zip(teacher, student, strict=True)
        ]

    @torch.no_grad()
    def candidates(self, student: Tensor, teacher: Tensor, boxes: Tensor,
                   meta: dict) -> tuple[Tensor, Tensor]:
        """What of one level and image could be imitated, and how much.

        Args:
            student (Tensor): Shape (C, H, W).
            teacher (Tensor): Same shape.
            boxes (Tensor): Of the image, from :meth:`boxes`.
            meta (dict): With ``batch_input_shape`` and ``img_shape``.

        Returns:
            tuple[Tensor, Tensor]: Of :func:`project`, shape (M, 4), and of
            :func:`region_discrepancy`, shape (M, ).
        """
        covered = ('img_shape'
                   if self.variant == 'official' else 'batch_input_shape')
        regions = project(boxes, student.shape[-2:], meta[covered][:2],
                          self.variant)
        return regions, region_discrepancy(student, teacher, regions,
                                           self.variant)

    @torch.no_grad()
    def masks(self, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...],
              boxes: list[Tensor],
              metas: list[dict]) -> tuple[list[Tensor], list[int]]:
        """Where to imitate.

        Args:
            student (tuple[Tensor]): Neck levels, shape (N, C, H_i, W_i).
            teacher (tuple[Tensor]): Same shapes.
            boxes (list[Tensor]): From :meth:`boxes`.
            metas (list[dict]): With ``batch_input_shape`` and ``img_shape``.

        Returns:
            tuple[list[Tensor], list[int]]: Boolean masks of the levels, shape
            (N, H_i, W_i), and the number of selected boxes for each level and
            image.
        """
        masks, nums = [], []
        for features in zip(student, teacher):
            size = features[0].shape[-2:]
            painted = []
            for s, t, candidates, meta in zip(*features, boxes, metas):
                regions, discrepancy = self.candidates(s, t, candidates, meta)
                selected = select(discrepancy, self.gamma, self.variant)
                painted.append(paint(regions[selected], size, self.variant))
                nums.append(len(selected))
            masks.append(torch.stack(painted))
        return masks, nums

    def level_losses(self, student: tuple[Tensor, ...], teacher: tuple[Tensor,
                                                                       ...],
                     masks: list[Tensor]) -> list[Tensor]:
        """Entropy distillation loss of each level, without its weight."""
        return [
            entropy_loss(
                adapter(s), t, mask, self.sigma, self.det_weight,
                self.variant) for adapter, s, t, mask in zip(
                    self.adapters, student, teacher, masks)
        ]

    def loss_from_proposals(self, student: tuple[Tensor,
                                                 ...], teacher: tuple[Tensor,
                                                                      ...],
                            student_proposals: list[Tensor],
                            teacher_proposals: list[Tensor],
                            metas: list[dict]) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            student (tuple[Tensor]): Neck levels, shape (N, C, H_i, W_i).
            teacher (tuple[Tensor]): Same shapes, without gradient.
            student_proposals (list[Tensor]): (x1, y1, x2, y2, score) in
                pixels of the network's input, shape (M, 5), for each image.
            teacher_proposals (list[Tensor]): The same.
            metas (list[dict]): With ``batch_input_shape`` and ``img_shape``.

        Returns:
            dict[str, Tensor]: ``loss``, and the statistics ``num_boxes`` and
            ``mask_area``; 0 without images.
        """
        self._check(student, teacher)
        check_num_samples(self, metas, len(student[0]))
        if not all(level.numel() for level in student):
            zero = self.zero(*student)
            return dict(
                loss=zero, num_boxes=zero.detach(), mask_area=zero.detach())
        boxes = self.boxes(student_proposals, teacher_proposals)
        masks, nums = self.masks(student, teacher, boxes, metas)
        losses = self.level_losses(student, teacher, masks)
        areas = [mask.to(losses[0].dtype).mean() for mask in masks]
        return dict(
            loss=self.hint_neck_w * sum(losses) / len(losses),
            num_boxes=losses[0].new_tensor(sum(nums) / len(nums)),
            mask_area=sum(areas) / len(areas))

    def _check(self, student: tuple[Tensor, ...], teacher: tuple[Tensor,
                                                                 ...]) -> None:
        check_lists(self, student=student, teacher=teacher)
        shapes = shapes_of(student), shapes_of(teacher)
        channels = self.adapters[0].in_channels
        if shapes[0] != shapes[1] or len(student) != self.num_levels or \
                any(len(s) != 4 or s[1] != channels for s in shapes[0]):
            raise ValueError(
                f'IDaDetLoss compares {self.num_levels} levels (num_levels) '
                f'of {channels} channels (channels), (N, C, H, W), channel by '
                f'channel; student {shapes[0]} and teacher {shapes[1]} need '
                'necks with the same num_outs and out_channels')

    def forward(self, student: dict, teacher: dict, data_samples: list,
                student_model: nn.Module,
                teacher_model: nn.Module) -> dict[str, Tensor]:
        """Compute the loss of a training step.

        Args:
            student (dict): ``neck``: levels, shape (N, C, H_i, W_i); ``rpn``:
                what ``rpn_head`` returned, scores and deltas of each level.
            teacher (dict): The same.
            data_samples (list): The batch's data samples.
            student_model (nn.Module): mmdet's two-stage detector.
            teacher_model (nn.Module): The same.

        Returns:
            dict[str, Tensor]: As :meth:`loss_from_proposals`.
        """
        check_keys(self, ('neck', 'rpn'), student=student, teacher=teacher)
        self._check(student['neck'], teacher['neck'])
        check_num_samples(self, data_samples, len(student['neck'][0]))
        metas = [sample.metainfo for sample in data_samples]
        # the teacher's proposals as well are made as the student trains
        cfg = student_model.train_cfg.get('rpn_proposal',
                                          student_model.test_cfg.rpn)
        return self.loss_from_proposals(
            student['neck'], teacher['neck'],
            predict_proposals(student_model, student['rpn'], metas, cfg),
            predict_proposals(teacher_model, teacher['rpn'], metas, cfg),
            metas)
