from .classification import MiniClassification
from .detection import MiniDetection
from .rendered import Rendered, ensure_mini_data

__all__ = [
    'MiniClassification', 'MiniDetection', 'Rendered', 'ensure_mini_data'
]
