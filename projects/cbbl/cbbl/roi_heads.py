"""The R-CNN head with a distribution for each coordinate."""
from collections.abc import Sequence

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from torch import Tensor

from mmcompress.registry import MODELS
from .layers import check_loss, widened
from .perturbation import check_ugs, perturbed, with_gradient

# the paper's numbers for R-CNN
ROI_LOSS = dict(
    type='mmcompress.TwoHotLocalizationLoss',
    alpha=5.0,
    n=5,
    beta=1.0,
    lambda_um=0.5)


@MODELS.register_module()
class TwoHotBBoxHead(ConvFCBBoxHead):
    """R-CNN head of C-BBL (Sun et al., arXiv 2303.01803).

    ``fc_reg`` has ``classes * 4 * (n + 1)`` outputs: class, coordinate, grid
    point; class-agnostic heads have one class. By default the layers are
    those of :class:`mmdet.models.Shared2FCBBoxHead`, with
    ``num_shared_convs=4, num_shared_fcs=1`` those of
    ``Shared4Conv1FCBBoxHead``. Works in Cascade R-CNN too: boxes are refined
    by what is decoded. The share of clamped targets is logged as
    ``rcnn_bbox_clamped``.

    Args:
        num_shared_fcs (int): Fully connected layers.
        loss_bbox (dict): ``mmcompress.TwoHotLocalizationLoss``; its arguments
            are the grid.

    Raises:
        TypeError: If ``loss_bbox`` is another loss, or the layer of
            ``reg_predictor_cfg`` is not linear.
        ValueError: If ``reg_decoded_bbox`` is set, or ``with_reg`` is not.
    """

    def __init__(self,
                 num_shared_convs: int = 0,
                 num_shared_fcs: int = 2,
                 *args,
                 loss_bbox: dict = ROI_LOSS,
                 **kwargs) -> None:
        super().__init__(
            num_shared_convs,
            num_shared_fcs,
            *args,
            loss_bbox=loss_bbox,
            **kwargs)
        check_loss(self)
        if not self.with_reg:
            raise ValueError('TwoHotBBoxHead: with_reg=False leaves no box '
                             'to classify')
        self.fc_reg = widened(self.fc_reg, self.loss_bbox.num_points)

    def loss(self, cls_score: Tensor, bbox_pred: Tensor, *args,
             **kwargs) -> dict:
        """Losses of sampled regions; see the parent.

        Args:
            cls_score (Tensor): Shape (M, classes + 1).
            bbox_pred (Tensor): Logits, shape (M, classes * 4 * (n + 1)).
        """
        with self.loss_bbox.recording() as record:
            losses = super().loss(cls_score, bbox_pred, *args, **kwargs)
        losses['rcnn_bbox_clamped'] = record.clamped_share(bbox_pred)
        return losses

    def _decode(self, bbox_pred: Tensor) -> Tensor:
        """Shape (M, classes * 4 * (n + 1)) to (M, classes * 4)."""
        return self.loss_bbox.decode(
            bbox_pred.unflatten(1, (-1, self.loss_bbox.num_points)))

    def _predict_by_feat_single(self, roi: Tensor, cls_score: Tensor,
                                bbox_pred: Tensor, *args, **kwargs):
        return super()._predict_by_feat_single(roi, cls_score,
                                               self._decode(bbox_pred), *args,
                                               **kwargs)

    def regress_by_class(self, priors: Tensor, label: Tensor,
                         bbox_pred: Tensor, img_meta: dict) -> Tensor:
        """Boxes of the given classes, for the next stage of a cascade.

        Args:
            priors (Tensor): Boxes, shape (M, 4).
            label (Tensor): Classes, shape (M, ).
            bbox_pred (Tensor): Logits, shape (M, classes * 4 * (n + 1)).
            img_meta (dict): With ``img_shape``.

        Returns:
            Tensor: Boxes, shape (M, 4).
        """
        return super().regress_by_class(priors, label, self._decode(bbox_pred),
                                        img_meta)


@MODELS.register_module()
class UGSRoIHead(StandardRoIHead):
    """Two-stage head with the loss on perturbed features.

    The levels of the neck are perturbed by the uncertainty of the second
    stage, and its boxes are classified again, of the same proposals. The loss
    is added as ``loss_bbox_ur``. The RPN does the same on its own, with its
    option ``ugs``: that two stages perturb separately is a reconstruction.

    Args:
        ugs (dict | None): With ``gamma`` and ``rho``.

    Raises:
        TypeError: If ``bbox_head`` is not a :class:`TwoHotBBoxHead`.
        ValueError: If ``ugs`` is wrong.
    """

    def __init__(self, *args, ugs: dict | None = None, **kwargs) -> None:
        ugs = check_ugs(ugs)
        super().__init__(*args, **kwargs)
        self.ugs = ugs
        if not isinstance(getattr(self, 'bbox_head', None), TwoHotBBoxHead):
            raise TypeError("UGSRoIHead needs bbox_head=dict(type='mmcompress."
                            "TwoHotBBoxHead'), whose uncertainty it measures")

    def bbox_loss(self, x: Sequence[Tensor], sampling_results: list) -> dict:
        """Losses of sampled regions; see the parent.

        Args:
            x (Sequence[Tensor]): Levels of the neck.
            sampling_results (list): Of the images.
        """
        if not self.ugs or not self.ugs['gamma'] or \
                not torch.is_grad_enabled():
            return super().bbox_loss(x, sampling_results)
        levels = with_gradient(x)
        with self.bbox_head.loss_bbox.recording() as record:
            results = super().bbox_loss(levels, sampling_results)
        # without positives the loss was not called; a second pass of zero all
        # the same, since norms of several processes wait for each other
        moved = perturbed(record, levels, self.ugs['rho']) \
            if record.uncertainty else levels
        again = super().bbox_loss(moved, sampling_results)['loss_bbox']
        results['loss_bbox']['loss_bbox_ur'] = \
            self.ugs['gamma'] * again['loss_bbox']
        return results
