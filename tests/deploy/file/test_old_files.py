"""Packed files that earlier versions wrote give what they gave then."""
from pathlib import Path

import pytest
import torch
from deploy.networks import build
from test_record import plain_network

from mmcompress.deploy import pack
from mmcompress.deploy.verify.model import predict, same_bits

FILES = sorted((Path(__file__).parents[2] / 'data' / 'packed').glob('*.pth'))


def empty(name):
    """A packed model of the same network, with other weights."""
    model = plain_network() if name == 'plain' else build(name, seed=1)[0]
    return pack(model)[1]


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_same_predictions_bit_for_bit(file):
    stored = torch.load(file)
    model = empty(file.stem.removeprefix('format_1_'))
    model.load_state_dict(stored['state_dict'])
    found = predict(model, stored['inputs'])
    assert stored['outputs']
    assert all(map(same_bits, found, stored['outputs']))


def test_there_are_files():
    assert len(FILES) == 2
