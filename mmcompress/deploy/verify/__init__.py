from .layers import LayerCheck, compare_with_trained
from .model import (VerificationError, compare_layouts, compare_twins,
                    end_to_end_difference, predict)
from .wiring import check_wiring

__all__ = [
    'LayerCheck', 'VerificationError', 'check_wiring', 'compare_layouts',
    'compare_twins', 'compare_with_trained', 'end_to_end_difference', 'predict'
]
