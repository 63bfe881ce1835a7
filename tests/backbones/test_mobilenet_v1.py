import pytest
import torch
import torch.nn as nn

import mmcompress.compat  # noqa: F401
from mmcompress.registry import MODELS


def build(**kwargs):
    torch.manual_seed(0)
    model = MODELS.build(dict(type='mmcompress.MobileNetV1', **kwargs))
    model.init_weights()
    return model


def test_has_the_published_number_of_parameters():
    # 4.2 million in the paper, with a classifier of 1000 classes
    num = sum(p.numel() for p in build().parameters())
    assert num + 1024 * 1000 + 1000 == 4_231_976


def test_stages_have_the_published_shapes():
    outs = build(out_indices=range(5))(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape) for x in outs] == [
        (2, 64, 32, 48), (2, 128, 16, 24), (2, 256, 8, 12), (2, 512, 4, 6),
        (2, 1024, 2, 3)
    ]  # yapf: disable


def test_returns_the_last_stage_by_default():
    x = torch.randn(1, 3, 32, 32)
    model = build().eval()
    (out, ) = model(x)
    outs = build(out_indices=(3, 4)).eval()(x)
    assert outs[0].shape == (1, 512, 2, 2)
    assert out.equal(outs[1])


def test_widen_factor_scales_every_layer():
    narrow = [p.shape for p in build(widen_factor=0.25).parameters()]
    wide = [p.shape for p in build().parameters()]
    assert [4 * shape[0] for shape in narrow] == [shape[0] for shape in wide]


def test_consists_of_13_depthwise_and_14_other_convolutions():
    convs = [m for m in build().modules() if isinstance(m, nn.Conv2d)]
    depthwise = [c for c in convs if c.groups > 1]
    assert (len(depthwise), len(convs)) == (13, 27)
    assert all(c.groups == c.in_channels for c in depthwise)
    # stride 2 in the first convolution, then where the channels double
    strided = [c.in_channels for c in convs if c.stride == (2, 2)]
    assert strided == [3, 64, 128, 256, 512]
    assert all(c.bias is None for c in convs)
    assert sum(isinstance(m, nn.ReLU) for m in build().modules()) == 27


def test_initialisation_keeps_the_size_of_what_passes():
    x = torch.randn(4, 3, 96, 96)
    (out, ) = build()(x)
    assert 0.3 < out.square().mean() < 3
    # Kaiming's: the variance of a 1x1 convolution is 2 / its outputs
    weight = build().layer5[1].pointwise_conv.conv.weight
    assert weight.var().item() == pytest.approx(2 / 1024, rel=0.02)


def test_refuses_stages_that_do_not_exist():
    with pytest.raises(ValueError, match=r'stages 0 to 4, got \(3, 5\)'):
        build(out_indices=(3, 5))
