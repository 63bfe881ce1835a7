"""Compression for OpenMMLab models: distillation, few bits, fewer tokens."""
from .lazy_imports import lazy_exports
from .version import __version__

__getattr__, __dir__, _ = lazy_exports(__name__,
                                       {'one_command.command': ['compress']})
__all__ = ['__version__', 'compress']  # noqa: F822
