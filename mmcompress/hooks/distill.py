"""What a distiller needs to know from the runner."""
import os.path as osp

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmcompress.registry import HOOKS


@HOOKS.register_module()
class DistillHook(Hook):
    """Tells the teacher in which folder the training's config lies.

    Relative paths in ``teacher.cfg`` and ``teacher.checkpoint`` start there.
    Without this hook they start at the current directory. Models without a
    distiller are left alone.
    """

    def before_run(self, runner: Runner) -> None:
        """Called before the weights are initialised and the teacher built."""
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        distiller = getattr(model, 'distill', None)
        filename = getattr(runner.cfg, 'filename', None)
        if distiller is not None and distiller.teacher and filename:
            distiller.teacher.config_dir = osp.dirname(osp.abspath(filename))
