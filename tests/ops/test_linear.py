import pytest
import torch
from signs import prepack, randn, runnable_isas, sign

from mmcompress import ops

ISAS = runnable_isas()


@pytest.mark.parametrize('isa', ISAS)
@pytest.mark.parametrize('channels, num', [(384, 1536), (70, 10), (1, 1),
                                           (64, 65)])
@pytest.mark.parametrize('leading', [(197, ), (2, 3, 5), (1, ), ()])
def test_counts_are_exact(leading, channels, num, isa):
    x, weight = randn(*leading, channels), randn(num, channels, seed=1)
    shape = [num, channels, 1, 1]
    blob = prepack(weight.view(shape), 1, isa)
    bits = ops.binary_linear_pack(x)
    k = ops.binary_linear(bits, blob, shape)
    assert k.dtype == torch.int32
    expected = sign(x).double() @ sign(weight).double().T
    assert torch.equal(k, expected.to(torch.int32))

    scale, shift, threshold = (randn(num, seed=i) for i in (2, 3, 4))
    residual = randn(*leading, num, seed=5)
    y, out = ops.binary_linear_fused(
        x,
        blob,
        scale,
        shift,
        shape,
        residual=residual,
        next_threshold=threshold)
    assert torch.equal(y, scale * k.float() + shift + residual)
    assert torch.equal(out, ops.binary_linear_pack(y, threshold))
    limit, flip = ops.integer_limits(scale, shift, threshold, None, channels)
    packed = ops.binary_linear_bits(bits, blob, limit, flip, shape)
    _, expected = ops.binary_linear_fused(
        bits,
        blob,
        scale,
        shift,
        shape,
        next_threshold=threshold,
        bits_only=True)
    assert torch.equal(packed, expected)


@pytest.mark.parametrize('view', [
    lambda x: x[:, :130:2],
    lambda x: x[1:, 5:70],
    lambda x: x.T[:65].T,
    lambda x: x.view(2, 3, 200)[..., 100:165],
    lambda x: x[:1, :65].expand(3, -1),
    lambda x: x[:, 7:8],
])
def test_tokens_lie_anywhere(view):
    x, residual = view(randn(6, 200)), view(randn(6, 200, seed=1))
    num = x.shape[-1]
    weight, vector = randn(num, num, 1, 1, seed=2), randn(num, seed=3)
    shape = list(weight.shape)
    blob = prepack(weight)

    def run(x, residual):
        y, bits = ops.binary_linear_fused(
            x,
            blob,
            vector,
            vector,
            shape,
            residual=residual,
            threshold=vector,
            next_threshold=vector)
        packed = ops.binary_linear_pack(x, vector)
        return y, bits, packed, ops.binary_linear(packed, blob, shape)

    plain = [
        t.clone(memory_format=torch.contiguous_format) for t in (x, residual)
    ]
    for a, b in zip(run(x, residual), run(*plain)):
        assert torch.equal(a, b)


def test_packed_tokens_lie_anywhere():
    blob, shape = prepack(randn(10, 70, 1, 1)), [10, 70, 1, 1]
    bits = ops.binary_linear_pack(randn(8, 70)).view(4, 2, 16)[:, 1]
    assert not bits.is_contiguous()
    assert torch.equal(
        ops.binary_linear(bits, blob, shape),
        ops.binary_linear(bits.clone(), blob, shape))


def test_no_tokens():
    blob, vector = prepack(randn(10, 70, 1, 1)), randn(10)
    bits = ops.binary_linear_pack(torch.zeros(2, 0, 70))
    assert bits.shape == (2, 0, 16)
    assert ops.binary_linear(bits, blob, [10, 70, 1, 1]).shape == (2, 0, 10)
    y, out = ops.binary_linear_fused(
        torch.zeros(2, 0, 70),
        blob,
        vector,
        vector, [10, 70, 1, 1],
        next_threshold=vector)
    assert y.shape == (2, 0, 10) and out.shape == (2, 0, 8)
