import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.binary import BiRealConv2d, bireal_weight


@golden('bireal')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_the_gradient_passes_up_to_one_and_ignores_the_scale():
    weight = torch.tensor([-1.5, -1, -0.5, 0, 1, 1.5]).view(1, 6, 1, 1)
    weight.requires_grad_()
    y = bireal_weight(weight)
    mean = 5.5 / 6
    expected = [-mean, -mean, -mean, -mean, mean, mean]
    torch.testing.assert_close(y.flatten().tolist(), expected)
    y.backward(torch.arange(1.0, 7).view_as(y))
    assert weight.grad.flatten().tolist() == [0, 2, 3, 4, 5, 0]


def test_the_mean_is_that_of_the_channel():
    conv = BiRealConv2d(2, 3, 3)
    conv.weight.data = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, 3, 3)
    assert conv.weight_scale().tolist() == [0, 1, 2]
    assert conv.inference_rule().scale.tolist() == [0, 1, 2]


def test_the_official_initialisation_is_a_line_of_config():
    from mmengine.model import BaseModule, Sequential
    net = Sequential(
        BiRealConv2d(4, 6, 3),
        init_cfg=dict(type='Uniform', layer='BiRealConv2d', b=0.001))
    assert isinstance(net, BaseModule)
    net.init_weights()
    assert 0 <= net[0].weight.min() < net[0].weight.max() < 0.001
