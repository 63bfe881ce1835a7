"""LayerNorm that hands on codes."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from signs import randn

from mmcompress import ops
from mmcompress.ops.layer_norm import _root

STEP, GRID = torch.tensor([0.03]), [128, 0, 255]


def vectors(channels):
    return 1 + randn(channels, seed=1) / 4, randn(channels, seed=2)


@pytest.mark.parametrize('channels', [1, 5, 63, 64, 65, 192, 384, 1000])
def test_equals_its_definition(channels):
    weight, bias = vectors(channels)
    for x in (3 * randn(5, 7, channels), 1e-20 * randn(3, channels),
              1e15 + randn(3, channels), torch.zeros(0, channels),
              torch.tensor([float('inf'),
                            float('nan')])[:, None].expand(2, channels)):
        codes = ops.layer_norm_codes(x, weight, bias, 1e-6, STEP, GRID)
        wanted = ops.reference.layer_norm_codes(x, weight, bias, STEP, 1e-6,
                                                GRID)
        assert torch.equal(codes, wanted) and codes.is_contiguous()


def test_is_the_codes_of_layer_norm():
    x, (weight, bias) = 3 * randn(50, 384) + 1, vectors(384)
    codes = ops.layer_norm_codes(x, weight, bias, 1e-5, STEP, GRID)
    y = F.layer_norm(x.double(), (384, ), weight.double(), bias.double(), 1e-5)
    steps = (y / STEP + GRID[0]).clamp(*GRID[1:])
    # half a step, and what float32 rounds
    assert (codes - steps).abs().max() < 0.5 + 1e-3


def test_any_strides():
    x, (weight, bias) = randn(3, 70, 5), vectors(70)
    for view in (x[0].T, x.transpose(1, 2), x[:, :, ::2].transpose(1, 2)):
        assert torch.equal(
            ops.layer_norm_codes(view, weight, bias, 0., STEP, GRID),
            ops.layer_norm_codes(view.contiguous(), weight, bias, 0., STEP,
                                 GRID))


def test_the_root_is_rounded_once():
    """PyTorch's own of many values may be a bit off, kernels' isn't."""
    x = torch.rand(100000, generator=torch.Generator().manual_seed(0))
    assert _root(x).numpy().tolist() == np.sqrt(x.numpy()).tolist()


def test_threads_do_not_matter():
    x, (weight, bias) = randn(3000, 192), vectors(192)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(ops.layer_norm_codes(x, weight, bias, 1e-6, STEP, GRID))
    assert all(torch.equal(codes, results[0]) for codes in results)


@pytest.mark.parametrize('name, change', [
    ('x', dict(x=torch.ones(3, 8).double())),
    ('x', dict(x=torch.ones(()))),
    ('x', dict(x=torch.ones(3, 0))),
    ('weight', dict(weight=torch.ones(7))),
    ('bias', dict(bias=torch.ones(8).double())),
    ('eps', dict(eps=-1e-6)),
    ('eps', dict(eps=float('nan'))),
    ('scale', dict(scale=torch.ones(2))),
    ('grid', dict(grid=[0, 1, 2])),
])  # yapf: disable
def test_errors_name_the_argument(name, change):
    arguments = dict(
        x=torch.ones(3, 8),
        weight=torch.ones(8),
        bias=torch.ones(8),
        eps=1e-6,
        scale=STEP,
        grid=GRID)
    with pytest.raises((ValueError, RuntimeError), match=rf'\b{name}\b'):
        ops.layer_norm_codes(**arguments | change)
