from .ida_det import IDaDetFPN

__all__ = ['IDaDetFPN']
