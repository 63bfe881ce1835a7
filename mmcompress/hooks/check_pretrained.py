"""Check that a model starts from the weights that its config names."""
import re
from collections.abc import Sequence

import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmcompress.model.checkpoint import FirstLoad
from mmcompress.registry import HOOKS


def _checkpoint(module: nn.Module) -> str | None:
    """What a module is initialised from, if that is a checkpoint."""
    init_cfg = getattr(module, 'init_cfg', None) or []
    for cfg in [init_cfg] if isinstance(init_cfg, dict) else init_cfg:
        if cfg.get('type') == 'Pretrained':
            return cfg['checkpoint']
    return None


@HOOKS.register_module()
class CheckPretrainedHook(Hook):
    """Stops a training that doesn't start from the whole of a checkpoint.

    Where ``init_cfg=dict(type='Pretrained', ...)`` fits only partly, mmengine
    loads what fits and warns. With this hook, it is an error before the first
    step if a weight of such a module is missing in the checkpoint or has
    another shape there. What the checkpoint has in addition doesn't matter.

    Args:
        new (Sequence[str]): Regular expressions of names, as of
            :func:`re.search`, below the module with the ``init_cfg``, that
            the checkpoint needn't have. By default those of heads.

    Raises:
        RuntimeError: At the beginning of training.
    """

    def __init__(self, new: Sequence[str] = (r'^(\w+_)?head\.', )) -> None:
        self.new = list(new)
        self.loads: dict[str, FirstLoad] = {}

    def before_run(self, runner: Runner) -> None:
        """Called before the model is initialised."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        self.loads = {
            name: FirstLoad(module)
            for name, module in model.named_modules()
            if _checkpoint(module) is not None
        }

    def before_train(self, runner: Runner) -> None:
        """Called after the model was initialised."""
        for name, load in self.loads.items():
            load.stop()
            self._check(name or 'the model', load)

    def _check(self, name: str, load: FirstLoad) -> None:
        fit = load.fit.but()
        missing = [
            key for key in fit.missing
            if not any(re.search(pattern, key) for pattern in self.new)
        ]
        if not load.done:
            problem = 'nothing was loaded'
        elif missing or fit.mismatched:
            problem = (f'missing in it: {_listed(missing)}; of another shape: '
                       f'{_listed(fit.mismatched)}; not of this model: '
                       f'{_listed(fit.left_over)}')
        else:
            return
        raise RuntimeError(
            f'{name} ({type(load.module).__name__}) does not start from the '
            f'whole of {_checkpoint(load.module)}, which its init_cfg names: '
            f'{problem}. Correct `checkpoint` or `prefix` of the init_cfg, or '
            'let `new` of mmcompress.CheckPretrainedHook match what may be '
            'missing')


def _listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    names = [name.strip() for name in names]
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more if names else 'nothing'
