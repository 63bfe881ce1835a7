"""Boxes of two-stage detectors: proposals, pooled features, a second head."""
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.deploy.roi_align import ChannelsLastRoIAlign
from .boxes import check_coder, decode, read_suppression
from .dense import NAMES, dense_postprocess
from .operators import roi_align
from .refusal import is_inherited, refuse


class Pooling(nn.Module):
    """Features of regions, each from the level of its size.

    Args:
        name (str): Of the extractor in the model.
        extractor (nn.Module): ``SingleRoIExtractor`` of mmdet.

    Raises:
        NoPostprocess: If it pools in another way.
    """

    def __init__(self, name: str, extractor: nn.Module) -> None:
        super().__init__()
        if not is_inherited(extractor, 'forward', 'SingleRoIExtractor'):
            raise refuse(name, extractor, 'SingleRoIExtractor is known')
        self.layers = list(extractor.roi_layers)
        for layer in self.layers:
            if isinstance(layer, ChannelsLastRoIAlign):
                # of a packed model, with averages
                continue
            if type(layer).__name__ != 'RoIAlign' or layer.pool_mode != 'avg':
                raise refuse(f'{name}.roi_layers', layer,
                             'RoIAlign of averages is what ONNX has')
        self.extractor = [extractor]

    def _pool(self, level: int, features: Tensor, rois: Tensor) -> Tensor:
        layer = self.layers[level]
        if isinstance(layer, ChannelsLastRoIAlign):
            return layer(features,
                         torch.cat([torch.zeros_like(rois[:, :1]), rois], 1))
        return roi_align(features, rois, *layer.output_size,
                         layer.spatial_scale, layer.sampling_ratio,
                         layer.aligned)

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Pool.

        Args:
            features (Sequence[Tensor]): By levels, shape (1, C, H, W).
            rois (Tensor): Shape (n, 4), in pixels of the image.

        Returns:
            Tensor: Shape (n, C, height, width).
        """
        extractor, = self.extractor
        features = features[:len(self.layers)]
        if len(features) == 1:
            return self._pool(0, features[0], rois)
        rows = torch.cat([torch.zeros_like(rois[:, :1]), rois], 1)
        levels = extractor.map_roi_levels(rows, len(features))
        pooled = rois.new_zeros(rois.shape[0], features[0].shape[1],
                                *self.layers[0].output_size)
        for i, maps in enumerate(features):
            places = (levels == i).nonzero()[:, 0]
            pooled = pooled.index_put((places, ),
                                      self._pool(i, maps, rois[places]))
        return pooled


class RegionPostprocess(nn.Module):
    """Predictions of Faster R-CNN and Cascade R-CNN.

    Args:
        model (nn.Module): A two-stage detector of mmdet.
        outs (Any): Features, and what its RPN returns.

    Raises:
        NoPostprocess: Names the module that works in a way of its own.
    """
    names = NAMES

    def __init__(self, model: nn.Module, outs: Any) -> None:
        super().__init__()
        if not is_inherited(model, 'predict', 'TwoStageDetector'):
            raise refuse('model', model, 'it has a `predict` of its own')
        self.proposals = dense_postprocess('rpn_head', model.rpn_head, outs[1])
        head = model.roi_head
        is_cascade = is_inherited(head, 'predict_bbox', 'CascadeRoIHead')
        if not (is_cascade
                or is_inherited(head, 'predict_bbox', 'StandardRoIHead')):
            raise refuse('roi_head', head, 'StandardRoIHead and '
                         'CascadeRoIHead are known')
        if head.with_mask:
            raise refuse('roi_head.mask_head', head.mask_head,
                         'masks are not exported')
        names, heads = [''], [head.bbox_head]
        extractors = [head.bbox_roi_extractor]
        if is_cascade:
            heads, extractors = map(list, (*heads, *extractors))
            names = [f'.{i}' for i in range(len(heads))]
        # in lists: they are modules of the model, under one name
        self.head, self.heads = [head], heads
        self.cfg = head.test_cfg
        self.pooling = nn.ModuleList(
            Pooling(f'roi_head.bbox_roi_extractor{name}', extractor)
            for name, extractor in zip(names, extractors))
        for name, bbox_head in zip(names, heads):
            self._check(f'roi_head.bbox_head{name}', bbox_head)
        self.suppression = read_suppression('roi_head', head,
                                            self.cfg.get('nms'),
                                            self.cfg.get('max_per_img'))

    def _check(self, name: str, head: nn.Module) -> None:
        if not (is_inherited(head, '_predict_by_feat_single', 'BBoxHead')
                and is_inherited(head, 'regress_by_class', 'BBoxHead')):
            raise refuse(name, head, 'it predicts in a way of its own')
        if head.custom_activation or not head.with_reg or not head.with_cls:
            raise refuse(
                name, head, 'heads of classes, by softmax, and boxes '
                'are known')
        check_coder(f'{name}.bbox_coder', head.bbox_coder)

    def _stage(self, i: int, features: Sequence[Tensor],
               rois: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and deltas of a stage."""
        pooled = self.pooling[i](features, rois)
        if self.head[0].with_shared_head:
            pooled = self.head[0].shared_head(pooled)
        return self.heads[i](pooled)

    def _refine(self, i: int, rois: Tensor, scores: Tensor, deltas: Tensor,
                size: Tensor) -> Tensor:
        """Regions of the next stage, shape (n, 4)."""
        head = self.heads[i]
        if not head.reg_class_agnostic:
            labels = scores[:, :-1].argmax(1)
            deltas = deltas.unflatten(1, (-1, 4))
            index = labels[:, None, None].expand(-1, 1, 4)
            deltas = deltas.gather(1, index)[:, 0]
        return decode(head.bbox_coder, rois, deltas, size)

    def forward(self, outs: tuple, size: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            outs (tuple): Features, and what the RPN returns.
            size (Tensor): Height and width of the image without padding,
                float32, shape (2, ).

        Returns:
            tuple[Tensor]: Boxes in pixels of the preprocessed image, shape
            (n, 4); scores; labels, int64.
        """
        features, proposed = outs
        rois = self.proposals(proposed, size)[0]
        # a way out for no regions is no other result
        torch._check(rois.shape[0] > 1)
        total = 0
        for i in range(len(self.heads)):
            scores, deltas = self._stage(i, features, rois)
            total = total + scores
            if i + 1 < len(self.heads):
                rois = self._refine(i, rois, scores, deltas, size)
        return self._predict(rois, total / len(self.heads), deltas, size)

    def _predict(self, rois: Tensor, logits: Tensor, deltas: Tensor,
                 size: Tensor) -> tuple[Tensor, ...]:
        head = self.heads[-1]
        scores = logits.softmax(-1)[:, :-1]
        num = head.num_classes
        per = 1 if head.reg_class_agnostic else num
        priors = rois[:, None].expand(-1, per, 4).reshape(-1, 4)
        boxes = decode(head.bbox_coder, priors, deltas.reshape(-1, 4), size)
        if per < num:
            boxes = boxes[:, None].expand(-1, num, 4).reshape(-1, 4)
        labels = torch.arange(num).expand_as(scores).reshape(-1)
        scores = scores.reshape(-1)
        valid = scores > self.cfg['score_thr']
        kept = self.suppression(boxes, scores, labels, valid)
        return boxes[kept], scores[kept], labels[kept]
