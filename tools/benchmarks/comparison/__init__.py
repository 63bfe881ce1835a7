"""Compare methods on the mini data: trainings, records, gains."""
from mmcompress.lazy_imports import lazy_exports

# what only reads records needs neither torch nor an mm library
__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {
        'gains': ['Gain', 'Summary', 'is_origin', 'summarize', 'verdict'],
        'records': ['Records'],
        'table': ['Entry', 'Table', 'Task'],
        'trainings': ['Training', 'TrainingFailed', 'ensure_trained']
    })
