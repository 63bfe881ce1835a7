"""Integer operators on every kernel, against their definition."""
import pytest
import torch
import torch.nn.functional as F
from signs import LAYOUTS, in_layout, randn, runnable_isas

from mmcompress import ops

ISAS = runnable_isas()
run = torch.ops.mmcompress


def integers(low, high, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator)


def weights(shape, bits, seed=1):
    limit = 2**(bits - 1)
    return integers(-limit, limit - 1, *shape, seed=seed)


def prepack(weight, bits, high, groups=1):
    """A blob of the definition, and one per kernel."""
    codes = ops.store_codes(weight, bits)
    args = codes, list(weight.shape), groups, bits, high
    return (ops.reference.integer_prepack(*args), {
        isa: ops.integer_prepack(*args, isa)
        for isa in ISAS
    })


def conv(x,
         weight,
         bits,
         grid,
         stride=1,
         padding=0,
         dilation=1,
         groups=1,
         residual=False,
         act='',
         next_grid=(8, 1, 15)):
    """Every kernel gives the bits of the definition, in 1, 2, 3 threads."""
    num = weight.shape[0]
    blob, blobs = prepack(weight, bits, grid[2], groups)
    scale, bias = 0.02 * randn(num, seed=2), randn(num, seed=3)
    step, next_step = torch.tensor([0.06]), torch.tensor([0.031])
    pairs = [[v, v] for v in (stride, padding, dilation)]
    geometry = (list(weight.shape), *pairs, groups, bits, list(grid))
    after = act, list(next_grid)

    def results(operators, blob, bias, residual):
        head = x, blob, step, scale, bias
        return (*operators.integer_conv2d(*head, residual, next_step, *
                                          geometry, *after),
                operators.integer_conv2d_codes(*head, next_step, *geometry,
                                               *after))

    plain = results(ops.reference, blob, bias, None)
    added = randn(*plain[0].shape, seed=4) if residual else None
    expected = results(ops.reference, blob, bias, added)
    for i, isa in enumerate(ISAS):
        torch.set_num_threads(1 + i % 3)
        found = results(run, blobs[isa], bias, added)
        for one, other in zip(found, expected):
            assert one.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(one, other), isa


def codes(high, *shape, seed=0):
    return integers(0, high, *shape, seed=seed).to(torch.uint8)


@pytest.mark.parametrize('bits, grid', [(8, (0, 0, 255)), (8, (128, 0, 255)),
                                        (8, (3, 0, 127)), (4, (7, 0, 255)),
                                        (4, (8, 1, 15)), (2, (0, 0, 255))])
@pytest.mark.parametrize('channels, num', [(3, 17), (64, 70), (130, 8)])
def test_convolutions(channels, num, bits, grid):
    x = codes(grid[2], 2, channels, 9, 7)
    weight = weights((num, channels, 3, 3), bits)
    conv(x, weight, bits, grid, padding=1, residual=True, act='relu')
    conv(x, weight, bits, grid, padding=2, stride=2, dilation=2, act='relu6')
    conv(x, weight[:, :, :1, 1:2], bits, grid, next_grid=(0, 0, 255))


@pytest.mark.parametrize('groups, each, num', [(2, 8, 32), (3, 5, 6),
                                               (4, 4, 280), (70, 1, 70),
                                               (16, 1, 32)])
def test_groups_and_depthwise(groups, each, num):
    x = codes(255, 2, groups * each, 6, 7)
    weight = weights((num, each, 3, 3), 8)
    for stride in (1, 2):
        conv(x, weight, 8, (9, 0, 255), stride, 1, groups=groups)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('channels', [3, 16, 33])
def test_layouts(channels, layout):
    weight = weights((20, channels, 3, 3), 4)
    for x in (codes(255, 2, channels, 6, 5), 4 * randn(2, channels, 6, 5)):
        conv(in_layout(x, layout), weight, 4, (20, 0, 255), padding=1)


def test_values_become_codes_by_division():
    """Halves of steps, infinities and NaN, in and out."""
    halves = torch.arange(-300, 300) / 2 * 0.06
    special = torch.tensor([float('inf'), float('-inf'), float('nan'), -0.0])
    x = torch.cat([halves, special]).view(1, 1, 4, -1)
    conv(x, torch.ones(1, 1, 1, 1), 8, (100, 2, 250), next_grid=(9, 3, 200))


@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('channels', [384, 4099])
def test_extremes_equal_64_bit_products(bits, channels):
    lowest = -2**(bits - 1)
    x = torch.full((7, channels), 255, dtype=torch.uint8)
    rows = torch.tensor([lowest, -lowest - 1]).repeat(9)[:, None]
    weight = rows.expand(18, channels).clone()
    weight[2:] *= integers(0, 1, 16, channels)
    acc = x.long() @ weight.T
    shape, one = [18, channels, 1, 1], torch.ones(1)
    blob, blobs = prepack(weight.view(shape), bits, 255)
    for isa in ISAS:
        y = run.integer_linear(x, blobs[isa], one, torch.ones(18), None, shape,
                               bits, [0, 0, 255])
        assert torch.equal(y, acc.float()), isa
        # by parts that float32 holds
        low = run.integer_linear(x, blobs[isa], one, torch.ones(18), None,
                                 shape, bits, [255, 0, 255])
        assert torch.equal(low, torch.zeros(7, 18)), isa


@pytest.mark.parametrize('shape', [(5, 40), (2, 3, 40), (40, ), (1, 40),
                                   (0, 40)])
