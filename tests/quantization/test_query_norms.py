import pytest
import torch
import torch.nn as nn

from mmcompress.quantization import IRM, DistributionAlignment

NORMS = pytest.mark.parametrize('norm', [IRM, DistributionAlignment])


def queries(dims=4):
    return torch.randn(
        2, 3, 5, dims, generator=torch.Generator().manual_seed(0))


@NORMS
def test_ignores_scale_and_shift_of_a_token(norm):
    x = queries() * 100
    torch.testing.assert_close(
        norm(4)(3 * x + 50), norm(4)(x), rtol=1e-4, atol=1e-4)


def test_distribution_alignment_has_an_unbiased_deviation_of_its_scale():
    norm = DistributionAlignment(4, eps=0)
    nn.init.constant_(norm.scale, -3)
    nn.init.constant_(norm.bias, 2)
    y = norm(queries())
    torch.testing.assert_close(y.std(-1), torch.full((2, 3, 5), 3.))
    torch.testing.assert_close(y.mean(-1), torch.full((2, 3, 5), 2.))


def test_distribution_alignment_of_one_channel_is_its_bias():
    x = queries(1).requires_grad_()
    y = DistributionAlignment(1)(x)
    y.sum().backward()
    assert not y.any() and x.grad.isfinite().all()


@NORMS
def test_computes_in_float32_under_autocast(norm):
    x = queries().bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        y = norm(4)(x)
    torch.testing.assert_close(y, norm(4)(x.float()), rtol=0, atol=0)


@NORMS
def test_parameters_have_one_dimension_and_survive_a_float_checkpoint(norm):
    module = norm(4)
    assert all(p.dim() == 1 for p in module.parameters())
    module.load_state_dict({})
