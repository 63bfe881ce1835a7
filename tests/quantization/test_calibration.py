import pytest
import torch
import torch.nn as nn
from quantization.ptq_models import Runs, Twice, batches, quantized

from mmcompress.quantization import ActBi, Observed, Product
from mmcompress.quantization.calibration import begin_scales, calibrate
from mmcompress.quantization.observers import scale_of_range

METHODS = ('minmax', 'moving_average', 'percentile', 'mse')


@pytest.mark.parametrize('offset', [None, 'zero_point', 'beta'])
@pytest.mark.parametrize('positive', [True, False])
def test_the_range_of_all_batches_is_covered(offset, positive):
    model = quantized(nn.Linear(6, 3), offset=offset)
    images = batches(5, 6, num=3)
    if positive:
        for batch in images:
            batch['inputs'].abs_()
    assert calibrate(model, images, 'minmax') == []
    quantizer = model.network.input_quant
    x = torch.stack([batch['inputs'] for batch in images])
    assert quantizer.is_initialized
    assert quantizer.is_signed == (not positive)
    # half a step, and another one where the range is rounded to it
    error = (quantizer(x) - x).abs().max()
    assert error <= quantizer.scale
    scale, _ = scale_of_range(x.min()[None],
                              x.max()[None], quantizer.low, quantizer.high,
                              offset is None)
    assert torch.equal(quantizer.scale, scale)


def test_all_calls_of_a_shared_layer_count():
    model = quantized(Twice(nn.Linear(6, 3)))
    images = batches(5, 6)
    calibrate(model, images, 'minmax')
    largest = max(batch['inputs'].abs().max() for batch in images)
    scale = model.network.layer.input_quant.scale
    torch.testing.assert_close(scale.squeeze(), 10 * largest / 127.5)


@pytest.mark.parametrize('method', METHODS)
def test_scales_of_weights_stand_per_channel(method):
    layer = nn.Linear(64, 3)
    with torch.no_grad():
        layer.weight.normal_(generator=torch.Generator().manual_seed(0))
        layer.weight.mul_(torch.tensor([1., 10., 100.])[:, None])
    model = quantized(layer, weight=3)
    calibrate(model, batches(5, 64), method)
    weight, scale = layer.weight.detach(), layer.weight_quant.scale.detach()
    whole = weight.abs().amax(1) / 3.5
    if method == 'mse':
        assert (scale < whole).all() and (scale > whole / 5).all()
        clipped = (layer.weight_quant(weight) - weight).square().sum()
        layer.weight_quant.scale.data.copy_(whole)
        assert clipped < (layer.weight_quant(weight) - weight).square().sum()
    else:
        torch.testing.assert_close(scale, whole)


def test_the_method_may_follow_from_the_bits():
    few, many, mse = (quantized(nn.Linear(6, 3), a, a) for a in (4, 8, 4))
    for model, method in ((few, 'auto'), (many, 'auto'), (mse, 'mse')):
        torch.nn.init.constant_(model.network.weight, 0.1)
        calibrate(model, batches(50, 6), method)
    assert torch.equal(few.network.input_quant.scale,
                       mse.network.input_quant.scale)
    x = torch.stack([batch['inputs'] for batch in batches(50, 6)])
    largest = (x.abs().max() / 127.5)[None]
    torch.testing.assert_close(many.network.input_quant.scale.data, largest)


def test_zeros_only_leave_a_quantizer_as_it_was():
    model = quantized(nn.Linear(6, 3))
    zeros = [dict(inputs=torch.zeros(2, 6))]
    assert calibrate(model, zeros) == []
    assert not model.network.input_quant.is_initialized
    assert model.network.weight_quant.is_initialized
    model.test_step(zeros[0])


def test_an_attention_has_scales_per_head():
    quant = dict(type='LSQ', bits=8)

    class Attention(nn.Module):

        def __init__(self):
            super().__init__()
            self.product = Product(quant, quant, 2)

        def forward(self, x):
            return self.product(x, x.mT)

    x = torch.randn(3, 2, 4, 5) * torch.tensor([1., 50.])[:, None, None]
    model = Runs(Attention())
    calibrate(model, [dict(inputs=x)], 'minmax')
    scale = model.network.product.a_quant.scale
    torch.testing.assert_close(scale.data, x.abs().amax((0, 2, 3)) / 127.5)


def test_what_is_never_called_is_named():
    network = Twice(nn.Linear(6, 3))
    model = quantized(network)
    assert calibrate(model, batches(5, 6)) == [
        'network.unused.weight_quant', 'network.unused.input_quant'
    ]
    with pytest.raises(ValueError, match='there are no batches'):
        calibrate(model, [])


def test_batches_are_not_changed_and_nothing_is_quantized_meanwhile():
    seen = []
    layer = nn.Linear(6, 3)
    model = quantized(nn.Sequential(layer, nn.Linear(3, 2)), weight=2)
    layer.register_forward_hook(lambda m, args, y: seen.append(y))
    images = batches(5, 6)
    calibrate(model, images)
    assert all(set(batch) == {'inputs'} for batch in images)
    plain = torch.nn.functional.linear(images[0]['inputs'], layer.weight,
                                       layer.bias)
    assert torch.equal(seen[0], plain)
    assert not any(getattr(m, 'bypass', False) or getattr(m, 'observer', None)
                   for m in model.modules())  # yapf: disable


def test_quantizers_that_observe_keep_their_method():
    model = quantized(nn.Linear(6, 3))
    model.network.input_quant = Observed(8, method='minmax')
    images = batches(5, 6)
    calibrate(model, images, 'mse')
    largest = max(batch['inputs'].abs().max() for batch in images)
    torch.testing.assert_close(model.network.input_quant.scale,
                               largest[None] / 127.5)


def test_what_needs_training_is_refused():
    model = quantized(nn.Linear(6, 3))
    model.network.input_quant = ActBi(1)
    with pytest.raises(TypeError, match='network.input_quant is ActBi'):
        calibrate(model, batches(5, 6))


def test_errors_say_what_is_allowed():
    with pytest.raises(ValueError, match='method must be one of auto, minmax'):
        calibrate(quantized(nn.Linear(2, 2)), [], 'kl')
    with pytest.raises(ValueError, match='has no quantizers'):
        calibrate(Runs(nn.Linear(2, 2)), [])


def test_scales_begin_as_in_training():
    """Also of quantizers that calibration refuses."""
    model = quantized(nn.Linear(6, 3))
    model.network.input_quant = ActBi()
    with pytest.raises(TypeError, match='has to be trained'):
        calibrate(model, batches(5, 6))
    begin_scales(model, batches(5, 6))
    assert model.network.input_quant.is_initialized
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
