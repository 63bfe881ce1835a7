"""Which layers of a model are its first and its last ones."""
import logging
import re

import torch.nn as nn
from mmengine.logging import print_log

_HEAD = re.compile(r'(^|\.)\w*head\w*\.')
# what the heads of the mm libraries call layers whose output is a prediction
_LAST = re.compile(
    r"""\.(
        fc_(cls|reg|centerness|logits|mask_iou|reg_cls|reg_offset|seg)
        | conv_(cls|reg|centerness|obj|seg|logits|pred|loc|shape|kernel|coeff)
        | conv_mask_list(_[xy])? | controller
        | (rpn|retina|atss|fcos|gfl|vfnet|rtm|ssd|bbox|fovea|reppoints|tood)
          _(cls|reg|centerness|iou|obj|kernel)(_refine|_out|_init_out)?
        | retina_bbox_(cls|reg) | reppoints_pts_(init|refine)_out
        | multi_level_conv_(cls|reg|obj) | convs_pred | cls_branches
        | cls_score | bbox_pred | object_pred | cls_embed | class_embed
        | [pc]am_conv_seg | aux_cls_seg | linear_pred
        | final_layer | cls_x | cls_y | mlp_head_[xy]
        | out_(cls|bbox|obj|kpt|kpt_vis)
        | (head|head_dist)(\.linear)? | fc
        | dist_head | (conv_|trans_)?cls_head
    )(\.\d+)?$""", re.X)
# stacks of layers of which the last one predicts
_STACK = re.compile(
    r"""\.(
        (aux_)?reg_branches\.\d+ | fc_reg\.layers | (cls|reg)_convs\.\d+
        | mask_embed | (heatmap|wh|offset|vis)_head
    )\.\d+$""", re.X)
# YOLOX's stem sees 2 x 2 pixels of up to 4 channels at once
_IMAGE_CHANNELS = 16


def first_and_last(layers: dict[str, nn.Module]) -> set[str]:
    """Names of the layer that sees the image, and of those that predict.

    The first is the first convolution, a patch embedding in transformers. A
    head of which no layer is known to predict is named in a warning.

    Args:
        layers (dict[str, nn.Module]): All linear layers and convolutions of
            the model, by name, in order.
    """
    convs = [n for n, m in layers.items() if isinstance(m, nn.Conv2d)]
    chosen = set()
    if convs and layers[convs[0]].in_channels <= _IMAGE_CHANNELS:
        chosen.add(convs[0])
    ends = {name.rpartition('.')[0]: name for name in layers}
    heads: dict[str, bool] = {}
    for name in layers:
        head = _HEAD.search(name)
        if head is None:
            continue
        ends_stack = name == ends[name.rpartition('.')[0]]
        is_last = _LAST.search(name) or (ends_stack and _STACK.search(name))
        if is_last:
            chosen.add(name)
        path = name[:head.end() - 1]
        heads[path] = heads.get(path, False) or bool(is_last)
    unknown = [path for path, is_known in heads.items() if not is_known]
    if unknown:
        print_log(
            f'It is not known which layers of {", ".join(unknown)} predict, '
            'so first_last leaves them as the others: give these more bits, '
            "such as overrides={'PATTERN': dict(weight=8, activation=8)}",
            'current', logging.WARNING)
    return chosen
