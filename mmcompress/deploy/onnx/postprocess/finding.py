"""Which predictions a model makes of what its network returns."""
from collections.abc import Sequence
from typing import Any

import torch.nn as nn

from ..network import Network
from .dense import dense_postprocess
from .keypoints import PosePostprocess
from .labels import ClassPostprocess, MapPostprocess
from .queries import QueryPostprocess
from .refusal import is_inherited, refuse
from .regions import RegionPostprocess


def find_postprocess(network: Network,
                     outs: Any,
                     flip_indices: Sequence[int] | None = None) -> nn.Module:
    """What a model does with the outputs of its network.

    Args:
        network (Network): Backbone, neck and head.
        outs (Any): What it returns for an image, as its head gives it.
        flip_indices (Sequence[int] | None): Of keypoints, for pose estimators
            that also look at the flipped image.

    Returns:
        nn.Module: With ``names`` of what it returns; called with such outputs
        and the size of the image.

    Raises:
        NoPostprocess: Names the module whose predictions are not known.
    """
    model = network.model
    if network.library == 'mmpretrain':
        return ClassPostprocess(model, outs)
    if network.library == 'mmseg':
        return MapPostprocess(model, outs, network.size)
    if network.library == 'mmpose':
        return PosePostprocess(model, outs, flip_indices)
    if network.is_two_stage:
        return RegionPostprocess(model, outs)
    if network.is_transformer:
        return QueryPostprocess(network.head_name, network.head, outs)
    owners = ('SingleStageDetector', 'RPN')
    if not is_inherited(model, 'predict', *owners):
        raise refuse('model', model, 'it has a `predict` of its own')
    return dense_postprocess(network.head_name, network.head, outs)
