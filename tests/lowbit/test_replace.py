"""Which layers a step replaces, which it refuses, and what it says of it."""
import copy
import pickle

import pytest
import torch
import torch.nn as nn
from lowbit.toy_layers import ToyBinaryConv2d, W4A8Linear
from mmcv.cnn import ConvModule, fuse_conv_bn
from mmcv.cnn.bricks import wrappers
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from torch.nn.utils.parametrizations import weight_norm

from mmcompress.binary import BiRealConv2d, IDaDetConv2d, XNORLinear
from mmcompress.builder import Compress
from mmcompress.lowbit import LowBitLayer, ReplaceConvs, ReplaceLayers
from mmcompress.lowbit.share import announce_share
from mmcompress.registry import MODELS

IDA_DET = dict(type='mmcompress.IDaDetConv2d')


def replace(model, layer_cfg=IDA_DET, include=('*', ), exclude=None):
    ReplaceLayers(layer_cfg, list(include), exclude)(model)
    return model


def test_the_old_name_and_its_key_replace_convolutions():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 2))
    ReplaceConvs(conv_cfg=IDA_DET, include=['*'])(model)
    assert [type(m) for m in model] == [IDaDetConv2d, nn.Linear]


def test_each_kind_of_layer_gets_its_own():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Linear(4, 2), nn.Conv1d(3, 4, 1))
    replace(model, [IDA_DET, dict(type='mmcompress.XNORLinear')])
    assert [type(m) for m in model] == [IDaDetConv2d, XNORLinear, nn.Conv1d]


def test_any_registered_layer_can_stand_in():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    replace(model, dict(type='ConvWS'))
    assert type(model[0]).__name__ == 'ConvWS2d'


def test_other_arguments_reach_the_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    replace(model, dict(IDA_DET, bin=0.5))
    assert model[0].bin == 0.5


def test_a_later_step_replaces_what_an_earlier_one_put_in():
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    weight = model[0].weight.clone()
    replace(replace(model), dict(type='mmcompress.BiRealConv2d'))
    assert type(model[0]) is BiRealConv2d
    assert model[0].weight.equal(weight)


def test_what_was_frozen_stays_frozen():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    model[0].requires_grad_(False).eval()
    replace(model)
    assert not any(p.requires_grad for p in model[0].parameters())
    assert not model[0].training and model[1].training
    assert all(p.requires_grad for p in model[1].parameters())


class Wider(nn.Conv2d):
    """A convolution that computes something else."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight, bias) * 2


def with_hook():
    conv = nn.Conv2d(3, 4, 1)
    conv.register_forward_hook(lambda *args: None)
    return conv


@pytest.mark.parametrize('make, reason', [
    (lambda: Conv2dAdaptivePadding(3, 4, 3), 'Conv2dAdaptivePadding has a '
     'forward of its own'),
    (lambda: Wider(3, 4, 1), 'Wider has a forward of its own'),
    (with_hook, 'it has hooks'),
    (lambda: weight_norm(nn.Conv2d(3, 4, 1)), 'parametrization'),
])  # yapf: disable
def test_what_computes_something_else_is_refused(make, reason):
    model = nn.ModuleDict(dict(a=nn.Conv2d(3, 4, 1), b=make()))
    with pytest.raises(
            ValueError, match=rf"b: .*{reason}(.|\n)*"
            r"exclude=\['b'\]"):
        replace(model)
    # nothing was changed
    assert type(model['a']) is nn.Conv2d
    replace(model, exclude=['b'])
    assert type(model['a']) is IDaDetConv2d


def test_what_is_selected_instead_is_named():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ConvTranspose2d(3, 3, 1))
    with pytest.raises(
            ValueError, match="'1' selects no Conv2d .*is ConvTranspose2d"):
        replace(model, include=['1'])


def test_attention_would_never_call_its_projection():
    model = nn.ModuleDict(dict(attn=nn.MultiheadAttention(8, 2)))
    with pytest.raises(ValueError, match=r'attn\.out_proj: .*never calls'):
        replace(model, dict(type='mmcompress.XNORLinear'))


def test_mmcvs_wrappers_compute_as_torch_does():
    model = nn.Sequential(wrappers.Conv2d(3, 4, 1))
    assert type(replace(model)[0]) is IDaDetConv2d


@pytest.mark.parametrize('kind', ['mmcompress.FGDLoss', 'mmcompress.Compress'])
def test_what_is_no_layer_is_refused(kind):
    with pytest.raises(TypeError, match='derives from none|no class'):
        replace(nn.Sequential(nn.Conv2d(3, 4, 1)), dict(type=kind))


# ---- How much of the model was converted -----------------------------------


class Net(nn.Module):
    """100 weights 1-bit, 900 not; on 16 positions and on one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(10, 10, 1, bias=False)
        self.fc = nn.Linear(10, 90, bias=False)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


