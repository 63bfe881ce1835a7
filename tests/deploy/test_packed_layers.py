import copy
import pickle

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from deploy.networks import as_if_trained, build

from mmcompress import ops
from mmcompress.binary import IDaDetConv2d
from mmcompress.deploy import PackedLayer, pack, set_twin
from mmcompress.deploy.verify.model import predict, same_bits


def block_layer(**kwargs):
    """A packed layer with everything folded in, and the trained modules."""
    torch.manual_seed(0)
    model = as_if_trained(
        nn.Sequential(
            IDaDetConv2d(20, 12, 3, **kwargs), nn.BatchNorm2d(12),
            nn.PReLU(12)))
    _, packed = pack(model)
    return packed[0], model


@pytest.mark.parametrize('kwargs', [{},
                                    dict(padding=(2, 1), stride=(1, 2)),
                                    dict(dilation=2, padding=2, groups=2)])
def test_definition(kwargs):
    """In plain PyTorch, written out."""
    layer, model = block_layer(**kwargs)
    conv = model[0]
    x = torch.randn(2, 20, 9, 11)
    residual = torch.randn_like(model(x))
    signs = torch.where(x > 0, 1.0, -1.0)
    weight = torch.where(conv.weight > 0, 1.0, -1.0)
    k = F.conv2d(signs, weight, None, conv.stride, conv.padding,
                 conv.dilation, conv.groups)  # yapf: disable
    y = k * layer.scale.view(-1, 1, 1)
    y = y + layer.shift.view(-1, 1, 1)
    y = y + residual
    y = torch.where(y > 0, y, y * layer.slope.view(-1, 1, 1))
    assert same_bits(layer(x, residual), y)
    assert same_bits(layer(layer.pack(x), residual), y)


def test_the_next_layers_bits_come_along():
    layer, _ = block_layer()
    following, _ = block_layer()
    following.threshold.normal_()
    # as many channels as the first one's outputs
    following.threshold = following.threshold[:12].contiguous()
    x = torch.randn(1, 20, 8, 8)
    y, bits = layer(x, None, following)
    assert same_bits(y, layer(x))
    assert bits.equal(ops.binary_pack(y, following.threshold))
    assert layer.only_bits(x, following).equal(bits)


def test_a_state_dict_has_one_bit_per_weight():
    layer, _ = block_layer()
    state = layer.state_dict()
    assert state['weight_bits'].numel() == 20 * 12 * 9 // 8
    layer(torch.randn(1, 20, 8, 8))
    # what the kernels arrange for themselves isn't in it
    assert state.keys() == layer.state_dict().keys()


def test_weights_loaded_later_count():
    layer, _ = block_layer()
    x = torch.randn(1, 20, 8, 8)
    before = layer(x)
    state = layer.state_dict()
    state['weight_bits'] = ~state['weight_bits']
    layer.load_state_dict(state)
    assert not torch.equal(layer(x), before)


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same(copied):
    model, x = build('xnor')
    _, packed = pack(model)
    expected = predict(packed, x)
    again = copied(packed)
    assert not any('_blobs' in key for key in again.state_dict())
    # before a graph is traced
    assert all(m._blobs for m in again.modules() if isinstance(m, PackedLayer))
    assert all(map(same_bits, predict(again, x), expected))


def test_copies_of_what_never_ran_wait():
    folded, _ = pack(build('xnor')[0])
    again = copy.deepcopy(folded)
    assert not any(m._blobs for m in again.modules()
                   if isinstance(m, PackedLayer))  # yapf: disable


def test_train_mode_is_refused():
    layer, _ = block_layer()
    with pytest.raises(RuntimeError, match='inference only'):
        layer.train()(torch.randn(1, 20, 8, 8))


def test_gradients_are_refused():
    layer, _ = block_layer()
    x = torch.randn(1, 20, 8, 8, requires_grad=True)
    with pytest.raises(RuntimeError, match='no gradient'):
        layer(x)
    with torch.no_grad():
        layer(x)


def test_a_packed_model_runs_without_no_grad():
    model, x = build('bireal')
    _, packed = pack(model)
    assert not any(y.requires_grad for y in packed(x))


def test_half_precision_keeps_the_constants():
    """Packed layers compute in float32 and give back what they get."""
    layer, _ = block_layer()
    x = torch.randn(1, 20, 8, 8).half()
    expected = layer(x.float())
    layer.half()
    assert layer.scale.dtype == torch.float32
    y = layer(x)
    assert y.dtype == torch.float16
    assert same_bits(y, expected.half())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_model_runs_in_half_precision(dtype):
    model, x = build('react')
    _, packed = pack(model)
    packed.to(dtype)
    for y in predict(packed, x.to(dtype)):
        assert y.dtype == dtype
        assert y.isfinite().all()


def test_autocast_does_not_touch_the_integers():
    layer, _ = block_layer()
    x = torch.randn(1, 20, 8, 8)
    expected = layer(x)
    with torch.autocast('cpu', torch.bfloat16):
        assert same_bits(layer(x), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_another_device_computes_the_same_integers():
    layer, _ = block_layer()
    bits = layer.pack(torch.randn(1, 20, 8, 8))
    k = layer.count(bits)
    assert layer.cuda().count(bits.cuda()).cpu().equal(k)


def test_a_twin_must_be_known():
    layer, _ = block_layer()
    with pytest.raises(ValueError, match="'packed' or 'folded'"):
        set_twin(layer, 'fast')
