"""Linear layers of a few rows, whose weights stay packed."""
import pytest
import torch
from signs import randn, runnable_isas

from mmcompress import ops

STEP = torch.tensor([0.07])


def random_codes(low, high, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator)


def prepacked(weight, bits, isa='', high=255):
    return ops.integer_prepack(
        ops.store_codes(weight, bits), [*weight.shape, 1, 1],
        bits=bits,
        high=high,
        isa=isa)


def linear(x, weight, bits, grid, scale, bias=None, isa=''):
    return ops.integer_linear(
        x,
        prepacked(weight, bits, isa),
        STEP,
        scale, [*weight.shape, 1, 1],
        grid,
        bits=bits,
        bias=bias)


def by_definition(codes, weight, grid, scale, bias=None):
    sums = (codes.long() - grid[0]) @ weight.long().T
    y = sums.float() * STEP * scale
    return y if bias is None else y + bias


@pytest.mark.parametrize('isa', runnable_isas())
@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('outputs, channels', [(1, 1), (33, 17), (64, 64),
                                               (70, 300), (96, 1030)])
def test_equals_products_of_integers(outputs, channels, bits, isa):
    limit = 2**(bits - 1)
    weight = random_codes(-limit, limit - 1, outputs, channels)
    scale, bias = randn(outputs, seed=1), randn(outputs, seed=2)
    for rows in (1, 2, 3, 4, 5):
        codes = random_codes(0, 255, rows, channels, seed=rows)
        grid = [37 * rows % 256, 0, 255]
        y = linear(codes.to(torch.uint8), weight, bits, grid, scale, bias, isa)
        assert torch.equal(y, by_definition(codes, weight, grid, scale, bias))
        x = 5 * randn(rows, channels, seed=rows)
        codes = ops.quantize_codes(x, STEP, grid)
        y = linear(x, weight, bits, grid, scale, None, isa)
        assert torch.equal(y, by_definition(codes, weight, grid, scale))


@pytest.mark.parametrize('isa', runnable_isas())
@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('code', [0, 255])
@pytest.mark.parametrize('largest', [False, True])
def test_extremes_do_not_overflow(largest, code, bits, isa):
    channels = 60000
    limit = 2**(bits - 1)
    weight = torch.full((2, channels), limit - 1 if largest else -limit)
    codes = torch.full((2, channels), code, dtype=torch.uint8)
    for zero_point in (0, 128, 255):
        grid = [zero_point, 0, 255]
        y = linear(codes, weight, bits, grid, torch.ones(2), None, isa)
        assert torch.equal(y, by_definition(codes, weight, grid,
                                            torch.ones(2)))


def test_any_shape_and_strides():
    weight, scale, grid = random_codes(-8, 7, 40, 24), randn(40), [9, 0, 255]
    wide = 3 * randn(2, 24, 5)
    rows = wide[1, :, ::4].T
    apart = wide.transpose(1, 2)[:, 3]
    for x in (rows[0], rows, rows[:, None], apart, rows[:0]):
        codes = ops.quantize_codes(x, STEP, grid)
        wanted = by_definition(codes, weight, grid, scale)
        y = linear(x, weight, 4, grid, scale)
        assert y.is_contiguous() and torch.equal(y, wanted)


def test_threads_do_not_matter():
    shape = [4200, 2048, 1, 1]
    # two codes in each byte
    stored = random_codes(0, 255, 2100 * 2048).to(torch.uint8)
    blob = ops.integer_prepack(stored, shape, bits=4)
    x, scale, grid = randn(1, 2048), randn(4200), [99, 0, 200]
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(
            ops.integer_linear(x, blob, STEP, scale, shape, grid, bits=4))
    assert all(torch.equal(y, results[0]) for y in results)
