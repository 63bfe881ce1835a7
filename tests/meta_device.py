"""Full-size models without memory: torch's meta device knows shapes only."""
from contextlib import contextmanager

import torch
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
    with torch.device('meta'), _ReadableNumbers():
        yield
