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
