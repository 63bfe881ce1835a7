"""Packed files that earlier versions wrote give what they gave then."""
from pathlib import Path

import pytest
import torch
from deploy.networks import build
from test_record import plain_network

from mmcompress.deploy import pack
from mmcompress.deploy.verify.model import predict

FILES = sorted((Path(__file__).parents[2] / 'data' / 'packed').glob('*.pth'))


def empty(name):
    """A packed model of the same network, with other weights."""
    model = plain_network() if name == 'plain' else build(name, seed=1)[0]
    return pack(model)[1]


def _same(a, b):
    """Integers are equal; of float layers torch's sums differ by processor."""
    if a.is_floating_point():
        return a.shape == b.shape and torch.allclose(
            a, b, rtol=1e-6, atol=1e-6 * float(b.abs().max()))
    return torch.equal(a, b)


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_same_predictions(file):
    stored = torch.load(file)
    model = empty(file.stem.removeprefix('format_1_'))
    model.load_state_dict(stored['state_dict'])
    found = predict(model, stored['inputs'])
    assert stored['outputs']
    assert len(found) == len(stored['outputs'])
    assert all(map(_same, found, stored['outputs']))


def test_there_are_files():
    assert len(FILES) == 2
