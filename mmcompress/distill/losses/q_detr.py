"""Q-DETR: mimic what the queries on objects gather from the image."""
import torch
import torch.nn as nn
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .base import DistillLoss
from .boxes import normalised, pairwise_giou
from .checks import check_keys, check_num_samples, check_tensors, gt_boxes


def foreground_queries(boxes: Tensor, gt: Tensor,
                       tau: float) -> tuple[Tensor, Tensor]:
    """Queries that overlap with an object about as well as its best query.

    Args:
        boxes (Tensor): Of the queries, (cx, cy, w, h), shape (Q, 4).
        gt (Tensor): Of the objects, shape (M, 4).
        tau (float): Share of the best query's GIoU that a query must exceed.
            Where even the best is negative, none does.

    Returns:
        tuple[Tensor, Tensor]: Which queries, bool, shape (Q, ), and the best
        GIoU of each object, shape (M, ).
    """
    giou = pairwise_giou(gt, boxes)
    best = giou.amax(1)
    return (giou > tau * best[:, None]).any(0), best


def matching_queries(boxes: Tensor, others: Tensor, mu1: float,
                     mu2: float) -> Tensor:
    """The most similar of the others for each query.

    Args:
        boxes (Tensor): Of the queries, (cx, cy, w, h), shape (Q, 4).
        others (Tensor): Shape (K, 4).
        mu1 (float): Weight of the GIoU.
        mu2 (float): Weight of the L1 distance, which counts against it.

    Returns:
        Tensor: Indices, the first among equals, shape (Q, ).
    """
    distance = torch.cdist(boxes, others, p=1)
    return (mu1 * pairwise_giou(boxes, others) - mu2 * distance).argmax(1)


