"""What OpenMMLab needs on current torch; importing this package applies it.

- ``import torchvision`` works beside a CPU torch
  (:mod:`mmcompress.torchvision_repair`).
- Checkpoints load under torch's restricted unpickler (:mod:`.checkpoints`).
- ``mmcompress::folder/config.py`` can be the base of a config, and
  ``mmseg::`` where another distribution brings that module.
- mmcv without its operators gets ours, where they are chosen
  (:mod:`mmcompress.light_ops.hook`).
- :func:`init_cpu_distributed` makes ``torchrun`` work without CUDA.

Our configs name this package in ``custom_imports``, which is read before
anything is built. It imports no mm library but mmengine.
"""
from mmengine.config.utils import MODULE2PACKAGE

from mmcompress.light_ops.hook import install as offer_light_ops
from mmcompress.torchvision_repair import install_import_hook
from .checkpoints import STAND_INS, restrict_checkpoint_loaders, restricted
from .distributed import close_process_group, init_cpu_distributed
from .packages import find_renamed_packages

__all__ = [
    'STAND_INS', 'close_process_group', 'find_renamed_packages',
    'init_cpu_distributed', 'install_import_hook',
    'restrict_checkpoint_loaders', 'restricted'
]

install_import_hook()
offer_light_ops()
restrict_checkpoint_loaders()
MODULE2PACKAGE.setdefault('mmcompress', 'mmcompress')
find_renamed_packages()
