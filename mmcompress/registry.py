"""Child registries of mmengine's, under the scope ``mmcompress``."""
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import \
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

# modules whose import registers everything; imported on the first lookup
_LOCATIONS = [
    'mmcompress.distill', 'mmcompress.binary', 'mmcompress.compress',
    'mmcompress.hooks', 'mmcompress.datasets', 'mmcompress.deploy',
    'mmcompress.backbones'
]

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmcompress', locations=_LOCATIONS)
HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='mmcompress', locations=_LOCATIONS)
DATASETS = Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope='mmcompress',
    locations=_LOCATIONS)
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmcompress',
    locations=_LOCATIONS)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmcompress',
    locations=_LOCATIONS)
# callables that take a built model and change its layers in place
STEPS = Registry('step', scope='mmcompress', locations=_LOCATIONS)
# callables that turn training progress into a factor
SCHEDULES = Registry('schedule', scope='mmcompress', locations=_LOCATIONS)

__all__ = [
    'MODELS', 'HOOKS', 'DATASETS', 'TRANSFORMS', 'OPTIM_WRAPPER_CONSTRUCTORS',
    'STEPS', 'SCHEDULES'
]
