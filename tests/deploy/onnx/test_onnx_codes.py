import pytest
import torch
import torch.nn as nn

from mmcompress.deploy.onnx.codes import (Affine, NoForm, scales_of,
                                          weight_codes)
from mmcompress.deploy.onnx.operators import dequantize, quantize, translations
from mmcompress.deploy.onnx.session import Session
from mmcompress.quantization import (LSQ, PACT, DoReFaActivation, DoReFaWeight,
                                     Dynamic, TernaryWeight)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class _Each(nn.Module):
    """What each of some modules gives."""

    def __init__(self, modules):
        super().__init__()
        self.each = modules

    def forward(self, x):
        return tuple(module(x) for module in self.each)


@pytest.mark.parametrize('quantizer', [
    pytest.param(lambda: LSQ(8, 0, 4), id='lsq8'),
    pytest.param(lambda: LSQ(2, 0, 4), id='lsq2'),
    pytest.param(lambda: LSQ(4), id='one-scale'),
    pytest.param(lambda: TernaryWeight(2, 0, 4), id='ternary'),
    pytest.param(lambda: DoReFaWeight(1), id='dorefa1'),
    pytest.param(lambda: DoReFaWeight(4), id='dorefa4'),
    pytest.param(lambda: DoReFaWeight(7), id='dorefa7')
])
def test_codes_of_weights_are_the_weights(quantizer):
    quantizer = quantizer()
    weight = nn.Parameter(noise(4, 6))
    codes, scale = weight_codes(quantizer, weight, 0)
    assert codes.dtype == torch.int8 and scale.shape == (4, )
    torch.testing.assert_close(
        dequantize(codes, scale, 0),
        quantizer(weight).detach())


def test_a_channel_of_zeros_has_codes():
    weight = nn.Parameter(noise(4, 6))
    weight.data[1] = 0
    codes, scale = weight_codes(TernaryWeight(2, 0, 4), weight, 0)
    assert not codes[1].any() and scale.isfinite().all()


def test_weights_of_too_many_levels_have_none():
    with pytest.raises(NoForm, match="-255 to 2.., which 8 bits don't hold"):
        weight_codes(DoReFaWeight(8), nn.Parameter(noise(4, 6)), 0)


@pytest.mark.parametrize('bits', [8, 4])
@pytest.mark.parametrize('signed', [True, False])
def test_activations_are_equal_bit_for_bit(bits, signed):
    quantizer = LSQ(bits, signed=signed, offset='zero_point')
    quantizer.adopt(torch.tensor([0.07]), torch.tensor([2.]))
    scales = scales_of(quantizer)
    affine = Affine(scales.scale, scales.zero_point, scales.high)
    x = 3 * noise(1000)
    assert torch.equal(affine(x), quantizer.eval()(x))
    assert affine.zero_point == 2 + signed * 2**(bits - 1)


def test_other_methods_of_activations():
    assert scales_of(PACT(4)).high == 15
    assert scales_of(DoReFaActivation(2)).high == 3
    heads = LSQ(8, 1, 3, signed=True)
    heads.adopt(torch.ones(3), torch.zeros(3))
    assert scales_of(heads).axis == 1


def test_what_has_no_form_says_why():
    with pytest.raises(NoForm, match='LSQ has no uniform scale'):
        beta = LSQ(4, offset='beta')
        beta.adopt(torch.ones(1), torch.zeros(1))
        scales_of(beta)
    with pytest.raises(NoForm, match='Dynamic has no uniform scale'):
        scales_of(Dynamic(8))
    with pytest.raises(NoForm, match='300 above its least code'):
        far = LSQ(8, signed=False, offset='zero_point')
        far.adopt(torch.ones(1), torch.tensor([300.]))
        scales_of(far)


@pytest.mark.slow
def test_the_operators_are_sound():
    torch.library.opcheck(quantize, (noise(
        2, 3), torch.tensor(.1), torch.tensor(7, dtype=torch.uint8), 15))
    torch.library.opcheck(
        dequantize,
        (torch.ones(2, 3, dtype=torch.int8), torch.tensor([1., 2.]), 0))


@pytest.mark.slow
@torch.no_grad()
def test_quantizers_without_integers_are_written_as_they_are():
    pytest.importorskip('onnxruntime')
    quantizers = nn.Sequential(
        LSQ(4, offset='beta'), LSQ(4, -3, 3, offset='zero_point'),
        LSQ(3, 1, 3))  # yapf: disable
    x = noise(1, 3, 6, 6)
    for quantizer in quantizers:
        quantizer.initialize(x)
    quantizers[0].beta.sub_(0.3)
    quantizers[1].zero_point.fill_(-300)
    model = _Each(quantizers).eval().requires_grad_(False)
    program = torch.export.export(model, (x, ))
    written = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=21,
        custom_translation_table=translations(),
        verbose=False)
    found = Session(written.model_proto.SerializeToString())(x)
    for a, b in zip(found, model(x), strict=True):
        assert torch.equal(a, b)
