"""Codes of real values: every layout, every kind of number."""
import pytest
import torch
from signs import LAYOUTS, in_layout, randn

from mmcompress import ops

GRIDS = [[0, 0, 255], [128, 0, 255], [7, 3, 15], [5, 5, 5]]
SCALE = torch.tensor([0.3])


def special_values(scale):
    """Halves, which are ties, the ends of the grid, and no numbers."""
    steps = torch.arange(-300, 300.5, 0.5)
    odd = torch.tensor([float('nan'), float('inf'), -float('inf'), 3e38, -3e38,
                        1e-45, -0.0, 2.**23, -2.**31])  # yapf: disable
    exact = steps * scale
    # neighbours of the ties
    return torch.cat([
        exact,
        exact.nextafter(torch.tensor(1e9)),
        exact.nextafter(torch.tensor(-1e9)), odd
    ])


@pytest.mark.parametrize('grid', GRIDS, ids=str)
@pytest.mark.parametrize('scale', [0.3, 1., 1e-30, 1e30, -0.5, 0., 1e-45])
def test_equals_its_definition(scale, grid):
    scale = torch.tensor([scale])
    x = special_values(scale)
    codes = ops.quantize_codes(x, scale, grid)
    zero_point, low, high = grid
    # by another way: float64 holds the steps, which float32 rounded
    steps = (x / scale).double().round() + zero_point
    wanted = torch.where(steps.isnan(), low, steps.clamp(low, high))
    assert torch.equal(codes, wanted.to(torch.uint8))
    assert torch.equal(codes,
                       ops.reference.quantize_codes(x, scale, grid, False))


@pytest.mark.parametrize('shape', [(2, 3, 5, 7), (1, 66, 9, 8), (3, 1, 6, 1),
                                   (2, 5, 1, 1), (1, 4, 1, 65), (0, 3, 2, 2),
                                   (2, 16, 13, 11)], ids=str)  # yapf: disable
@pytest.mark.parametrize('layout', LAYOUTS)
def test_any_strides(layout, shape):
    plain = 10 * randn(*shape)
    x = in_layout(plain, layout)
    grid = [128, 0, 255]
    wanted = ops.reference.quantize_codes(plain, SCALE, grid, False)
    codes = ops.quantize_codes(x, SCALE, grid)
    assert codes.is_contiguous() and torch.equal(codes, wanted)
    codes = ops.quantize_codes(x, SCALE, grid, True)
    assert codes.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(codes, wanted)


def test_views_of_an_image():
    x = 10 * randn(3, 8, 6, 6)
    for view in (x[:, 2:7], x[::2], x.transpose(2, 3), x[:, :, 1:], x[..., :5],
                 x[:1].expand(3, 8, 6, 6), x.flip(1)):
        wanted = ops.reference.quantize_codes(view, SCALE, [9, 0, 20], True)
        codes = ops.quantize_codes(view, SCALE, [9, 0, 20], True)
        assert torch.equal(codes, wanted)


@pytest.mark.parametrize(
    'shape', [(), (0, ), (1, ), (3, 0, 2), (70, 3)], ids=str)
def test_any_shape(shape):
    x = torch.full(shape, 1.7)
    codes = ops.quantize_codes(x, SCALE, [9, 0, 20])
    assert torch.equal(
        codes, ops.reference.quantize_codes(x, SCALE, [9, 0, 20], False))


def test_threads_do_not_matter():
    x = 20 * randn(3, 16, 160, 140)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append((ops.quantize_codes(x, SCALE, [99, 0, 200]),
                        ops.quantize_codes(x, SCALE, [99, 0, 200], True)))
    for flat, image in results:
        assert torch.equal(flat, image)
        assert torch.equal(flat, results[0][0])


@pytest.mark.parametrize('name, call', [
    ('x', lambda x: ops.quantize_codes(x.double(), SCALE, [0, 0, 9])),
    ('x', lambda x: ops.quantize_codes(x, SCALE, [0, 0, 9], True)),
    ('scale', lambda x: ops.quantize_codes(x, SCALE[0], [0, 0, 9])),
    ('scale', lambda x: ops.quantize_codes(x, SCALE.double(), [0, 0, 9])),
    ('scale', lambda x: ops.quantize_codes(x, torch.ones(3), [0, 0, 9])),
    ('grid', lambda x: ops.quantize_codes(x, SCALE, [0, 0])),
    ('grid', lambda x: ops.quantize_codes(x, SCALE, [0, 0, 256])),
    ('grid', lambda x: ops.quantize_codes(x, SCALE, [0, -1, 9])),
    ('grid', lambda x: ops.quantize_codes(x, SCALE, [10, 0, 9])),
    ('grid', lambda x: ops.quantize_codes(x, SCALE, [2**62, 0, 2**62])),
])  # yapf: disable
def test_errors_name_the_argument(name, call):
    with pytest.raises((ValueError, RuntimeError), match=rf'\b{name}\b'):
        call(torch.ones(3, 3))
