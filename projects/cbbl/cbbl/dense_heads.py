"""RetinaNet's head and the RPN, with a distribution for each coordinate."""
from mmdet.models.dense_heads import RetinaHead, RPNHead
from torch import Tensor

from mmcompress.registry import MODELS
from .layers import check_loss, decode_maps, widened
from .perturbation import check_ugs, dense_losses

# the paper's numbers for anchors
ANCHOR_LOSS = dict(
    type='mmcompress.TwoHotLocalizationLoss',
    alpha=2.0,
    n=10,
    beta=1.0,
    lambda_um=0.5)


def anchor_rows(bbox_preds: list[Tensor]) -> list[Tensor]:
    """Logits of each level in the order of its targets.

    Args:
        bbox_preds (list[Tensor]): Shape (N, A * 4 * (n + 1), H, W) each.

    Returns:
        list[Tensor]: Shape (N, H, W, A * 4 * (n + 1)) each.
    """
    return [logits.permute(0, 2, 3, 1) for logits in bbox_preds]


@MODELS.register_module()
class TwoHotRetinaHead(RetinaHead):
    """RetinaNet's head of C-BBL (Sun et al., arXiv 2303.01803).

    ``retina_reg`` has ``A * 4 * (n + 1)`` channels: anchor, coordinate, grid
    point. Everything else is :class:`mmdet.models.RetinaHead`: its loss gets
    logits instead of numbers, and boxes are predicted from their means. The
    share of clamped targets is logged as ``bbox_clamped``.

    Args:
        loss_bbox (dict): ``mmcompress.TwoHotLocalizationLoss``; its arguments
            are the grid.
        ugs (dict | None): With ``gamma`` and ``rho``, the loss on perturbed
            features is added as ``loss_bbox_ur`` (:func:`perturbations`,
            partly reconstructed).

    Raises:
        TypeError: If ``loss_bbox`` is another loss.
        ValueError: If ``reg_decoded_bbox`` is set, or ``ugs`` is wrong.
    """
    logit_rows = staticmethod(anchor_rows)

    def __init__(self,
                 *args,
                 loss_bbox: dict = ANCHOR_LOSS,
                 ugs: dict | None = None,
                 **kwargs) -> None:
        ugs = check_ugs(ugs)
        super().__init__(*args, loss_bbox=loss_bbox, **kwargs)
        self.ugs = ugs

    def _init_layers(self) -> None:
        super()._init_layers()
        check_loss(self)
        self.retina_reg = widened(self.retina_reg, self.loss_bbox.num_points)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list) -> dict:
        """Losses of the levels of the neck; see the parent."""
        losses, loss_ur = dense_losses(
            self, x, lambda levels: super(TwoHotRetinaHead, self).loss(
                levels, batch_data_samples))
        if loss_ur is not None:
            losses['loss_bbox_ur'] = loss_ur
        return losses

    def loss_by_feat(self, cls_scores: list[Tensor], bbox_preds: list[Tensor],
                     *args, **kwargs) -> dict:
        """Losses of scores and logits; see the parent.

        Args:
            cls_scores (list[Tensor]): Shape (N, A * classes, H, W) each.
            bbox_preds (list[Tensor]): Logits, shape
                (N, A * 4 * (n + 1), H, W) each.
        """
        with self.loss_bbox.recording() as record:
            losses = super().loss_by_feat(cls_scores, bbox_preds, *args,
                                          **kwargs)
        losses['bbox_clamped'] = record.clamped_share(bbox_preds[0])
        return losses

    def predict_by_feat(self, cls_scores: list[Tensor],
                        bbox_preds: list[Tensor], *args, **kwargs) -> list:
        """Boxes of scores and logits, shaped as in the loss."""
        return super().predict_by_feat(cls_scores,
                                       decode_maps(bbox_preds, self.loss_bbox),
                                       *args, **kwargs)


@MODELS.register_module()
class TwoHotRPNHead(RPNHead):
    """RPN of C-BBL (Sun et al., arXiv 2303.01803).

    ``rpn_reg`` has ``A * 4 * (n + 1)`` channels: anchor, coordinate, grid
    point. Proposals are the means of the distributions, without gradient. The
    share of clamped targets is logged as ``rpn_bbox_clamped``.

    Args:
        loss_bbox (dict): ``mmcompress.TwoHotLocalizationLoss``; its arguments
            are the grid.
        ugs (dict | None): With ``gamma`` and ``rho``, the loss on perturbed
            features is added as ``loss_rpn_bbox_ur``.

    Raises:
        TypeError: If ``loss_bbox`` is another loss.
        ValueError: If ``reg_decoded_bbox`` is set, or ``ugs`` is wrong.
    """
    logit_rows = staticmethod(anchor_rows)

    def __init__(self,
                 *args,
                 loss_bbox: dict = ANCHOR_LOSS,
                 ugs: dict | None = None,
                 **kwargs) -> None:
        ugs = check_ugs(ugs)
        super().__init__(*args, loss_bbox=loss_bbox, **kwargs)
        self.ugs = ugs

    def _init_layers(self) -> None:
        super()._init_layers()
        check_loss(self)
        self.rpn_reg = widened(self.rpn_reg, self.loss_bbox.num_points)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list) -> dict:
        """Losses of the levels of the neck, where the RPN is a detector."""
        losses, loss_ur = dense_losses(
            self, x, lambda levels: super(TwoHotRPNHead, self).loss(
                levels, batch_data_samples))
        if loss_ur is not None:
            losses['loss_rpn_bbox_ur'] = loss_ur
        return losses

    def loss_and_predict(self,
                         x: tuple[Tensor, ...],
                         batch_data_samples: list,
                         proposal_cfg: dict | None = None) -> tuple:
        """Losses and proposals of the levels of the neck; see the parent."""
        (losses, proposals), loss_ur = dense_losses(
            self, x,
            lambda levels: super(TwoHotRPNHead, self).loss_and_predict(
                levels, batch_data_samples, proposal_cfg))
        if loss_ur is not None:
            losses['loss_rpn_bbox_ur'] = loss_ur
        return losses, proposals

    def loss_by_feat(self, cls_scores: list[Tensor], bbox_preds: list[Tensor],
                     *args, **kwargs) -> dict:
        """Losses of scores and logits.

        Args:
            cls_scores (list[Tensor]): Shape (N, A, H, W) each.
            bbox_preds (list[Tensor]): Logits, shape
                (N, A * 4 * (n + 1), H, W) each.
        """
        with self.loss_bbox.recording() as record:
            losses = super().loss_by_feat(cls_scores, bbox_preds, *args,
                                          **kwargs)
        losses['rpn_bbox_clamped'] = record.clamped_share(bbox_preds[0])
        return losses

    def predict_by_feat(self, cls_scores: list[Tensor],
                        bbox_preds: list[Tensor], *args, **kwargs) -> list:
        """Proposals of scores and logits, shaped as in the loss."""
        return super().predict_by_feat(cls_scores,
                                       decode_maps(bbox_preds, self.loss_bbox),
                                       *args, **kwargs)
