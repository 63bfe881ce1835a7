"""Which values are inside the range of LSQ, to the last bit."""
import math

import pytest
import torch

from mmcompress.ops import lsq_fake_quantize


def gradients(u, dtype, mask='clip', zero_point=None, **limits):
    """By a value and by the scale, which is 1."""
    x = torch.tensor([u], dtype=dtype, requires_grad=True)
    scale = torch.ones(1, dtype=dtype, requires_grad=True)
    if zero_point is not None:
        zero_point = torch.tensor([zero_point], dtype=dtype)
    lsq_fake_quantize(
        x, scale, zero_point=zero_point, mask=mask, **limits).sum().backward()
    return x.grad.item(), scale.grad.item()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('low, high', [(-2, 1), (-8, 7), (0, 3), (0, 255)])
def test_the_ends_are_inside_and_the_next_numbers_are_not(low, high, dtype):
    for end, away in ((low, -math.inf), (high, math.inf)):
        at = torch.tensor(float(end), dtype=dtype)
        beyond = at.nextafter(torch.tensor(away, dtype=dtype))
        if end == 0:
            # those that are not normal count as 0
            beyond = torch.tensor(-torch.finfo(dtype).tiny, dtype=dtype)
        limits = dict(low=low, high=high)
        assert gradients(at.item(), dtype, **limits) == (1, 0)
        assert gradients(beyond.item(), dtype, **limits) == (0, end)
        assert gradients(away, dtype, **limits) == (0, end)


def test_rounded_asks_for_the_code():
    limits = dict(low=-2, high=1, mask='rounded')
    assert gradients(1.25, torch.float64, **limits) == (1, -0.25)
    assert gradients(1.75, torch.float64, **limits) == (0, 1)


@pytest.mark.parametrize('mask', ['clip', 'rounded'])
def test_a_zero_point_moves_the_range(mask):
    limits = dict(low=0, high=3, mask=mask, zero_point=2.)
    assert gradients(-2., torch.float64, **limits) == (1, 0)
    assert gradients(-3., torch.float64, **limits) == (0, -2)
    assert gradients(1., torch.float64, **limits) == (1, 0)
    assert gradients(2., torch.float64, **limits) == (0, 1)
