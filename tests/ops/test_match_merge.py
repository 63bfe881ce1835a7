"""ToMe's operator: against its definition, its rules, and itself."""
import pytest
import torch
import torch.nn as nn
from signs import randn

from mmcompress import ops
from mmcompress.ops import reference
from mmcompress.tokens.matching import bipartite
from mmcompress.tokens.merging import merge

OPERATOR = torch.ops.mmcompress.match_merge
has_kernels = pytest.mark.skipif(
    bool(ops.build_info()['reason']), reason='needs the kernels')


def keys_of(batch, num, heads=3, dims=16, seed=0):
    """A view of a projection of queries, keys and values."""
    qkv = randn(batch, num, 3 * heads * dims, seed=seed)
    return qkv.unflatten(-1, (3, heads, dims)).permute(2, 0, 3, 1, 4)[1]


def masses(kind, batch, num):
    if kind == 'none':
        return None
    mass = randn(batch, num, 1, seed=2).abs().mul(3).ceil()
    if kind == 'padded':
        mass[:, num // 2:] = 0
    return mass


def assert_close(found, wanted):
    assert torch.equal(found[2], wanted[2])
    torch.testing.assert_close(found[:2], wanted[:2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('mass', ['none', 'given', 'padded'])
@pytest.mark.parametrize('protected', ['', '0', '0 1', '0 -1', '1 2 6'])
@pytest.mark.parametrize('batch, num, channels, r', [(1, 64, 40, 8),
                                                     (2, 65, 33, 13),
                                                     (3, 21, 7, 99),
                                                     (1, 12, 16, 0),
                                                     (1, 197, 3, 60)])
def test_equals_its_definition(batch, num, channels, r, protected, mass):
    fixed = [int(p) % num for p in protected.split()]
    args = (keys_of(batch, num), randn(batch, num, channels,
                                       seed=1), masses(mass, batch,
                                                       num), r, fixed)
    found = OPERATOR(*args)
    assert_close(found, reference.match_merge(*args))
    assert not found[0].isnan().any()


@pytest.mark.parametrize('protected', [(), (0, ), (0, 1), (0, 2, 4, 6, 8),
                                       (1, 3, 5, 7), (0, 9)])
def test_no_more_leave_than_can(protected):
    keys, x = keys_of(2, 10), randn(2, 10, 4, seed=1)
    found = ops.match_merge(keys, x, None, 10, protected)
    assert_close(found, reference.match_merge(keys, x, None, 10, protected))
    for row in found[2]:
        assert row.unique().tolist() == list(range(found[0].size(1)))
        assert row[list(protected)].tolist() == list(range(len(protected)))


@pytest.mark.parametrize('num', [1, 2, 3])
def test_few_tokens(num):
    args = keys_of(2, num), randn(2, num, 4, seed=1), None, 5, []
    assert_close(OPERATOR(*args), reference.match_merge(*args))


def test_blank_images_merge_from_the_left():
    """All tokens are equal: the first sources, all into the first."""
    keys, x = torch.ones(1, 2, 101, 12), randn(1, 101, 4)
    for protected, first in (((), 0), ((0, ), 2)):
        y, mass, slot = ops.match_merge(keys, x, None, 20, protected)
        leaving = slice(first, first + 40, 2)
        to = slot[0, 1].item()
        assert (slot[0, leaving] == to).all()
        assert mass[0, to] == 21 and mass.sum() == 101
        merged = x[0, [1, *range(first, first + 40, 2)]].mean(0)
        torch.testing.assert_close(y[0, to], merged)
        assert_close((y, mass, slot),
                     reference.match_merge(keys, x, None, 20, list(protected)))


@pytest.mark.parametrize('kinds', [2, 3, 20])
def test_equal_keys_tie_wherever_they_lie(kinds):
    """In tiles of any kernel, at their ends, and behind them."""
    for num in (64, 99, 150):
        which = torch.randint(
            kinds, (num, ), generator=torch.Generator().manual_seed(num))
        keys = keys_of(1, kinds, dims=64)[:, :, which]
        x = randn(1, num, 3)
        _, _, slot = OPERATOR(keys, x, None, num // 4, [0])
        for of in (keys, keys.double()):
            assert torch.equal(slot, bipartite(of, num // 4, (0, )).slot)
        leaves = slot[0] >= num - num // 4 - num // 2
        for kind in range(kinds):
            same = (which == kind).nonzero()[:, 0]
            sources = same[(same % 2 == 0) & (same > 0)]
            # those that leave are the first, and go together
            assert (leaves[sources].int().diff() <= 0).all()
            assert len(slot[0, sources[leaves[sources]]].unique()) <= 1


def test_keys_of_length_0_are_similar_to_none():
    keys = keys_of(1, 40).clone()
    keys[:, :, ::3] = 0
    args = keys, randn(1, 40, 4), None, 8, [0]
    assert_close(OPERATOR(*args), reference.match_merge(*args))


def test_any_layout():
    keys, x = keys_of(2, 30), randn(2, 30, 10, seed=1)
    mass = masses('given', 2, 30)
    wanted = OPERATOR(keys.contiguous(), x, mass, 5, [0])
    wide = randn(2, 60, 30)
    strided = wide[:, ::2, ::3].copy_(x)
    transposed = keys.mT.contiguous().mT
    for found in (OPERATOR(keys, strided, mass.expand(2, 30, 1), 5, [0]),
                  OPERATOR(transposed,
                           x.mT.contiguous().mT, mass, 5, [0])):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted))
    one = keys[:1].expand(2, -1, -1, -1)
    y, _, slot = OPERATOR(one, x[:1].expand(2, -1, -1), None, 5, [0])
    assert torch.equal(y[0], y[1]) and torch.equal(slot[0], slot[1])


@pytest.mark.parametrize('shape', [(0, 9, 4), (2, 9, 0)])
def test_no_values(shape):
    batch, num, channels = shape
    y, mass, slot = OPERATOR(
        keys_of(batch, num), torch.zeros(shape), None, 3, [0])
    assert y.shape == (batch, 6, channels)
    assert mass.shape == (batch, 6, 1) and slot.shape == (batch, num)


@has_kernels
@pytest.mark.parametrize('batch, num', [(1, 785), (1, 1200), (5, 300)])
def test_threads_give_the_same_bits(batch, num):
    args = (keys_of(batch, num), randn(batch, num, 96,
                                       seed=1), masses('given', batch,
                                                       num), num // 5, [0])
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(OPERATOR(*args))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0]))


@pytest.mark.parametrize('mass', ['none', 'given', 'padded'])
def test_only_tokens_get_a_gradient(mass):
    keys, mass = keys_of(2, 33).requires_grad_(), masses(mass, 2, 33)
    x, dy = randn(2, 33, 6, seed=1), randn(2, 25, 6, seed=4)
    grads = []
    for function in (OPERATOR, ops.match_merge, reference.match_merge):
        x = x.detach().requires_grad_()
        y, new_mass, slot = function(keys, x, mass, 8, [0])
        assert not new_mass.requires_grad and not slot.requires_grad
        y.backward(dy)
        grads.append(x.grad)
    assert keys.grad is None
    torch.testing.assert_close(grads[0], grads[2])
    assert torch.equal(grads[0], grads[1])


def test_gradient_of_the_definition():
    keys = keys_of(1, 8, dims=4).double()
    x = randn(1, 8, 2).double().requires_grad_()
    mass = masses('padded', 1, 8).double()
    assert torch.autograd.gradcheck(
        lambda x: ops.match_merge(keys, x, mass, 3, (0, ))[0], x)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    keys, x = keys_of(2, 33).to(dtype), randn(2, 33, 6, seed=1).to(dtype)
    found = ops.match_merge(keys, x, None, 8)
    wanted = ops.match_merge(keys.float(), x.float(), None, 8)
    assert found[0].dtype == dtype and found[1].dtype == torch.float32
    assert torch.equal(found[0], wanted[0].to(dtype))
    assert torch.equal(found[2], wanted[2])
    with torch.autocast('cpu', torch.bfloat16):
        again = ops.match_merge(keys, x, None, 8)
    assert all(torch.equal(a, b) for a, b in zip(again, found))


def test_float64_is_computed_in_float64():
    keys, x = keys_of(1, 33).double(), randn(1, 33, 6).double()
    y, mass, slot = ops.match_merge(keys, x, None, 8)
    match = bipartite(keys, 8)
    assert torch.equal(slot, match.slot)
    assert torch.equal(y, merge(x, None, match)[0])
    assert mass.dtype == torch.float64


class Layer(nn.Module):
    """What merges twice, as layers do."""

    def forward(self, x):
        mass = None
        for _ in range(2):
            k = x.unflatten(-1, (2, 8)).transpose(1, 2)
            x, mass, _ = ops.match_merge(k, x.sin(), mass, 5, (0, ))
        return x * mass.log()


def test_compiled_and_exported_it_is_the_same():
    layer, x = Layer(), randn(2, 31, 16).requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend='aot_eager')
    results = [(y, *torch.autograd.grad(y.square().sum(), x))
               for y in (layer(x), compiled(x))]
    assert all(torch.equal(a, b) for a, b in zip(*results))
    program = torch.export.export(layer, (x.detach(), ))
    assert torch.equal(program.module()(x), layer(x))
