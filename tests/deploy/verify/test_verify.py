"""Each way of being wrong is found, and the layer is named."""
import copy

import pytest
import torch
import torch.nn as nn
from deploy.networks import as_if_trained, build
from mmengine.model import BaseModel

from mmcompress.binary import IDaDetConv2d
from mmcompress.deploy.twins import fold_in_place, on_kernels
from mmcompress.deploy.verify import (VerificationError, compare_layouts,
                                      compare_twins, compare_with_trained,
                                      end_to_end_difference)
from mmcompress.deploy.verify.model import predict, same_bits


@pytest.fixture
def folded():
    model, x = build('react')
    twin, traces = fold_in_place(copy.deepcopy(model))
    return model, twin, traces, x


def layer_of(traces, name):
    return next(t.layer for t in traces if t.conv == name)


@pytest.mark.parametrize('buffer, word', [
    ('weight_bits', 'integers'),
    ('threshold', 'input bits'),
    ('scale', 'output'),
    ('shift', 'output'),
    ('pre', 'output'),
    ('slope', 'output'),
    ('post', 'output'),
])
def test_a_wrong_constant_is_found(folded, buffer, word):
    model, _, traces, x = folded
    layer = layer_of(traces, 'layer2.1.conv')
    value = getattr(layer, buffer)
    value += 1
    with pytest.raises(VerificationError, match=rf'layer2\.1\.conv.*{word}'):
        compare_with_trained(model, traces, [x])


@pytest.mark.parametrize('part, is_wrong', [(1e-4, True), (2e-5, True),
                                            (1e-6, False)])
def test_how_wrong_an_output_may_be(part, is_wrong):
    torch.manual_seed(0)
    model = as_if_trained(
        nn.Sequential(IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8)))
    _, traces = fold_in_place(copy.deepcopy(model))
    x = torch.randn(1, 8, 6, 6)
    layer_of(traces, '0').shift += part * float(model(x).abs().max())
    if is_wrong:
        with pytest.raises(VerificationError, match='an output differs'):
            compare_with_trained(model, traces, [x])
    else:
        assert compare_with_trained(model, traces, [x])['0'].error < 1e-5


def test_a_channel_whose_scale_is_zero_has_no_integers_to_compare():
    model = nn.Sequential(IDaDetConv2d(8, 8, 3)).eval()
    model[0].scale.data[0] = 0
    _, traces = fold_in_place(copy.deepcopy(model))
    checks = compare_with_trained(model, traces, [torch.randn(1, 8, 6, 6)])
    assert checks['0'].runs == 1


@pytest.mark.parametrize('part, is_wrong', [(1e-3, True), (3e-5, True),
                                            (3e-6, False)])
def test_how_far_from_the_threshold_a_bit_may_differ(part, is_wrong):
    model = nn.Sequential(IDaDetConv2d(1, 8, 1)).eval()
    _, traces = fold_in_place(copy.deepcopy(model))
    # the largest input is 1
    x = torch.tensor([-1.0, part, 1.0]).view(1, 1, 1, 3)
    layer_of(traces, '0').threshold += 2 * part
    if is_wrong:
        with pytest.raises(VerificationError, match='1 of 3 input bits'):
            compare_with_trained(model, traces, [x])
    else:
        assert compare_with_trained(model, traces, [x])['0'].ties == 1


def test_a_wrong_limit_is_found():
    model, x = build('xnor')
    _, traces = fold_in_place(copy.deepcopy(model))
    layer_of(traces, 'layer3.0.conv1').limit += 8
    with pytest.raises(
            VerificationError, match=r'layer3\.0\.conv2.*input bits'):
        compare_with_trained(model, traces, [x])


def test_zeros_that_training_kept_are_found():
    torch.manual_seed(0)
    model = as_if_trained(
        nn.Sequential(nn.ReLU(), IDaDetConv2d(8, 8, 3, zero_as='zero')))
    _, traces = fold_in_place(copy.deepcopy(model))
    with pytest.raises(VerificationError, match="1: .*zero_as='zero'"):
        compare_with_trained(model, traces, [torch.randn(1, 8, 6, 6)])


def test_not_a_number_is_found(folded):
    model, _, traces, x = folded
    layer_of(traces, 'layer1.0.conv').shift[0] = torch.nan
    with pytest.raises(VerificationError, match=r'layer1\.0\.conv'):
        compare_with_trained(model, traces, [x])


