from mmcompress.lowbit import folds
from . import libraries  # noqa: F401  registers its rules
from .constants import fold_affine, fold_threshold
from .folding import Folding
from .links import Trace, read_links

__all__ = [
    'Folding', 'Trace', 'fold_affine', 'fold_threshold', 'folds', 'read_links'
]
