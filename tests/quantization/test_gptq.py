import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from quantization.ptq_models import Runs, Twice, batches, quantized

from mmcompress.quantization import Spec, bypassed, gptq, layers
from mmcompress.quantization.attention.multihead import QuantMultiheadAttention
from mmcompress.quantization.calibration import calibrate
from mmcompress.quantization.gptq import input_columns, round_weights


def hessian(groups, size):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(groups, size, 3 * size, generator=generator)
    x[:, 1:] += 0.9 * x[:, :-1]
    return x @ x.mT


def one_by_one(weight, hessian):
    """The definition: remove a column from the problem after it is rounded."""
    size = len(hessian)
    order = hessian.diagonal().argsort(descending=True)
    back = order.argsort()
    weight, hessian = weight[:, order], hessian[order][:, order]
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(size)
    inverse = damped.double().inverse()
    weight = weight.double().clone()
    for k in range(size):
        rounded = weight[:, k].round()
        error = (weight[:, k] - rounded) / inverse[k, k]
        weight[:, k + 1:] -= error[:, None] * inverse[k, k + 1:]
        weight[:, k] = rounded
        inverse = inverse - torch.outer(inverse[:, k], inverse[k]) / inverse[k,
                                                                             k]
    return weight.float()[:, back]


def test_blocks_and_groups_are_the_definition():
    generator = torch.Generator().manual_seed(2)
    weight = 3 * torch.randn(2, 4, 150, generator=generator)
    grams = hessian(2, 150)
    rounded = gptq.gptq(weight, grams, torch.round)
    for group in range(2):
        expected = one_by_one(weight[group], grams[group])
        # a value between two integers may go either way
        assert (rounded[group] != expected).float().mean() < 0.01


def test_independent_inputs_are_rounded_to_nearest():
    weight = 3 * torch.randn(1, 5, 20)
    rounded = gptq.gptq(weight, torch.eye(20)[None], torch.round)
    assert torch.equal(rounded, weight.round())


def test_inputs_that_are_always_0_do_no_harm():
    grams = hessian(1, 6)
    grams[:, 2] = grams[:, :, 2] = 0
    weight = 3 * torch.randn(1, 4, 6)
    rounded = gptq.gptq(weight, grams, torch.round)
    assert torch.equal(rounded[..., 2], weight[..., 2].round())
    zeros = gptq.gptq(weight, torch.zeros(1, 6, 6), torch.round)
    assert torch.equal(zeros, weight.round())


def test_weights_make_up_for_what_quantizing_takes_away():
    x = torch.randn(1, 12, 400)
    x[:, 1:] += x[:, :-1].clone()
    rounded = (x / 1.5).round().clamp(-2, 2) * 1.5
    weight = torch.randn(1, 5, 12)
    hessian = rounded @ rounded.mT
    new = gptq.make_up(weight, hessian, (x - rounded) @ rounded.mT)
    # least squares, but for the damping
    best = torch.linalg.lstsq(rounded[0].T, (weight @ x)[0].T).solution.T
    torch.testing.assert_close(new[0], best, rtol=0, atol=0.1)
    before = (weight @ rounded - weight @ x).square().sum()
    after = (new @ rounded - weight @ x).square().sum()
    assert after < 0.9 * before


CONVS = dict(
    plain=dict(),
    strided=dict(stride=2, padding=1),
    uneven=dict(kernel_size=(1, 3), padding=(0, 2), stride=(2, 1)),
    dilated=dict(dilation=2, padding=2),
    groups=dict(groups=2),
    depthwise=dict(groups=4, padding=1),
    reflected=dict(padding=1, padding_mode='reflect'),
    same=dict(padding='same'))


