"""LSQ's operator: against its formulas, its reference, and itself."""
import itertools

import pytest
import torch
from signs import LAYOUTS, in_layout, randn

from mmcompress import ops
from mmcompress.ops import reference

OPERATORS = torch.ops.mmcompress


def quantizer(num, offsets=(True, True), seed=7):
    """Scale and offsets of each index."""
    scale = randn(num, seed=seed).abs() + 0.1
    beta, zero = randn(num, seed=seed + 1), 3 * randn(num, seed=seed + 2)
    return (scale, *(v if given else None
                     for v, given in zip((beta, zero), offsets)))


def edge_cases(x, scale):
    """With values at the ends, ties, zeros and infinities in front."""
    values = [-2, 1, 1.5, -0.5, 0.5, 2.5, 0, -0.0, 1e9, float('inf')]
    x = x.clone()
    front = x.view(-1)[:10]
    front.copy_(scale[0] * torch.tensor([*values, -float('inf')])[:len(front)])
    return x


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def by_autograd(x, scale, beta, zero_point, low, high, mask):
    """The formulas as derivatives of clamps, roundings passed through."""

    def passed(values):
        return values + (values.round() - values).detach()

    u = (x - beta) / scale
    z = passed(zero_point)
    if mask == 'clip':
        code = passed((u + z).clamp(low, high) - z) + z
    else:
        code = (passed(u) + z).clamp(low, high)
    return (code - z) * scale + beta


@pytest.mark.parametrize('mask', ['clip', 'rounded'])
def test_gradients_are_those_of_clamps_and_passed_roundings(mask):
    x, dy = randn(400).double(), randn(400, seed=1).double()
    inputs = [
        v.double().requires_grad_() for v in (x, *quantizer(1, (True, True)))
    ]
    inputs[3].data.round_()
    codes = dict(low=-2, high=5, mask=mask)
    y = ops.lsq_fake_quantize(*inputs, **codes, factor=0.3)
    wanted = by_autograd(*inputs, **codes)
    torch.testing.assert_close(y, wanted)
    found = torch.autograd.grad(y, inputs, dy)
    wanted = torch.autograd.grad(wanted, inputs, dy)
    torch.testing.assert_close(found[0], wanted[0])
    for a, b in zip(found[1:], wanted[1:]):
        torch.testing.assert_close(a, 0.3 * b)


SHAPES = [((1, ), 0), ((3001, ), None), ((70, 3, 3, 3), 0), ((5, 40, 40), 1),
          ((2, 19, 33), -1), ((600, 3), 1), ((9000, ), 0)]


@pytest.mark.parametrize('shape, axis', SHAPES)
def test_values_and_gradients_equal_the_reference(shape, axis):
    num = 1 if axis is None else shape[axis]
    dy = randn(*shape, seed=3)
    options = itertools.product((True, False), (True, False),
                                ('clip', 'rounded'))
    for beta, zero, mask in options:
        args = quantizer(num, (beta, zero))
        x = edge_cases(3 * randn(*shape), args[0])
        args = *args, axis, -2, 1, 0.5, mask
        y = OPERATORS.lsq_fake_quantize(x, *args)
        assert same_bits(y, reference.lsq_fake_quantize(x, *args))
        found = OPERATORS.lsq_fake_quantize_backward(dy, x, *args)
        wanted = reference.lsq_fake_quantize_backward(dy, x, *args)
        assert same_bits(found[0], wanted[0])
        for a, b in zip(found[1:], wanted[1:]):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('axis', [None, 0, 1, 3])
