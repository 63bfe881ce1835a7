"""Run a function of ``mmcv.ops`` on the compiled operators and on ours."""
import importlib

import pytest
import torch

from mmcompress.light_ops import ext
from mmcompress.light_ops.hook import in_use

needs_compiled = pytest.mark.skipif(
    in_use(), reason='needs the compiled mmcv to compare with')


def on_both(module, run):
    """Results of ``run`` on both.

    Args:
        module (str): Of mmcv.ops, whose operators are exchanged.
        run (Callable): Called without arguments; draws nothing at random.

    Returns:
        tuple: What it returns on the compiled operators, and on ours.
    """
    module = importlib.import_module(f'mmcv.ops.{module}')
    compiled = run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'ext_module', ext)
        return compiled, run()


def with_grads(function, *tensors):
    """Output and gradients for a fixed random gradient of the output."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    output = function(*leaves)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(output.shape, generator=generator).to(output)
    return output.detach(), *torch.autograd.grad(output, leaves, grad)


def assert_close(compiled, ours, **tolerance):
    """Equal up to the order in which sums are taken."""
    for expected, actual in zip(compiled, ours, strict=True):
        scale = float(expected.abs().max()) if expected.numel() else 0.0
        eps = torch.finfo(expected.dtype).eps
        torch.testing.assert_close(
            actual,
            expected,
            rtol=0,
            atol=tolerance.get('ulps', 16) * eps * scale)
