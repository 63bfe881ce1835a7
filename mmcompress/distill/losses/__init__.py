from .base import DistillLoss
from .cwd import CWDLoss
from .dwpose import DWPoseFeatureLoss, DWPoseLogitLoss
from .feature_l2 import FeatureL2Loss
from .fgd import FGDLoss
from .g2sd import G2SDDetLoss, G2SDGenericLoss, HardKDLoss
from .ida_det import IDaDetLoss
from .ie_kd import IEKDLoss
from .kd import KDLoss
from .mgd import MGDLoss
from .nkd import NKDLoss
from .pkd import PKDLoss
from .uskd import TfNKDLoss, USKDLoss
from .vitkd import ViTKDLoss

__all__ = [
    'CWDLoss', 'DWPoseFeatureLoss', 'DWPoseLogitLoss', 'DistillLoss',
    'FGDLoss', 'FeatureL2Loss', 'G2SDDetLoss', 'G2SDGenericLoss', 'HardKDLoss',
    'IDaDetLoss', 'IEKDLoss', 'KDLoss', 'MGDLoss', 'NKDLoss', 'PKDLoss',
    'TfNKDLoss', 'USKDLoss', 'ViTKDLoss'
]
