import pytest
import torch
import torch.nn as nn
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.binary import IDaDetConv2d, IDaDetFPN, IDaDetRPNHead


def rpn_head(**kwargs):
    cfg = dict(
        in_channels=6,
        feat_channels=8,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[8],
            ratios=[0.5, 1.0, 2.0],
            strides=[4, 8]))
    with DefaultScope.overwrite_default_scope('mmdet'):
        return IDaDetRPNHead(**dict(cfg, **kwargs))


def test_fpn_has_the_official_number_of_parameters():
    with torch.device('meta'):
        fpn = IDaDetFPN([64, 128, 256, 512], 256, 5)
    assert sum(p.numel() for p in fpn.parameters()) == 4_577_280
    binary = [m for m in fpn.modules() if isinstance(m, IDaDetConv2d)]
    assert len(binary) == 8
    assert sum(m.weight.numel() for m in binary) == 4_571_136


def test_fpn_names_are_the_official_ones():
    names = set(IDaDetFPN([4, 8], 6, 2).state_dict())
    expected = {f'prelu_{part}s.{i}.weight' for part in 'lf' for i in (0, 1)}
    for convs in ('lateral_convs', 'fpn_convs'):
        expected |= {
            f'{convs}.{i}.conv.{name}'
            for i in (0, 1)
            for name in ('weight', 'bias', 'scale')
        }
    assert names == expected


def test_fpn_fits_levels_of_odd_sizes():
    outs = IDaDetFPN([4, 8], 6, 4)((torch.randn(1, 4, 7,
                                                9), torch.randn(1, 8, 4, 5)))
    assert [tuple(out.shape[1:]) for out in outs] == [
        (6, 7, 9), (6, 4, 5), (6, 2, 3), (6, 1, 2)]  # yapf: disable


def test_fpn_takes_another_convolution():
    fpn = IDaDetFPN([4], 6, 1, conv_cfg=dict(type='Conv2d'))
    assert type(fpn.lateral_convs[0].conv) is nn.Conv2d


def test_fpn_gives_a_gradient_to_every_input_and_parameter():
    fpn = IDaDetFPN([4, 8], 6, 3)
    inputs = [
        torch.rand(1, 4, 8, 8, requires_grad=True),
        torch.rand(1, 8, 4, 4, requires_grad=True)
    ]
    sum(out.sum() for out in fpn(inputs)).backward()
    for tensor in (*inputs, *fpn.parameters()):
        assert tensor.grad.any()


def test_fpn_refuses_fewer_outputs_than_inputs():
    with pytest.raises(ValueError, match='num_outs=1'):
        IDaDetFPN([4, 8], 6, 1)


def test_rpn_head_is_binary_up_to_its_outputs():
    head = rpn_head()
    assert {n: type(m) for n, m in head.named_children()
            if n.startswith(('rpn', 'prelu'))} == dict(
        rpn_conv=IDaDetConv2d, rpn_cls=nn.Conv2d, rpn_reg=nn.Conv2d,
        prelu=nn.PReLU)  # yapf: disable


def test_rpn_head_scores_every_level():
    cls, reg = rpn_head()((torch.randn(2, 6, 7, 9), torch.randn(2, 6, 4, 5)))
    assert [x.shape for x in cls] == [(2, 3, 7, 9), (2, 3, 4, 5)]
    assert [x.shape for x in reg] == [(2, 12, 7, 9), (2, 12, 4, 5)]


def test_rpn_head_starts_as_mmdets_with_a_matching_scale():
    head = rpn_head(in_channels=64, feat_channels=64)
    head.init_weights()
    conv = head.rpn_conv
    assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not conv.bias.any()
    torch.testing.assert_close(0.02 * conv.scale.detach().flatten(),
                               conv.weight.detach().abs().mean((1, 2, 3)))


def test_rpn_head_uses_its_prelu():
    head = rpn_head()
    x = torch.randn(1, 6, 5, 5)
    before = head.forward_single(x)[0]
    head.prelu.weight.data.fill_(1)
    assert not torch.equal(head.forward_single(x)[0], before)


def test_rpn_head_refuses_several_convolutions():
    with pytest.raises(ValueError, match='num_convs=2'):
        rpn_head(num_convs=2)