@pytest.mark.parametrize('num', [0, 1])
def test_outputs_that_are_all_zero_or_none_at_all_are_right(num):
    torch.manual_seed(0)
    model = nn.Sequential(IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    model[1].bias.data.fill_(-1e6)
    twin, traces = fold_in_place(copy.deepcopy(model.eval()))
    x = torch.randn(num, 8, 6, 6)
    assert not model(x).any()
    assert compare_with_trained(model, traces, [x])['0'].error == 0
    compare_twins(twin, on_kernels(twin), [x])


def test_twins_that_differ_in_the_last_place_are_found(folded):
    _, twin, _, x = folded
    packed = on_kernels(twin)
    compare_twins(twin, packed, [x])
    shift = packed.layers[2].chain.last.shift
    shift[0] = torch.nextafter(shift[0], torch.tensor(torch.inf))
    with pytest.raises(VerificationError, match=r'layers\.2'):
        compare_twins(twin, packed, [x])


def test_a_prediction_too_many_is_found(folded):
    _, twin, _, x = folded
    packed = on_kernels(twin)
    packed.register_forward_hook(lambda module, args, out: (*out, out[0]))
    with pytest.raises(VerificationError, match='^predictions'):
        compare_twins(twin, packed, [x])


def test_equal_means_every_bit():
    zero = torch.zeros(2)
    assert same_bits(zero, zero.clone())
    assert not same_bits(zero, -zero)
    assert same_bits(zero + torch.nan, zero + torch.nan)
    assert not same_bits(zero, zero.double())
    assert not same_bits(zero, zero.int())
    # one column of several counts as contiguous
    column = torch.randn(3, 5)[:1, :1]
    assert same_bits(column, column.clone())
    assert same_bits(torch.tensor(1.0), torch.tensor(1.0))
    assert not same_bits(torch.tensor(0.0), torch.tensor(-0.0))


def test_the_end_to_end_difference_is_by_part():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), as_if_trained(nn.Sequential(
            IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8))))  # yapf: disable
    twin, _ = fold_in_place(copy.deepcopy(model))
    found = end_to_end_difference(model, twin, [torch.randn(1, 3, 9, 9)])
    assert found.keys() == {'0', '1', 'predictions'}
    assert found['0'] == 0
    assert 0 < found['1'] < 1e-5


def test_the_end_to_end_difference_is_a_share_of_the_outputs():
    model = nn.Sequential(nn.Linear(3, 4))
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter *= 1.25
    found = end_to_end_difference(model, other, [torch.rand(5, 3)] * 2)
    assert found == pytest.approx({'0': 0.25, 'predictions': 0.25})


class IgnoresStrides(nn.Module):
    """As a kernel that takes memory as it comes."""

    def forward(self, x):
        return x.as_strided(x.shape, torch.empty(x.shape).stride()) * 1


def test_a_layer_that_ignores_strides_is_found():
    torch.manual_seed(0)
    model = nn.Sequential(IDaDetConv2d(8, 8, 3), IgnoresStrides())
    twin, _ = fold_in_place(model)
    with pytest.raises(VerificationError, match='1: IgnoresStrides ignores'):
        compare_layouts(twin, [torch.randn(1, 8, 6, 6)])


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_copes_with_the_layout(mode):
    """Ours, or mmcv's kernel with the layout that it reads."""
    from mmcv.ops import RoIAlign
    torch.manual_seed(0)

    class Pooled(nn.Module):

        def __init__(self):
            super().__init__()
            self.conv = IDaDetConv2d(8, 8, 3)
            self.pool = RoIAlign(2, sampling_ratio=1, pool_mode=mode)

        def forward(self, x):
            boxes = x.new_tensor([[0, 1, 1, 5, 4]])
            return self.pool(self.conv(x), boxes)

    model = Pooled().eval()
    x = torch.randn(1, 8, 9, 9)
    expected = model(x)
    twin, _ = fold_in_place(copy.deepcopy(model))
    compare_layouts(twin, [x])
    for copied in (twin, copy.deepcopy(twin)):
        assert torch.allclose(copied(x), expected, atol=1e-5)


def test_of_retrieval_the_features_are_compared():
    """Its predictions need more than a batch, as in mmpretrain's loops."""

    class Retrieval(BaseModel):

        def forward(self, inputs, data_samples=None, mode='predict'):
            assert mode == 'tensor'
            return dict(image_feat=inputs.square())

        def predict_all(self):
            raise NotImplementedError

    found = predict(Retrieval(), dict(inputs=torch.arange(3.)))
    assert torch.equal(found[0], torch.tensor([0., 1., 4.]))
