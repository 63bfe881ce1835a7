"""Full-size models without memory: torch's meta device knows shapes only."""
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

# slow there, as torch decomposes them in Python; of the shape of their input
_SAME_SHAPE = {
    F.batch_norm, init.kaiming_uniform_, Tensor.uniform_, Tensor.normal_,
    Tensor.fill_, Tensor.zero_
}


class _ReadableNumbers(TorchFunctionMode):
    """Keeps what constructors read back, such as rates of drop path."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _SAME_SHAPE:
            tensor = args[0] if args else kwargs['tensor']
            if tensor.is_meta:
                return tensor
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
