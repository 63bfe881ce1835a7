from mmcompress.lowbit import folds
from . import libraries, transformers  # noqa: F401  register rules
from .constants import fold_affine, fold_threshold
from .folding import Folding
from .links import Trace, read_links

__all__ = [
    'Folding', 'Trace', 'fold_affine', 'fold_threshold', 'folds', 'read_links'
]
