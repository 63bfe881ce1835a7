from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, dict(ida_det=['IDaDetFPN'], pointnet=['PointNetNeck']))
