"""Keep a trained teacher for later trainings."""
import os
from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu

from mmcompress.cache import cached_teacher
from mmcompress.registry import HOOKS


@HOOKS.register_module()
class CacheTeacherHook(Hook):
    """Writes the weights at the end of training to the cache folder.

    Students find them as ``teacher=dict(checkpoint='cache://name')``.

    Args:
        name (str): Name in the cache, usually that of the config.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Called once, after the last step."""
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        path = Path(cached_teacher(self.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        # moved into place at the end: another process may be reading
        part = path.with_suffix(f'.{os.getpid()}')
        metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', {})
        names = {k: metainfo[k] for k in ('classes', 'palette')
                 if k in metainfo}  # yapf: disable
        torch.save(
            dict(
                state_dict=weights_to_cpu(model.state_dict()),
                meta=dict(dataset_meta=names)), part)
        part.replace(path)
        runner.logger.info(f'The teacher is kept as {path}')
