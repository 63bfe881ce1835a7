"""Routed attention: against float64, its definition and plain attention."""
import pytest
import torch
import torch.nn.functional as F
from signs import randn

from mmcompress import ops
from mmcompress.ops.routed_attention import (attend_regions, gather_regions,
                                             join_regions, split_regions)


def random_routes(num, regions, topk, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, regions, regions, generator=generator).topk(topk)[1]


def plain(q, k, v, routes, grid, num_heads, scale):
    """The formula, of any type."""
    y, _ = attend_regions(
        split_regions(q, grid), gather_regions(split_regions(k, grid), routes),
        gather_regions(split_regions(v, grid), routes), num_heads, scale)
    return join_regions(y, grid, q.shape[1:3])


def in_double(q, k, v, *args):
    return plain(q.double(), k.double(), v.double(), *args).float()


# tokens of a region of queries and of keys, regions, topk, heads, channels
# of a head of queries and of values
CASES = [
    ((2, 2), (2, 2), (7, 7), 16, 8, 32, 32),
    ((4, 6), (4, 6), (3, 3), 5, 2, 32, 32),
    ((1, 1), (1, 1), (2, 3), 1, 1, 1, 1),
    ((1, 3), (2, 1), (3, 2), 4, 3, 5, 7),
    ((3, 3), (1, 1), (2, 2), 4, 2, 16, 24),
    ((2, 5), (3, 7), (1, 3), 3, 1, 48, 20),
    ((8, 8), (8, 8), (2, 2), 1, 2, 8, 40),
    ((5, 1), (4, 1), (4, 1), 2, 4, 3, 4),
]


@pytest.mark.parametrize('query, key, grid, topk, heads, dims, channels',
                         CASES)
@pytest.mark.parametrize('scale', [0.2, -3.0])
def test_equals_the_formula_in_double(query, key, grid, topk, heads, dims,
                                      channels, scale):
    sizes = [[a * b for a, b in zip(grid, region)] for region in (query, key)]
    q = randn(2, *sizes[0], heads * dims)
    k = randn(2, *sizes[1], heads * dims, seed=1)
    v = randn(2, *sizes[1], heads * channels, seed=2)
    routes = random_routes(2, grid[0] * grid[1], topk)
    args = q, k, v, routes, grid, heads, scale
    y = ops.routed_attention(*args)
    assert y.is_contiguous()
    torch.testing.assert_close(y, in_double(*args), rtol=1e-5, atol=2e-5)


def test_reads_slices_and_any_strides():
    qkv = randn(2, 6, 4, 3 * 24)
    args = random_routes(2, 6, 2), (3, 2), 3, 0.3
    wanted = ops.routed_attention(*(x.clone() for x in qkv.split(24, -1)),
                                  *args)
    assert torch.equal(ops.routed_attention(*qkv.split(24, -1), *args), wanted)
    first = qkv.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(
        ops.routed_attention(*first.split(24, -1), *args), wanted)
    # rows and images apart, columns turned into rows
    wide = torch.full((4, 12, 4, 72), float('nan'))
    wide[::2, ::2] = qkv
    assert torch.equal(
        ops.routed_attention(*wide[::2, ::2].split(24, -1), *args), wanted)
    turned = qkv.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(
        ops.routed_attention(*turned.split(24, -1), *args), wanted)


def test_all_regions_are_plain_attention():
    q, k, v = randn(3, 2, 4, 4, 32)
    routes = torch.arange(16).expand(2, 16, 16)
    y = ops.routed_attention(q, k, v, routes, (4, 4), 4, 0.1)
    heads = (
        x.flatten(1, 2).unflatten(2, (4, 8)).transpose(1, 2)
        for x in (q, k, v))
    wanted = F.scaled_dot_product_attention(*heads, scale=0.1)
    torch.testing.assert_close(
        y, wanted.transpose(1, 2).reshape(2, 4, 4, 32), rtol=1e-5, atol=1e-5)


def test_a_region_that_is_named_twice_counts_twice():
    q, k, v = randn(3, 1, 1, 3, 4)
    routes = torch.tensor([[[0, 0, 1]] * 3])
    args = q, k, v, routes, (1, 3), 1, 1.0
    torch.testing.assert_close(
        ops.routed_attention(*args), in_double(*args), rtol=1e-5, atol=1e-6)


def test_large_scores_neither_overflow_nor_vanish():
    q, k, v = randn(3, 1, 4, 4, 16)
    args = 1000 * q, k, v, random_routes(1, 4, 3), (2, 2), 2, 1.0
    torch.testing.assert_close(
        ops.routed_attention(*args), in_double(*args), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_what_is_not_finite_shows_where_it_is_looked_at(value):
    q, k, v = randn(3, 1, 2, 2, 4)
    routes = torch.tensor([[[0], [1], [2], [1]]])
    k[0, 0, 1, 2] = value
    found = ops.routed_attention(q, k, v, routes, (2, 2), 1, 1.0)
    wanted = plain(q, k, v, routes, (2, 2), 1, 1.0)
    assert torch.equal(found.isnan(), wanted.isnan())
    assert found[0, 0, 1].isnan().all() and found[0, 1, 1].isnan().all()
    assert found[0, 0, 0].isfinite().all()


def test_no_images():
    x = torch.zeros(0, 4, 4, 6)
    routes = torch.zeros(0, 4, 2, dtype=torch.int64)
    y = ops.routed_attention(x, x, x, routes, (2, 2), 2, 1.0)
    assert y.shape == x.shape


def test_threads_don_t_change_the_result():
    q, k, v = randn(3, 2, 24, 24, 64)
    args = q, k, v, random_routes(2, 36, 20), (6, 6), 2, 0.1
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(ops.routed_attention(*args))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_gradient_is_that_of_the_formula():
    q, k = randn(2, 2, 4, 6, 6)
    v, dy = randn(2, 2, 4, 6, 8, seed=1)
    routes = random_routes(2, 6, 3)
    args = routes, (2, 3), 2, 0.7
    inputs = [x.requires_grad_() for x in (q, k, v)]
    found = torch.autograd.grad(
        ops.routed_attention(*inputs, *args), inputs, dy)
    wanted = torch.autograd.grad(plain(*inputs, *args), inputs, dy)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_passes_opcheck_with_gradients_and_slices():
    q, k, v = randn(2, 4, 4, 3 * 8).requires_grad_().split(8, -1)
    torch.library.opcheck(torch.ops.mmcompress.routed_attention.default,
                          (q, k, v, random_routes(2, 4, 2), [2, 2], 2, 0.5))
