from .cache_teacher import CacheTeacherHook
from .check_data import CheckDataHook
from .check_pretrained import CheckPretrainedHook
from .distill import DistillHook
from .exact_resume import ExactResumeHook
from .loss_gradients import LossGradientHook
from .non_finite_loss import NonFiniteLossHook
from .plain_checkpoint import PlainCheckpointHook

__all__ = [
    'CacheTeacherHook', 'CheckDataHook', 'CheckPretrainedHook', 'DistillHook',
    'ExactResumeHook', 'LossGradientHook', 'NonFiniteLossHook',
    'PlainCheckpointHook'
]
