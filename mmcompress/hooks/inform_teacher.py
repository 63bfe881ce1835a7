"""What a teacher needs to know from the runner."""
import os.path as osp

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmcompress.distill.distiller import distiller_of
from mmcompress.model.data import training_data
from mmcompress.registry import HOOKS


# configs from before name it DistillHook
@HOOKS.register_module(name=['InformTeacherHook', 'DistillHook'])
class InformTeacherHook(Hook):
    """Tells the teacher where the training's config lies, and of its data.

    Relative paths in ``teacher.cfg`` and ``teacher.checkpoint`` start in that
    folder; without this hook they start at the current directory. The data
    says in which order images have their channels, and which classes there
    are. Models without a distiller are left alone.
    """

    def before_run(self, runner: Runner) -> None:
        """Called before the weights are initialised and the teacher built."""
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        distiller = distiller_of(model)
        filename = getattr(runner.cfg, 'filename', None)
        teacher = distiller and distiller.teacher
        if not teacher:
            return
        if filename:
            teacher.config_dir = osp.dirname(osp.abspath(filename))
        # built by now, unless the run is only a test
        loader = getattr(
            getattr(runner, '_train_loop', None), 'dataloader', None)
        metainfo = getattr(getattr(loader, 'dataset', None), 'metainfo', None)
        teacher.student_data = training_data(runner.cfg, metainfo)
