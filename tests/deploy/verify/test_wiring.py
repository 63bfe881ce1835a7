"""What packed layers keep to themselves must not be read elsewhere."""
import copy

import pytest
import torch
import torch.nn as nn

from mmcompress.binary import XNORConv2d
from mmcompress.deploy.twins import fold_in_place
from mmcompress.deploy.verify import VerificationError, check_wiring
from mmcompress.quantization import QuantConv2d


def conv(kind):
    if kind == 'xnor':
        return XNORConv2d(8, 8, 3, padding=1)
    quantizer = dict(type='LSQ', bits=4, init='mse')
    return QuantConv2d(
        8, 8, 3, padding=1, weight_quant=quantizer, input_quant=quantizer)


class Net(nn.Module):

    def __init__(self, kind='lsq'):
        super().__init__()
        self.conv = conv(kind)
        self.row = nn.Sequential(self.conv, nn.BatchNorm2d(8), nn.ReLU(),
                                 conv(kind), nn.BatchNorm2d(8))
        self.other = nn.Sequential(self.conv, nn.BatchNorm2d(8), nn.ReLU())


class InOrder(Net):

    def forward(self, x):
        for layer in self.row:
            x = layer(x)
        # packed by itself as well
        return x + self.other(x) + self.conv(x)


class Taps(Net):

    def forward(self, x):
        outs = []
        for layer in self.row:
            outs.append(x := layer(x))
        return outs[2], x


class TapInPlace(Net):

    def forward(self, x):
        y = self.row[0](x)
        z = self.row[1:](y)
        return y + z


class CalledElsewhere(Net):

    def forward(self, x):
        return self.row(x), self.row[3](x)


def check(model):
    torch.manual_seed(0)
    x = torch.randn(1, 8, 5, 5)
    model(x)
    model.eval()
    _, traces = fold_in_place(copy.deepcopy(model))
    check_wiring(model, traces, x)


@pytest.mark.parametrize('kind', ['lsq', 'xnor'])
def test_modules_of_several_places_are_fine(kind):
    check(InOrder(kind))


@pytest.mark.parametrize('kind', ['lsq', 'xnor'])
@pytest.mark.parametrize('cls, layer', [(Taps, 'conv'), (TapInPlace, 'conv'),
                                        (CalledElsewhere, 'row.3')])
def test_a_value_in_between_that_is_read_elsewhere_is_found(cls, layer, kind):
    with pytest.raises(
            VerificationError, match=f'^{layer}: .* reads a value in between'):
        check(cls(kind))
