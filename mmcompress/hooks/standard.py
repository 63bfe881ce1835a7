"""The hooks that belong to every training with a model of ours."""
import logging

import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, print_log
from mmengine.runner import Runner

from mmcompress.registry import HOOKS

# as in configs/_base_/hooks.py
STANDARD = ('InformTeacherHook', 'PlainCheckpointHook', 'ExactResumeHook',
            'NonFiniteLossHook', 'CheckDataHook')
LINE = "default_hooks = dict(mmcompress=dict(type='mmcompress.StandardHooks'))"


@HOOKS.register_module()
class StandardHooks(Hook):
    """Registers our standard hooks at the beginning of a run.

    One line adds them to any config, whatever hooks its bases define::

        default_hooks = dict(mmcompress=dict(type='mmcompress.StandardHooks'))

    They are :class:`InformTeacherHook`, :class:`PlainCheckpointHook`,
    :class:`ExactResumeHook`, :class:`NonFiniteLossHook` and
    :class:`CheckDataHook`, each with its own priority. One that the config
    itself has, with its own arguments, stays as it is.
    """

    # what is registered comes behind this hook, and is called in turn
    priority = 'HIGHEST'

    def before_run(self, runner: Runner) -> None:
        """Called before anything is initialised or loaded."""
        for name in STANDARD:
            kind = HOOKS.get(name)
            if not any(isinstance(hook, kind) for hook in runner.hooks):
                runner.register_hook(kind())


def without_standard_hooks(cfg_text: str) -> bool:
    """Whether a config names neither the standard hooks nor all of them.

    Args:
        cfg_text (str): The whole config.
    """
    # its former name
    cfg_text = cfg_text.replace('.DistillHook', '.InformTeacherHook')
    return 'mmcompress.StandardHooks' not in cfg_text and not all(
        f'mmcompress.{name}' in cfg_text for name in STANDARD)


def remind_of_hooks(model: nn.Module, args: tuple) -> None:
    """Forward pre-hook: say once in a training that our hooks are missing."""
    if not model.training:
        return
    for key, hook in list(model._forward_pre_hooks.items()):
        if hook is remind_of_hooks:
            del model._forward_pre_hooks[key]
    # mmengine keeps the running config there; elsewhere nobody trains
    text = MessageHub.get_current_instance().get_info('cfg')
    if text is not None and without_standard_hooks(text):
        print_log(
            f"This training lacks hooks of mmcompress ({', '.join(STANDARD)}):"
            ' checkpoints may not load everywhere, a resumed run may differ '
            'from an uninterrupted one, and losses that are not finite go on '
            f'unnoticed. Write into the config: {LINE}', 'current',
            logging.WARNING)
