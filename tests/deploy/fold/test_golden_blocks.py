"""Blocks of the official IDa-Det code, packed."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn

from mmcompress.binary.backbones.bi_resnet import BiBlock
from mmcompress.deploy import pack

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'


@pytest.mark.parametrize('path', GOLDEN.glob('ida_det__packed_block*.npz'),
                         ids=lambda path: path.stem)  # yapf: disable
def test_block(path):
    arrays = np.load(path)
    hyper = json.loads(str(arrays['meta']))['hyper']
    params = {
        key.removeprefix('param/'): torch.tensor(arrays[key])
        for key in arrays if key.startswith('param/')
    }
    num, channels = params['conv.weight'].shape[:2]
    block = BiBlock(channels, num, hyper['stride'],
                    dict(type='mmcompress.IDaDetConv2d'), dict(type='BN'))
    block.load_state_dict(params, strict=False)
    _, packed = pack(nn.Sequential(block.eval()))
    layer = packed[0].chain.last
    x = torch.tensor(arrays['in/x']).float()
    bits = layer.pack(x)
    found = np.unpackbits(bits.numpy(), axis=-1, bitorder='little')
    expected = arrays['out/x_bits']
    assert np.array_equal(found[..., :channels].transpose(0, 3, 1, 2),
                          expected)
    assert np.array_equal(layer.count(bits).numpy(), arrays['out/k'])
    for name, key in (('scale', 'out/A'), ('shift', 'out/B')):
        assert np.allclose(
            getattr(layer, name).numpy(), arrays[key].ravel(), rtol=1e-6)
    y = packed(x).numpy()
    assert np.allclose(
        y, arrays['out/block'], atol=1e-5 * np.abs(arrays['out/block']).max())
