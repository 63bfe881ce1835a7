"""Files of integers in which bytes or values are changed at random."""
import random

import pytest
import torch
import torch.nn as nn
from deploy.networks import as_if_trained

from mmcompress.binary import IDaDetConv2d
from mmcompress.deploy import pack
from mmcompress.deploy.file.record import checksum
from mmcompress.quantization import Spec

KINDS = dict(w8=8, w4=4, ternary=2)


def network(kind):
    """As somebody trained it, with 1-bit layers in between."""
    bits = KINDS[kind]
    weight = dict(type='LSQ', bits=bits)
    if kind == 'ternary':
        weight = dict(type='TernaryWeight')
    spec = Spec(weight=weight, activation=dict(type='LSQ', bits=8))
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 8, 3),
        nn.BatchNorm2d(8), IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8),
        nn.Flatten(), nn.Linear(72, 5))  # yapf: disable
    for i in (0, 3, 8):
        spec.swap(model[i])
    as_if_trained(model)
    model(torch.randn(2, 3, 9, 9))
    return model


@pytest.fixture(scope='module', params=KINDS)
def case(request):
    packed = pack(network(request.param))[1]
    return packed, packed.state_dict()


def load(model, state):
    model.load_state_dict(state)


def _set(value):

    def change(tensor, draw):
        tensor.view(-1)[draw.randrange(tensor.numel())] = value

    return change


def _all(value):
    return lambda tensor, draw: tensor.fill_(value)


# what is impossible: (entry, change)
IMPOSSIBLE = [
    (name, _set(value)) for name in ('scale', 'bias')
    for value in (torch.nan, torch.inf, -torch.inf)
] + [('input_scale', _all(v)) for v in (0, -1, torch.nan, torch.inf)] + [
    ('input_grid', lambda t, draw: t.copy_(torch.tensor(v)))
    for v in ([0, 1, 255], [9, 0, 8], [0, 0, 15], [255, 0, 0], [0, 0, 0])
]


@pytest.mark.parametrize('index', range(len(IMPOSSIBLE)))
def test_a_value_that_can_not_be_is_refused_whatever_the_checksum(case, index):
    model, state = case
    entry, change = IMPOSSIBLE[index]
    draw = random.Random(index)
    for name in state:
        if name.endswith(f'.{entry}') and 'input_scale' in str(
                state.keys()) and f'{name[:-len(entry)]}input_grid' in state:
            changed = {k: v.clone() for k, v in state.items()}
            change(changed[name], draw)
            changed['packed_checksum'] = checksum(changed)
            with pytest.raises(RuntimeError, match=f'damaged: .*{entry}'):
                load(model, changed)


def test_codes_that_no_quantizer_has_are_refused():
    packed = pack(network('ternary'))[1]
    state = packed.state_dict()
    # -2 in the lowest two bits
    for name in ('0.0.weight_codes', '8.weight_codes'):
        changed = {k: v.clone() for k, v in state.items()}
        codes = changed[name]
        codes[0] = (codes[0] & 0b11111100) | 0b10
        changed['packed_checksum'] = checksum(changed)
        with pytest.raises(RuntimeError, match='codes from -2 to'):
            load(packed, changed)
    # 189 codes leave places in the last byte
    changed = {k: v.clone() for k, v in state.items()}
    changed['0.0.weight_codes'][-1] |= 0b11000000
    changed['packed_checksum'] = checksum(changed)
    with pytest.raises(RuntimeError, match='more codes than weights'):
        load(packed, changed)
