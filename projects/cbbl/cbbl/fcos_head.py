"""FCOS' head with a distribution for each distance."""
import logging

import torch
from mmdet.models.dense_heads import FCOSHead
from mmdet.utils import reduce_mean
from mmengine.logging import print_log
from torch import Tensor

from mmcompress.registry import MODELS
from .layers import check_loss, decode_maps, widened
from .perturbation import check_ugs, dense_losses

# ours: the paper's numbers for FCOS are not known
DISTANCE_LOSS = dict(
    type='mmcompress.TwoHotLocalizationLoss',
    alpha=8.0,
    n=16,
    beta=None,
    one_sided=True,
    lambda_um=0.5)


@MODELS.register_module()
class TwoHotFCOSHead(FCOSHead):
    """FCOS' head of C-BBL (Sun et al., arXiv 2303.01803).

    ``conv_reg`` has ``4 * (n + 1)`` channels: coordinate, grid point. The
    distances to the four sides, in strides of the level, are classified over
    a one-sided grid in place of the IoU loss, with no activation before. The
    share of clamped targets is logged as ``bbox_clamped``.

    Reconstructed: the paper trains FCOS and tells neither grid nor weights.
    Here, as in FCOS, a location weighs as much as its centerness. ``scales``
    of the levels multiply logits, as in GFL.

    Args:
        loss_bbox (dict): ``mmcompress.TwoHotLocalizationLoss`` with
            ``one_sided=True``. Its ``alpha`` should reach the upper ends of
            the finite ``regress_ranges``, divided by strides.
        norm_on_bbox (bool): Must stay True, so that distances are in strides.
        ugs (dict | None): With ``gamma`` and ``rho``, the loss on perturbed
            features is added as ``loss_bbox_ur``.

    Raises:
        TypeError: If ``loss_bbox`` is another loss.
        ValueError: If the grid has two sides, ``norm_on_bbox`` is False, or
            ``ugs`` is wrong.
    """

    def __init__(self,
                 *args,
                 loss_bbox: dict = DISTANCE_LOSS,
                 norm_on_bbox: bool = True,
                 ugs: dict | None = None,
                 **kwargs) -> None:
        ugs = check_ugs(ugs)
        if not norm_on_bbox:
            raise ValueError('TwoHotFCOSHead: with norm_on_bbox=False the '
                             'targets are pixels, which no grid spans; '
                             'leave it True, so that they are strides')
        super().__init__(
            *args, loss_bbox=loss_bbox, norm_on_bbox=norm_on_bbox, **kwargs)
        self.ugs = ugs
        self._check_grid()

    def _check_grid(self) -> None:
        settings = self.loss_bbox.settings
        if not settings['one_sided']:
            raise ValueError('TwoHotFCOSHead: distances are not negative; set '
                             'one_sided=True in its loss_bbox')
        # the last level reaches to infinity
        longest = max(
            (end / stride
             for (_, end), stride in zip(self.regress_ranges, self.strides)
             if end < 1e7),
            default=0)
        if longest > settings['alpha']:
            print_log(
                f'TwoHotFCOSHead: distances of up to {longest:g} strides '
                f'belong to a level (regress_ranges), and alpha is '
                f'{settings["alpha"]}: longer ones are clamped to it',
                logger='current',
                level=logging.WARNING)

    def _init_predictor(self) -> None:
        super()._init_predictor()
        check_loss(self)
        self.conv_reg = widened(self.conv_reg, self.loss_bbox.num_points)

    def forward_single(self, x: Tensor, scale,
                       stride: int) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions of a level.

        Args:
            x (Tensor): Shape (N, C, H, W).
            scale (nn.Module): The level's factor.
            stride (int): Not needed here.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Scores, logits of shape
            (N, 4 * (n + 1), H, W), and centerness, in training and in
            testing.
        """
        cls_score, logits, cls_feat, reg_feat = super(FCOSHead,
                                                      self).forward_single(x)
        feature = reg_feat if self.centerness_on_reg else cls_feat
        return cls_score, scale(logits), self.conv_centerness(feature)

    def logit_rows(self, bbox_preds: list[Tensor]) -> list[Tensor]:
        """Logits of all levels, as one tensor in the order of the targets."""
        num = 4 * self.loss_bbox.num_points
        return [
            torch.cat(
                [x.permute(0, 2, 3, 1).reshape(-1, num) for x in bbox_preds])
        ]

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list) -> dict:
        """Losses of the levels of the neck; see the parent."""
        losses, loss_ur = dense_losses(
            self, x, lambda levels: super(TwoHotFCOSHead, self).loss(
                levels, batch_data_samples))
        if loss_ur is not None:
            losses['loss_bbox_ur'] = loss_ur
        return losses

    def loss_by_feat(self,
                     cls_scores: list[Tensor],
                     bbox_preds: list[Tensor],
                     centernesses: list[Tensor],
                     batch_gt_instances: list,
                     batch_img_metas: list[dict],
                     batch_gt_instances_ignore: list | None = None) -> dict:
        """Losses of a batch.

        Args:
            cls_scores (list[Tensor]): Shape (N, classes, H, W) each.
            bbox_preds (list[Tensor]): Logits, shape (N, 4 * (n + 1), H, W)
                each.
            centernesses (list[Tensor]): Shape (N, 1, H, W) each.
            batch_gt_instances (list): Boxes and labels of the images.
            batch_img_metas (list[dict]): Not needed.
            batch_gt_instances_ignore (list | None): Not needed.
        """
        points = self.prior_generator.grid_priors(
            [x.shape[-2:] for x in cls_scores],
            dtype=torch.float32,
            device=cls_scores[0].device)
        labels, distances = map(torch.cat,
                                self.get_targets(points, batch_gt_instances))
        scores = torch.cat([
            x.permute(0, 2, 3, 1).reshape(-1, self.cls_out_channels)
            for x in cls_scores
        ])
        centerness = torch.cat(
            [x.permute(0, 2, 3, 1).reshape(-1) for x in centernesses])
        is_object = (labels >= 0) & (labels < self.num_classes)
        positive = is_object.nonzero().flatten()
        num_positive = reduce_mean(distances.new_tensor(float(len(positive))))
        num_positive = num_positive.clamp(min=1)
        wanted = self.centerness_target(distances[positive])
        weight = wanted.new_zeros(len(labels)).index_put((positive, ), wanted)
        with self.loss_bbox.recording() as record:
            loss_bbox = self.loss_bbox(
                self.logit_rows(bbox_preds)[0],
                distances,
                weight,
                avg_factor=reduce_mean(wanted.sum()).clamp(min=1e-6))
        # without any, 0 with a gradient
        loss_centerness = self.loss_centerness(
            centerness[positive], wanted,
            avg_factor=num_positive) if len(positive) else centerness.sum() * 0
        return dict(
            loss_cls=self.loss_cls(scores, labels, avg_factor=num_positive),
            loss_bbox=loss_bbox,
            loss_centerness=loss_centerness,
            bbox_clamped=record.clamped_share(scores))

    def predict_by_feat(self, cls_scores: list[Tensor],
                        bbox_preds: list[Tensor], *args, **kwargs) -> list:
        """Boxes of scores and logits, shaped as in the loss."""
        distances = [
            stride * distance for stride, distance in zip(
                self.strides, decode_maps(bbox_preds, self.loss_bbox))
        ]
        return super().predict_by_feat(cls_scores, distances, *args, **kwargs)
