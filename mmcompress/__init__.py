"""Compression for OpenMMLab models: distillation and low-bit layers."""
from .version import __version__

__all__ = ['__version__']
