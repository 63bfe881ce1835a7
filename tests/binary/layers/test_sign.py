import pytest
import torch

import mmcompress.compat  # noqa: F401
from mmcompress.binary import RSign, binary_sign
from mmcompress.binary.layers.sign import (bireal_sign, clipped_sign,
                                           mean_magnitude, straight_sign)

POINTS = [-1.5, -1, -0.5, 0, 0.5, 1, 1.5]


@pytest.mark.parametrize('sign, derivative', [
    (bireal_sign, [0, 0, 1, 2, 1, 0, 0]),
    (clipped_sign, [0, 0, 1, 1, 1, 0, 0]),
    (straight_sign, [1, 1, 1, 1, 1, 1, 1]),
])
@pytest.mark.parametrize('zero_as', ['neg', 'zero'])
def test_derivatives_are_those_of_the_table(sign, derivative, zero_as):
    x = torch.tensor(POINTS, requires_grad=True)
    y = sign(x, zero_as)
    y.sum().backward()
    assert x.grad.tolist() == derivative
    assert torch.equal(y, binary_sign(x, zero_as))


@pytest.mark.parametrize('sign', [bireal_sign, clipped_sign])
@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_derivatives_are_finite_in_half_precision(sign, dtype):
    x = torch.tensor([-6e4, -300, 0, 300, 6e4], dtype=dtype)
    x.requires_grad_()
    (100 * sign(x)).sum().backward()
    assert x.grad[[0, 1, 3, 4]].tolist() == [0, 0, 0, 0]
    assert x.grad[2] in (100, 200)


def test_zeros_become_minus_one_or_stay():
    x = torch.tensor([-2.0, -0.0, 0, 3])
    assert binary_sign(x).tolist() == [-1, -1, -1, 1]
    assert binary_sign(x, 'zero').tolist() == [-1, 0, 0, 1]


def test_not_a_number_is_negative():
    assert binary_sign(torch.tensor([float('nan')])).item() == -1


def test_rsign_compares_with_its_shift_and_learns_it():
    sign = RSign(2)
    sign.bias.data = torch.tensor([0.25, -1.0]).view(1, 2, 1, 1)
    x = torch.tensor([[-0.5, 0.5], [0.25, 0.75]]).view(2, 2, 1, 1)
    y = sign(x)
    assert y.flatten().tolist() == [-1, -1, 1, -1]
    (y * torch.tensor([[1.0, 10], [100, 1000]]).view_as(y)).sum().backward()
    # 2 - 2 * |x + shift|, summed over the images
    assert sign.bias.grad.flatten().tolist() == [1.5 + 100, 10 + 1500]


def test_mean_magnitude_is_that_of_each_output_channel():
    weight = torch.tensor([[1.0, -3], [0, 1]])
    assert mean_magnitude(weight).tolist() == [[2], [0.5]]
    assert mean_magnitude(weight[..., None, None]).shape == (2, 1, 1, 1)