@pytest.mark.parametrize('name', CONVS)
def test_columns_of_convolutions_are_their_patches(name):
    conv = nn.Conv2d(4, 8, **{'kernel_size': 3, 'bias': False, **CONVS[name]})
    x = torch.randn(2, 4, 7, 9)
    columns = input_columns(conv, x)
    y = conv.weight.reshape(len(columns), -1, columns.shape[1]) @ columns
    expected = conv(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(y.flatten(0, 1), expected)


def attention():
    attn = nn.MultiheadAttention(8, 2)
    quant = dict(type='LSQ', bits=8)
    QuantMultiheadAttention.swap(
        attn, Spec(weight=dict(quant, bits=3), activation=quant))

    class Self(nn.Module):

        def __init__(self):
            super().__init__()
            self.attn = attn

        def forward(self, x):
            return self.attn(x, x.flip(0), x)[0]

    return Runs(Self()).eval()


NETWORKS = dict(
    few=(lambda: quantized(nn.Conv2d(4, 8, 3, groups=2), 4, 3), (3, 4, 9, 9)),
    linear=(lambda: quantized(nn.Linear(16, 8), 3), (32, 16)),
    tokens=(lambda: quantized(nn.Linear(16, 8), 3), (2, 30, 16)),
    conv=(lambda: quantized(nn.Conv2d(4, 8, 3, padding=1), 3), (3, 4, 9, 9)),
    groups=(lambda: quantized(nn.Conv2d(4, 8, 3, groups=2), 3), (3, 4, 9, 9)),
    depthwise=(lambda: quantized(nn.Conv2d(4, 4, 3, groups=4), 3), (3, 4, 9,
                                                                    9)),
    attention=(attention, (20, 3, 8)))


@pytest.mark.parametrize('name', NETWORKS)
def test_outputs_change_less_and_codes_are_reproduced(name):
    torch.manual_seed(3)
    make, shape = NETWORKS[name]
    model, images = make(), batches(*shape)
    with torch.no_grad():
        # neighbours are alike, as those of trained networks
        for batch in images:
            x = batch['inputs']
            x += F.avg_pool1d(x.flatten(0, -2), 3, 1, 1).view_as(x) * 3
    calibrate(model, images)
    before = [model.network(batch['inputs']) for batch in images]
    with bypassed(model):
        target = [model.network(batch['inputs']) for batch in images]
    assert round_weights(model, images) == []
    after = [model.network(batch['inputs']) for batch in images]

    def distance(ys):
        return sum((y - t).square().sum() for y, t in zip(ys, target))

    assert distance(after) < 0.9 * distance(before)
    for module in model.modules():
        if getattr(module, 'weight_quant', None) is not None:
            weight = getattr(module, 'in_proj_weight', None)
            weight = module.weight if weight is None else weight
            codes = module.weight_quant.quantize_int(weight)
            assert torch.equal(codes.dequantize(), weight)


def test_all_calls_of_a_shared_layer_count(monkeypatch):
    seen = []
    monkeypatch.setattr(gptq, 'gptq', lambda w, h, q: (seen.append(h), w)[1])
    model, images = quantized(Twice(nn.Linear(6, 3))), batches(5, 6)
    calibrate(model, images)
    assert round_weights(model, images) == ['network.unused']
    quant = model.network.layer.input_quant
    x = torch.cat([batch['inputs'] for batch in images])
    x = torch.cat([quant(x), quant(10 * x)])
    torch.testing.assert_close(seen[0][0], x.T @ x, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('at_once, quantized_before', [(1, True), (2, False)])
def test_inputs_come_from_rounded_layers(monkeypatch, at_once,
                                         quantized_before):
    monkeypatch.setattr(gptq, '_AT_ONCE', at_once)
    seen = []
    monkeypatch.setattr(
        gptq, 'gptq', lambda w, h, q: (seen.append(h), torch.zeros_like(w))[1])
    model = quantized(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)))
    model.network[0].bias = None
    images = batches(4, 6)
    calibrate(model, images)
    round_weights(model, images)
    assert (seen[1].abs().max() == 0) == quantized_before


def test_layers_of_other_kinds_are_named():
    model = quantized(nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.ConvTranspose2d(6, 3, 2)))  # yapf: disable
    images = batches(2, 4, 8, 8)
    calibrate(model, images)
    before = model.network[1].weight.clone()
    assert round_weights(model, images) == ['network.1']
    assert torch.equal(model.network[1].weight, before)


@pytest.mark.parametrize('fit', [True, False])
def test_scales_are_those_that_large_inputs_want(fit):
    layer = nn.Linear(16, 8)
    with torch.no_grad():
        layer.weight.normal_(generator=torch.Generator().manual_seed(0))
        # large weights of inputs that are almost 0
        layer.weight[:, :4] *= 10
    model, images = quantized(layer, 3), batches(32, 16)
    for batch in images:
        batch['inputs'][:, :4] *= 1e-3
    calibrate(model, images)
    before = layer.weight_quant.scale.detach().clone()
    round_weights(model, images, fit_scales=fit)
    after = layer.weight_quant.scale.detach()
    assert (after < before).all() if fit else torch.equal(after, before)


def test_training_goes_on_from_the_rounded_weights():
    layer = nn.Linear(16, 8)
    model, images = quantized(layer, 4), batches(32, 16)
    calibrate(model, images)
    round_weights(model, images)
    assert isinstance(layer, layers.QuantLinear)
    layer(images[0]['inputs']).square().sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    assert layer.weight_quant.scale.grad is not None
