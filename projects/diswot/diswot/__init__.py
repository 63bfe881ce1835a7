from .distances import (channel_semantic_distance, fc_gradient,
                        relation_distance, semantic_distance)
from .losses import ChannelSemanticLoss, RelationDistanceLoss
from .scoring import Distances, Scoring, kendall_tau
from .space import Candidate, ResNetSpace
from .stages import StageResNet, StageResNetCIFAR

__all__ = [
    'Candidate', 'ChannelSemanticLoss', 'Distances', 'RelationDistanceLoss',
    'ResNetSpace', 'Scoring', 'StageResNet', 'StageResNetCIFAR',
    'channel_semantic_distance', 'fc_gradient', 'kendall_tau',
    'relation_distance', 'semantic_distance'
]
