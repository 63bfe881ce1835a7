"""Child registries of mmengine's, under the scope ``mmcompress``.

Nothing is imported before its name is looked up, and then only the module
that has it (see :mod:`mmcompress.scoped_registry`).
"""
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import \
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS

from .scoped_registry import ScopedRegistry, add_to_roots

MODELS = ScopedRegistry('MODELS', 'model', MMENGINE_MODELS)
HOOKS = ScopedRegistry('HOOKS', 'hook', MMENGINE_HOOKS)
DATASETS = ScopedRegistry('DATASETS', 'dataset', MMENGINE_DATASETS)
TRANSFORMS = ScopedRegistry('TRANSFORMS', 'transform', MMENGINE_TRANSFORMS)
OPTIM_WRAPPER_CONSTRUCTORS = ScopedRegistry(
    'OPTIM_WRAPPER_CONSTRUCTORS', 'optimizer wrapper constructor',
    MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS)
# callables that take a built model and change its layers in place
STEPS = ScopedRegistry('STEPS', 'step')
# callables that turn training progress into a factor
SCHEDULES = ScopedRegistry('SCHEDULES', 'schedule')

# nothing of ours is in the others, but bases `mmcompress::...` name them
add_to_roots('mmengine.registry')

__all__ = [
    'MODELS', 'HOOKS', 'DATASETS', 'TRANSFORMS', 'OPTIM_WRAPPER_CONSTRUCTORS',
    'STEPS', 'SCHEDULES'
]
