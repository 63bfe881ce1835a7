from .detection import MiniDetection
from .rendered import Rendered, ensure_mini_data

__all__ = ['MiniDetection', 'Rendered', 'ensure_mini_data']
