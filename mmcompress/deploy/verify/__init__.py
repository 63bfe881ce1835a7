from .layers import LayerCheck, compare_with_trained
from .model import (VerificationError, compare_layouts, compare_twins,
                    end_to_end_difference, predict)

__all__ = [
    'LayerCheck', 'VerificationError', 'compare_layouts', 'compare_twins',
    'compare_with_trained', 'end_to_end_difference', 'predict'
]