@MODELS.register_module()
class DRDLoss(DistillLoss):
    """Distribution rectification distillation of Q-DETR (Xu et al., CVPR 2023,
    arXiv:2304.00253).

    For detectors with queries, quantized or not. It compares co-attended
    features, what the last cross-attention gathers for a query. A student's
    query counts if its box overlaps with an object about as well as the best
    one does, :func:`foreground_queries`, and learns from the teacher's query
    with the most similar box, :func:`matching_queries`: the L2 distance of
    their features, as a mean over all the queries that count.

    Taps are ``dict(features=..., boxes='bbox_head[1]')`` for both sides. The
    features, of mmdet's detectors with 6 decoder layers, are

    - DETR: ``'decoder.layers.5.cross_attn.attn[0]'``,
    - Conditional DETR, DAB-DETR:
      ``'decoder.layers.5.cross_attn.out_proj'``,
    - Deformable DETR, DINO: ``'decoder.layers.5.cross_attn.output_proj'``.

    That is after the output projection. With ``@input`` behind the module
    they are the heads' outputs, before it; mmdet's DETR has no module there.
    Numbers of queries and of classes may differ. Denoising queries are left
    out.

    Differs from the paper where that says that a query must overlap with all
    objects: with one of them, as its text says.

    Args:
        tau (float): See :func:`foreground_queries`.
        loss_weight (float): Lambda.
        mu1 (float): See :func:`matching_queries`.
        mu2 (float): See :func:`matching_queries`.
        reduction (str): ``'query'``: the mean over the queries that count, of
            all processes. ``'image_fro'``: the Frobenius norm over those of
            an image, as a mean over images.
        student_channels (int | None): Channels of the student's features. A
            linear layer adapts them where the teacher's differ.
        teacher_channels (int | None): Channels of the teacher's features.

    Raises:
        ValueError: If an argument is none of these, or in ``forward`` if
            features, boxes or images don't fit, or the queries that the
            detector predicts with can't be told from others.
    """

    reads_only = ('boxes', )

    def __init__(self,
                 tau: float = 0.6,
                 loss_weight: float = 2.5,
                 mu1: float = 2.0,
                 mu2: float = 5.0,
                 reduction: str = 'query',
                 student_channels: int | None = None,
                 teacher_channels: int | None = None) -> None:
        super().__init__()
        if reduction not in ('query', 'image_fro'):
            raise ValueError("reduction must be 'query' or 'image_fro', got "
                             f'{reduction!r}')
        if not 0 <= tau <= 1:
            raise ValueError(f'tau must be in [0, 1], got {tau}')
        if (student_channels is None) != (teacher_channels is None):
            raise ValueError('give both student_channels and teacher_channels,'
                             f' got {student_channels}, {teacher_channels}')
        self.tau = tau
        self.loss_weight = loss_weight
        self.mu1 = mu1
        self.mu2 = mu2
        self.reduction = reduction
        self.channels = student_channels, teacher_channels
        self.adapter = nn.Identity() \
            if student_channels == teacher_channels \
            else nn.Linear(student_channels, teacher_channels)

    def forward(self,
                student: dict[str, Tensor],
                teacher: dict[str, Tensor],
                data_samples: list,
                student_model: nn.Module | None = None,
                teacher_model: nn.Module | None = None) -> Tensor:
        """Compute the loss.

        Args:
            student (dict[str, Tensor]): ``features``, shape (N, Q, C_s) or
                (Q, N, C_s), and ``boxes``, normalised (cx, cy, w, h), of
                shape (N, Q, 4), or (layers, N, Q, 4), whose last counts.
            teacher (dict[str, Tensor]): The same, with other Q and C.
            data_samples (list): mmdet's, with ``gt_instances.bboxes`` and
                ``img_shape``.
            student_model (nn.Module | None): The detector, whose
                ``num_queries`` are the last of those. None: all are.
            teacher_model (nn.Module | None): The same of the teacher.

        Returns:
            Tensor: Scalar; 0 where no query counts.
        """
        check_keys(
            self, ('features', 'boxes'), student=student, teacher=teacher)
        features, boxes = self._queries('student', student, student_model)
        targets, others = self._queries('teacher', teacher, teacher_model)
        self._check(features, targets)
        check_num_samples(self, data_samples, len(features))
        objects = normalised(*gt_boxes(self, data_samples))
        with torch.autocast(features.device.type, enabled=False):
            features = self.adapter(features)
            differences, counts = [], []
            for d_s, b_s, d_t, b_t, gt in zip(features, boxes,
                                              targets.detach(), others,
                                              objects):
                keep, match = self.select(b_s, b_t, gt.to(b_s))
                differences.append(
                    torch.where(keep[:, None], d_s - d_t[match], 0))
                counts.append(keep.sum())
        return self.loss_weight * self._reduce(features, differences, counts)

    @torch.no_grad()
    def select(self, boxes: Tensor, others: Tensor,
               gt: Tensor) -> tuple[Tensor, Tensor]:
        """Queries of an image that count, and whom each learns from.

        Args:
            boxes (Tensor): The student's, (cx, cy, w, h), shape (Q, 4).
            others (Tensor): The teacher's, shape (K, 4).
            gt (Tensor): The objects', shape (M, 4).

        Returns:
            tuple[Tensor, Tensor]: Bool and indices, shape (Q, ).
        """
        keep, _ = foreground_queries(boxes, gt, self.tau)
        return keep, matching_queries(boxes, others, self.mu1, self.mu2)

    def _reduce(self, features: Tensor, differences: list[Tensor],
                counts: list[Tensor]) -> Tensor:
        """The loss, from differences (Q, C) that are 0 where none counts."""
        total = self.zero(features)
        if self.reduction == 'image_fro':
            norms = [torch.linalg.vector_norm(d) for d in differences]
            return total + sum(norms) / max(len(norms), 1)
        total = total + sum(
            torch.linalg.vector_norm(d, dim=1).sum() for d in differences)
        num = sum(counts, torch.zeros_like(total, dtype=torch.long).detach())
        # also where there is no image, since the other processes wait
        all_reduce(num)
        # DDP takes the mean over processes, here it is over queries
        return get_world_size() * total / num.clamp(min=1)

    def _queries(self, side: str, tapped: dict,
                 model: nn.Module | None) -> tuple[Tensor, Tensor]:
        """Features (N, Q, C) and boxes (N, Q, 4) of the plain queries."""
        features, boxes = tapped['features'], tapped['boxes']
        check_tensors(self, **{
            f'{side}.features': features,
            f'{side}.boxes': boxes
        })
        given = (f'DRDLoss: features {tuple(features.shape)} and boxes '
                 f'{tuple(boxes.shape)} of the {side}')
        if features.dim() != 3 or boxes.dim() not in (3, 4) or \
                boxes.shape[-1] != 4:
            raise ValueError(
                f'{given} must be (N, Q, C), or (Q, N, C), and (layers, N, Q, '
                "4), as 'bbox_head[1]' of mmdet's DETRs gives them")
        if boxes.dim() == 4:
            boxes = boxes[-1]
        queries_first = features.shape[:2] != boxes.shape[:2]
        if boxes.shape[0] == boxes.shape[1]:
            queries_first = is_sequence_first(model)
        if queries_first:
            features = features.transpose(0, 1)
        if features.shape[:2] != boxes.shape[:2]:
            raise ValueError(f'{given} differ in images or queries; tap the '
                             'last decoder layer and the head behind it')
        num = num_queries(side, model, boxes.shape[1])
        return (at_least_float32(features[:, -num:]),
                at_least_float32(boxes[:, -num:]))

    def _check(self, features: Tensor, targets: Tensor) -> None:
        given = (f'DRDLoss: features {tuple(features.shape)} of the student '
                 f'and {tuple(targets.shape)} of the teacher')
        if len(features) != len(targets):
            raise ValueError(f'{given} differ in the number of images')
        channels = features.shape[2], targets.shape[2]
        if self.channels == (None, None) and channels[0] != channels[1]:
            raise ValueError(f'{given} differ in channels; student_channels '
                             'and teacher_channels adapt them')
        if self.channels not in ((None, None), channels):
            raise ValueError(f'{given}, but it was made for {self.channels} '
                             'channels (student_channels, teacher_channels)')


def is_sequence_first(model: nn.Module | None) -> bool:
    """Whether a detector's cross-attention gives (Q, N, C), as torch's."""
    return model is not None and any(
        isinstance(module, nn.MultiheadAttention) and not module.batch_first
        for name, module in model.named_modules() if '.cross_attn.' in name)


def num_queries(side: str, model: nn.Module | None, total: int) -> int:
    """How many queries a detector predicts with: the last ones.

    Args:
        side (str): Whose it is, for messages.
        model (nn.Module | None): The detector; None if all are.
        total (int): How many there are in this step.

    Raises:
        ValueError: If it doesn't say, or has others behind them.
    """
    if model is None:
        return total
    num = getattr(model, 'num_queries', None)
    name = type(model).__name__
    if num is None:
        raise ValueError(f'DRDLoss: the {side} ({name}) has no num_queries, '
                         "as mmdet's DETRs have")
    if hasattr(model, 'dense_topk_ratio'):
        raise ValueError(f'DRDLoss: the {side} ({name}) has dense queries '
                         'behind those that it predicts with, whose number '
                         'differs from step to step; DETR, Conditional DETR, '
                         'DAB-DETR, Deformable DETR and DINO are supported')
    return num
