"""Which layers of a model are its first and its last ones."""
import re

import torch.nn as nn

_HEAD = re.compile(r'(^|\.)\w*head\w*\.')
# what the heads of the mm libraries call layers whose output is a prediction
_LAST = re.compile(
    r"""\.(
        fc_(cls|reg|centerness) | conv_(cls|reg|centerness|obj|seg|logits)
        | (rpn|retina|atss|fcos|gfl|vfnet|rtm|ssd|bbox|fovea|reppoints)
          _(cls|reg|centerness|iou|obj)(_refine|_out|_init_out)?
        | multi_level_conv_(cls|reg|obj) | convs_pred | cls_branches
        | final_layer | cls_x | cls_y | head | head_dist | fc | class_embed
    )(\.\d+)?$""", re.X)
# stacks of layers of which the last one predicts
_STACK = re.compile(r'\.(reg_branches\.\d+|fc_reg\.layers|'
                    r'(cls|reg)_convs\.\d+)\.\d+$')
# YOLOX's stem sees 2 x 2 pixels of up to 4 channels at once
_IMAGE_CHANNELS = 16


def first_and_last(layers: dict[str, nn.Module]) -> set[str]:
    """Names of the layer that sees the image, and of those that predict.

    The first is the first convolution, a patch embedding in transformers.

    Args:
        layers (dict[str, nn.Module]): All linear layers and convolutions of
            the model, by name, in order.
    """
    convs = [n for n, m in layers.items() if isinstance(m, nn.Conv2d)]
    chosen = set()
    if convs and layers[convs[0]].in_channels <= _IMAGE_CHANNELS:
        chosen.add(convs[0])
    ends = {name.rpartition('.')[0]: name for name in layers}
    chosen.update(
        name for name in layers if _HEAD.search(name)
        if _LAST.search(name) or (
            _STACK.search(name) and name == ends[name.rpartition('.')[0]]))
    return chosen
