from .classification import MiniClassification
from .detection import MiniDetection
from .modelnet40 import ModelNet40
from .point_clouds import MiniPointClouds
from .point_preprocessor import PointCloudPreprocessor
from .point_transforms import (DropPoints, JitterPoints, LoadPoints,
                               NormalizePoints, RotatePoints)
from .pose import MiniPose
from .rendered import Rendered, ensure_mini_data
from .segmentation import MiniSegmentation

__all__ = [
    'DropPoints', 'JitterPoints', 'LoadPoints', 'MiniPointClouds',
    'ModelNet40', 'NormalizePoints', 'PointCloudPreprocessor', 'RotatePoints',
    'MiniClassification', 'MiniDetection', 'MiniPose', 'MiniSegmentation',
    'Rendered', 'ensure_mini_data'
]
