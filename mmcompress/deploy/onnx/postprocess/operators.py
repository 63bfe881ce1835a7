"""Suppression and pooling as operators that an exporter sees as one node.

Their translations are ONNX's ``NonMaxSuppression`` and ``RoiAlign``.
"""
from collections.abc import Callable

import torch
from torch import Tensor

from ..packages import needs


@torch.library.custom_op('mmcompress_onnx::suppress', mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou: float, limit: int) -> Tensor:
    """Greedy suppression of boxes that overlap.

    Args:
        boxes (Tensor): Shape (N, 4), corners, in pixels.
        scores (Tensor): Shape (N, ); those below 0 are not looked at.
        iou (float): What overlaps more than that is suppressed.
        limit (int): The most that are kept.

    Returns:
        Tensor: Places of those kept, best first, shape (n, ).
    """
    from mmcv.ops import nms
    places = (scores >= 0).nonzero()[:, 0]
    if len(places) == 0:
        return places
    _, kept = nms(boxes[places].contiguous(), scores[places].contiguous(), iou)
    # a view of an input would alias it
    return places[kept[:limit]].clone()


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float, limit: int) -> Tensor:
    length = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty(length, dtype=torch.int64)


@torch.library.custom_op('mmcompress_onnx::roi_align', mutates_args=())
def roi_align(features: Tensor, rois: Tensor, height: int, width: int,
              scale: float, ratio: int, aligned: bool) -> Tensor:
    """Average bilinear samples in each cell of regions.

    Args:
        features (Tensor): Shape (1, C, H, W).
        rois (Tensor): Shape (n, 4), corners, in pixels of the image.
        height (int): Cells.
        width (int): Cells.
        scale (float): Pixels of the features per pixel of the image.
        ratio (int): Samples along a cell; 0: one per pixel of the features.
        aligned (bool): Whether pixels lie half a pixel from the border.

    Returns:
        Tensor: Shape (n, C, height, width).
    """
    from mmcv.ops import roi_align as pool
    rows = torch.cat([rois.new_zeros(len(rois), 1), rois], 1)
    return pool(features, rows, (height, width), scale, ratio, 'avg', aligned)


@roi_align.register_fake
def _(features: Tensor, rois: Tensor, height: int, width: int, scale: float,
      ratio: int, aligned: bool) -> Tensor:
    return features.new_empty(rois.shape[0], features.shape[1], height, width)


def translations() -> dict[Callable, Callable]:
    """How the exporter writes these operators."""
    op = needs('onnxscript').opset21

    def ints(*numbers: int):
        return op.Constant(value_ints=numbers)

    def write_suppress(boxes, scores, iou: float, limit: int):
        kept = op.NonMaxSuppression(
            op.Unsqueeze(boxes, ints(0)),
            op.Unsqueeze(scores, ints(0, 1)),
            ints(limit),
            op.Constant(value_floats=[iou]),
            # scores of those that don't count are -1
            op.Constant(value_floats=[-0.5]))
        # image, class, place
        return op.Gather(kept, op.Constant(value_int=2), axis=1)

    def write_roi_align(features, rois, height: int, width: int, scale: float,
                        ratio: int, aligned: bool):
        count = op.Shape(rois, start=0, end=1)
        mode = 'half_pixel' if aligned else 'output_half_pixel'
        return op.RoiAlign(
            features,
            rois,
            op.Expand(op.Constant(value_int=0), count),
            coordinate_transformation_mode=mode,
            mode='avg',
            output_height=height,
            output_width=width,
            sampling_ratio=ratio,
            spatial_scale=scale)

    ours = torch.ops.mmcompress_onnx
    return {
        ours.suppress.default: write_suppress,
        ours.roi_align.default: write_roi_align
    }