def test_any_layout(layout, axis):
    x = in_layout(randn(3, 20, 6, 5), layout)
    num = 1 if axis is None else x.shape[axis]
    args = *quantizer(num), axis, -8, 7, 1., 'clip'
    y = OPERATORS.lsq_fake_quantize(x, *args)
    wanted = reference.lsq_fake_quantize(x, *args)
    assert torch.equal(y, wanted) and y.stride() == wanted.stride()
    for dy in (randn(3, 20, 6, 5, seed=1), randn(()).expand(3, 20, 6, 5)):
        found = OPERATORS.lsq_fake_quantize_backward(dy, x, *args)
        wanted = reference.lsq_fake_quantize_backward(dy, x, *args)
        assert torch.equal(found[0], wanted[0])
        assert found[0].stride() == wanted[0].stride()
        torch.testing.assert_close(found[1:], wanted[1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('shape, axis', [((0, 4), 1), ((4, 0), 0), ((4, 0), 1),
                                         ((0, ), None)])
def test_no_values(shape, axis):
    num = 1 if axis is None else shape[axis]
    args = *quantizer(num, (True, False)), axis, -8, 7, 1., 'clip'
    x = torch.zeros(shape)
    assert OPERATORS.lsq_fake_quantize(x, *args).shape == shape
    gradients = OPERATORS.lsq_fake_quantize_backward(x, x, *args)
    assert [len(g) for g in gradients[1:]] == [num, num, 0]
    assert not gradients[1].any() and not gradients[2].any()


@pytest.mark.skipif(
    bool(ops.build_info()['reason']), reason="the sums are PyTorch's")
@pytest.mark.parametrize('shape, axis', [((70001, ), None), ((5, 9, 1500), 1),
                                         ((9, 1500, 7), 1)])
def test_sums_do_not_depend_on_the_threads(shape, axis):
    num = 1 if axis is None else shape[axis]
    args = *quantizer(num), axis, -8, 7, 1., 'clip'
    x, dy = randn(*shape), randn(*shape, seed=1)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(OPERATORS.lsq_fake_quantize_backward(dy, x, *args))
    for other in results[1:]:
        assert all(same_bits(a, b) for a, b in zip(other, results[0]))


def test_a_number_without_dimensions():
    y = ops.lsq_fake_quantize(
        torch.tensor(1.3), torch.full((1, ), 0.5), low=-8, high=7)
    assert y.shape == () and y == 1.5


def test_nothing_but_the_inputs_is_kept():
    kept = []
    x, scale = randn(50).requires_grad_(), torch.ones(1, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        ops.lsq_fake_quantize(x, scale, low=-8, high=7)
    assert set(kept) == {x.data_ptr(), scale.data_ptr()}


def test_only_what_is_asked_for_gets_a_gradient():
    x, (scale, beta, _) = randn(50), quantizer(1)
    beta.requires_grad_()
    ops.lsq_fake_quantize(x, scale, beta, low=0, high=3).sum().backward()
    assert beta.grad.shape == (1, )
    assert x.grad is scale.grad is None


def test_used_twice_gradients_add_up():
    scale = torch.full((1, ), 0.3, requires_grad=True)
    parts = randn(2, 40)

    def grad(*values):
        y = sum(
            ops.lsq_fake_quantize(v, scale, low=-2, high=1).sum()
            for v in values)
        return torch.autograd.grad(y, scale)[0]

    torch.testing.assert_close(grad(*parts), grad(parts[0]) + grad(parts[1]))


def test_both_ways_of_calling_have_the_same_gradients():
    x = randn(3, 50).requires_grad_()
    scale, beta, zero = (v.requires_grad_() for v in quantizer(3))
    inputs = x, scale, beta, zero
    y = ops.lsq_fake_quantize(*inputs, axis=0, low=-2, high=1, factor=0.5)
    other = OPERATORS.lsq_fake_quantize(*inputs, 0, -2, 1, 0.5, 'clip')
    assert torch.equal(y, other)
    dy = randn(3, 50, seed=1)
    for a, b in zip(
            torch.autograd.grad(y, inputs, dy),
            torch.autograd.grad(other, inputs, dy)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('dtype', [
    torch.float32,
    pytest.param(torch.float64, marks=pytest.mark.slow),
])
def test_compiled_and_exported_it_is_the_same(dtype):

    class Net(torch.nn.Module):

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.full((4, ), 0.3))
            self.to(dtype)

        def forward(self, x):
            return ops.lsq_fake_quantize(
                2 * x, self.scale, axis=1, low=-8, high=7)

    net, x = Net(), randn(6, 4).to(dtype)
    compiled = torch.compile(net, fullgraph=True, backend='aot_eager')
    grads = []
    for function in (net, compiled):
        y = function(x)
        assert torch.equal(y, net(x))
        grads.append(torch.autograd.grad(y.square().sum(), net.scale))
    assert torch.equal(*(g[0] for g in grads))
    program = torch.export.export(net, (x, ))
    assert torch.equal(program.module()(x), net(x))
