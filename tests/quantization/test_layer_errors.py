import copy

import torch
import torch.nn as nn
from quantization.ptq_models import Runs, batches, quantized

from mmcompress.quantization import Spec
from mmcompress.quantization.attention.multihead import QuantMultiheadAttention
from mmcompress.quantization.calibration import calibrate
from mmcompress.quantization.layer_errors import layer_errors


def relative(y, target):
    return (y - target).norm() / target.norm()


def test_errors_are_each_layers_own_on_its_float_input():
    network = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    plain = Runs(copy.deepcopy(network)).eval()
    model, images = quantized(network, weight=3), batches(20, 16, num=3)
    calibrate(model, images)
    # a weight that was rounded is no float weight any more
    first = network[0]
    first.weight.data.copy_(first.weight_quant(first.weight))
    errors = {e.name: e for e in layer_errors(model, plain, images)}
    x = torch.cat([batch['inputs'] for batch in images])
    hidden = plain.network[:2](x)
    for name, inputs in (('0', x), ('2', hidden)):
        error = relative(network[int(name)](inputs),
                         plain.network[int(name)](inputs))
        torch.testing.assert_close(
            errors[f'network.{name}'].error, error.item(), rtol=1e-4, atol=0)
        assert errors[f'network.{name}'].bits == '3/8'
    values = [e.error for e in layer_errors(model, plain, images)]
    assert values == sorted(values, reverse=True)


class _Self(nn.Module):

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)

    def forward(self, x):
        return self.attn(query=x, key=x, value=x)[0]


def test_attentions_and_their_products_are_rows():
    network = _Self()
    plain = Runs(copy.deepcopy(network)).eval()
    quant = dict(type='LSQ', bits=8)
    QuantMultiheadAttention.swap(
        network.attn, Spec(quant, quant, attention=dict(quant, bits=2)))
    model, images = Runs(network), batches(20, 3, 8)
    calibrate(model, images)
    errors = {e.name: e for e in layer_errors(model, plain, images)}
    whole = errors['network.attn']
    assert whole.has_weight and whole.bits == '8/8' and whole.error > 0.05
    products = [e for e in errors.values() if not e.has_weight]
    assert [e.name.rpartition('.')[0]
            for e in products] == ['network.attn.products'] * 2
    assert all(e.bits == '2/2' and e.error > 0.05 for e in products)
    # the float attention reads the weight of this one past it
    assert 'network.attn.out_proj' not in errors
