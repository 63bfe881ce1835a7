import pytest
import torch
import torch.nn as nn
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.binary import BiRealConv2d, ReActConv2d, RPReLU
from mmcompress.binary.backbones.bi_resnet import BiBlock


@golden('react')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def convs(**kwargs):
    """The convolution, and Bi-Real's with the same weight."""
    torch.manual_seed(0)
    react = ReActConv2d(4, 6, 3, padding=1, **kwargs)
    bireal = BiRealConv2d(4, 6, 3, padding=1)
    react.load_state_dict(bireal.state_dict())
    return react, bireal


@pytest.mark.parametrize('shift', [True, False])
def test_starts_as_bireals(shift):
    react, bireal = convs(shift=shift)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(react(x), bireal(x))


def test_the_shift_is_added_to_the_input_before_the_padding():
    react, bireal = convs()
    react.move0.bias.data.normal_()
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(react(x), bireal(x + react.move0.bias))


def test_the_threshold_is_minus_the_shift_exactly():
    react, _ = convs()
    react.move0.bias.data.uniform_(-1, 1)
    threshold = react.inference_rule().threshold.view(1, 4, 1, 1)
    # the threshold itself and its neighbours
    for x in (threshold, threshold.nextafter(threshold + 1),
              threshold.nextafter(threshold - 1)):
        assert torch.equal(react.binarize_input(x) > 0, x > threshold)


def test_names_are_those_of_the_official_blocks():
    assert set(convs()[0].state_dict()) == {'weight', 'bias', 'move0.bias'}
    assert list(RPReLU(3).state_dict()) == [
        'move1.bias', 'prelu.weight', 'move2.bias'
    ]
    assert 'move0.bias' not in convs(shift=False)[0].state_dict()


def test_a_block_has_one_shift_in_front_of_the_sign():
    block = BiBlock(4, 4, 1, dict(type='mmcompress.ReActConv2d'),
                    dict(type='BN'))
    shifts = [key for key in block.state_dict() if 'move0' in key]
    assert shifts == ['move0.bias']


def test_rprelu_is_a_prelu_between_two_shifts():
    torch.manual_seed(0)
    rprelu = RPReLU(3)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(rprelu(x), nn.functional.leaky_relu(x, 0.25))
    for parameter in rprelu.parameters():
        parameter.data.normal_()
    u = x + rprelu.move1.bias
    slope = rprelu.prelu.weight.view(-1, 1, 1)
    expected = torch.where(u > 0, u, slope * u) + rprelu.move2.bias
    torch.testing.assert_close(rprelu(x), expected)
