"""The real-valued SSD head, repaired."""
from mmdet.models.dense_heads import SSDHead as MMDetSSDHead

from mmcompress.registry import MODELS


@MODELS.register_module()
class SSDHead(MMDetSSDHead):
    """mmdet's ``SSDHead``, able to predict with mmdet 3.3.0.

    There, prediction asks each dense head for its ``loss_cls``, and SSD's
    computes its loss without one, so it raises an ``AttributeError``.
    Arguments and state dict are the same.
    """

    # what is not there has no activation of its own
    loss_cls = None