def test_linear_layers(shape):
    weight = weights((30, 40, 1, 1), 8)
    blob, blobs = prepack(weight, 8, 255)
    step, scale = torch.tensor([0.05]), randn(30, seed=2)
    bias, grid = randn(30, seed=3), [128, 0, 255]
    for x in (randn(*shape), codes(255, *shape)):
        args = step, scale, bias, [30, 40, 1, 1], 8, grid
        expected = ops.reference.integer_linear(x, blob, *args)
        for isa in ISAS:
            y = run.integer_linear(x, blobs[isa], *args)
            assert y.is_contiguous() and torch.equal(y, expected), isa


def test_large_layers_in_threads():
    """Several blocks of the reduction, of outputs and of rows."""
    x, weight = codes(255, 1, 600, 20, 20), weights((150, 600, 3, 3), 8)
    blob, blobs = prepack(weight, 8, 255)
    one, scale = torch.ones(1), torch.ones(150)
    expected = F.conv2d(x.double(), weight.double(), padding=1).float()
    for isa in ISAS[-2:]:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y, _ = run.integer_conv2d(x, blobs[isa], one, scale, None, None,
                                      None, [150, 600, 3, 3], [1, 1], [1, 1],
                                      [1, 1], 1, 8, [0, 0, 255])
            assert torch.equal(y, expected), (isa, threads)


SHAPE = [6, 8, 3, 3]
STORED = ops.store_codes(weights(SHAPE, 4), 4)


@pytest.mark.parametrize('name, change', [
    ('weight_shape', dict(weight_shape=[6, 8, 3, 2**62])),
    ('codes', dict(weight_shape=[6, 8, 3, 4])),
    ('codes', dict(bits=8)),
    ('codes', dict(codes=STORED.float())),
    ('groups', dict(groups=4)),
    ('bits', dict(bits=3)),
    ('high', dict(high=256)),
    ('high', dict(high=-1)),
    ('nosuch', dict(isa='nosuch')),
])  # yapf: disable
def test_prepack_refuses(name, change):
    args = dict(
        codes=STORED, weight_shape=SHAPE, groups=1, bits=4, high=255, isa='')
    with pytest.raises((ValueError, RuntimeError), match=rf'\b{name}\b'):
        run.integer_prepack(**dict(args, **change))


def test_sums_of_more_than_32_bits_are_refused():
    stored = ops.store_codes(torch.full((70000, ), -128), 8)
    for isa in ISAS:
        with pytest.raises((ValueError, RuntimeError), match='32 bits'):
            ops.integer_prepack(stored, [1, 70000, 1, 1], 1, 8, 255, isa)


@pytest.mark.parametrize('name, change', [
    ('x', dict(x=torch.zeros(1, 8, 5, 5).double())),
    ('x', dict(x=torch.zeros(8, 5, 5))),
    ('x', dict(x=torch.zeros(1, 7, 5, 5))),
    ('blob', dict(blob=STORED)),
    ('blob', dict(bits=8)),
    ('blob', dict(groups=2, weight_shape=[6, 4, 3, 3])),
    ('grid', dict(grid=[0, 1, 255])),
    ('grid', dict(grid=[0, 0])),
    ('grid', dict(grid=[0, 0, 256])),
    ('input_scale', dict(input_scale=torch.ones(2))),
    ('scale', dict(scale=torch.ones(5))),
    ('bias', dict(bias=torch.ones(6).double())),
    ('residual', dict(residual=torch.zeros(1, 6, 5, 5))),
    ('next_scale', dict(next_scale=torch.ones(2))),
    ('next_grid', dict(next_scale=torch.ones(1), next_grid=[1])),
    ('next_grid', dict(next_grid=[0, 0, 9])),
    ('act', dict(act='gelu')),
    ('stride', dict(stride=[0, 1])),
    ('padding', dict(padding=[1, 2**62])),
    ('dilation', dict(dilation=[1, -1])),
    ('kernel', dict(dilation=[3, 1])),
])  # yapf: disable
def test_convolutions_refuse(name, change):
    args = dict(
        x=torch.zeros(1, 8, 5, 5),
        blob=ops.integer_prepack(STORED, SHAPE, 1, 4, 255),
        input_scale=torch.ones(1),
        scale=torch.ones(6),
        bias=None,
        residual=None,
        next_scale=None,
        weight_shape=SHAPE,
        stride=[1, 1],
        padding=[0, 0],
        dilation=[1, 1],
        groups=1,
        bits=4,
        grid=[0, 0, 255],
        act='',
        next_grid=[])
    with pytest.raises((ValueError, RuntimeError), match=rf'\b{name}\b'):
        run.integer_conv2d(**dict(args, **change))


@pytest.mark.skipif(
    bool(ops.build_info()['reason']), reason='needs the kernels')
def test_blobs_are_for_the_codes_that_they_were_made_for():
    blob = ops.integer_prepack(STORED, SHAPE, 1, 4, 15)
    with pytest.raises(RuntimeError, match='grid has codes up to 255'):
        ops.integer_conv2d(
            torch.zeros(1, 8, 5, 5),
            blob,
            torch.ones(1),
            torch.ones(6),
            SHAPE, [0, 0, 255],
            bits=4)
    for size in (0, 7, blob.numel() - 1):
        with pytest.raises(RuntimeError, match='blob'):
            ops.integer_conv2d(
                torch.zeros(1, 8, 5, 5),
                blob[:size],
                torch.ones(1),
                torch.ones(6),
                SHAPE, [0, 0, 15],
                bits=4)
