"""Full-size models without memory: torch's meta device knows shapes only."""
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from mmengine.registry import MODELS, DefaultScope
from torch.overrides import TorchFunctionMode


class _ReadableNumbers(TorchFunctionMode):
    """Keeps what constructors read back, such as rates of drop path."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.linspace:
            kwargs['device'] = 'cpu'
        return func(*args, **kwargs)


@contextmanager
def on_meta():
    # which autocast doesn't know
    no_autocast = mock.patch('torch.autocast', lambda *_, **__: nullcontext())
    with torch.device('meta'), _ReadableNumbers(), no_autocast:
        yield


def build_on_meta(cfg):
    """The model of a config, as a Runner builds it."""
    model = cfg.model.copy()
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with on_meta(), DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(model)
