from .folding import fold_affine, fold_threshold

__all__ = ['fold_affine', 'fold_threshold']