MODELS.register_module(module=Net, name='ShareNet')


def compressed():
    return Compress(
        dict(type='mmcompress.ShareNet'),
        [dict(type='ReplaceLayers', layer_cfg=IDA_DET, include=['conv'])])


def test_a_small_share_of_the_weights_is_a_warning(logged):
    compressed()
    # the scales of the 1-bit layer count as its
    assert logged[-1] == ("WARNING: Only 11% of the model's weights are "
                          'low-bit. As they were: Linear 89%')


@pytest.mark.parametrize(
    'others, said',
    [
        (dict(), 'INFO: 100% of'),
        (dict(fc=nn.Linear(4, 4, bias=False)), 'INFO: 50% of'),
        (dict(fc=nn.Linear(4, 4)), 'WARNING: Only 44% of'),
        # which the trained model does without
        (dict(distill=nn.Linear(4, 400)), 'INFO: 100% of'),
    ])
def test_below_half_is_a_warning(others, said, logged):
    announce_share(
        nn.ModuleDict(dict(low=W4A8Linear(4, 4, bias=False), **others)))
    assert logged[-1].startswith(said)


def test_the_share_of_operations_is_counted_in_the_first_training_step(logged):
    model = compressed()
    copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    x = torch.randn(2, 10, 4, 4)
    model.eval()(x)
    assert 'operations' not in logged[-1]
    for net in (model, copied):
        net.train()
        logged.clear()
        for _ in range(2):
            net(x)
        # 16 * 100 of 16 * 100 + 900
        assert logged == [
            "INFO: 64% of the operations of the model's layers are low-bit"
        ]
        for module in net.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks


def test_layers_with_modules_of_their_own_count(logged):
    Compress(
        dict(type='mmcompress.ShareNet'), [
            dict(
                type='ReplaceLayers',
                layer_cfg=[
                    dict(type='mmcompress.ReActConv2d'),
                    dict(type='mmcompress.XNORLinear')
                ],
                include=['*'])
        ])
    assert logged[-1] == "INFO: 100% of the model's weights are low-bit"


# ---- Norms fused by others -------------------------------------------------


@pytest.mark.parametrize('layer', [
    IDA_DET,
    dict(type='mmcompress.XNORConv2d'),
    dict(type='mmcompress.ToyBinaryConv2d')
])
def test_mmcvs_fusion_of_norms_is_refused(layer):
    model = ConvModule(3, 4, 3, conv_cfg=layer, norm_cfg=dict(type='BN'))
    with pytest.raises(RuntimeError, match='pack.py folds norms exactly'):
        fuse_conv_bn(model.eval())
    with pytest.raises(RuntimeError, match='latent'):
        nn.utils.fuse_conv_bn_eval(model.conv, model.bn)


def test_the_same_parameter_may_be_set_again():
    conv = ToyBinaryConv2d(3, 4, 1)
    conv.weight = conv.weight
    assert isinstance(W4A8Linear(3, 4).to_float(), nn.Linear)
    assert isinstance(conv, LowBitLayer)
