"""Run full-size configs: what there is, what they need, how they ended."""
from .catalogue import FullConfig, read_catalogue
from .papers import reported

__all__ = ['FullConfig', 'read_catalogue', 'reported']
