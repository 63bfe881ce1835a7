import pytest
import torch

from mmcompress.quantization import TernaryWeight


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inside(*shape):
    """Weights that nothing clips."""
    return normal(*shape).clamp(-2.4, 2.4)


def per_channel(weight, **options):
    return TernaryWeight(axis=0, size=len(weight), **options)


def test_a_row_has_three_values():
    weight = normal(4, 3, 3, 3)
    y = per_channel(weight)(weight)
    for row in y.flatten(1):
        assert row.abs().unique().numel() == 2 and row.unique().numel() == 3


def test_four_tenths_of_gaussian_weights_are_zero():
    zeros = TernaryWeight()(normal(100_000)) == 0
    assert 0.40 < zeros.float().mean() < 0.45


def test_the_scale_is_the_best_one_for_the_codes():
    weight = inside(2000)
    codes = TernaryWeight().quantize_int(weight)
    errors = [(weight - factor * codes.dequantize()).square().sum()
              for factor in (0.99, 1, 1.01)]
    assert errors[1] < errors[0] and errors[1] < errors[2]


def test_scaled_weights_have_the_same_codes():
    weight = inside(4, 20)
    quantizer = per_channel(weight)
    one, half = [quantizer.quantize_int(w) for w in (weight, weight / 2)]
    assert torch.equal(one.values, half.values)
    torch.testing.assert_close(one.scale, 2 * half.scale)


def test_scales_per_channel_fit_better_than_one():
    weight = normal(8, 200) * torch.linspace(0.1, 1, 8)[:, None]
    errors = [(quantizer(weight) - weight).square().sum()
              for quantizer in (per_channel(weight), TernaryWeight())]
    assert errors[0] < errors[1]


def test_a_row_of_zeros_stays_zero():
    weight = normal(3, 8)
    weight[1] = 0
    codes = per_channel(weight).quantize_int(weight)
    assert not codes.values[1].any() and codes.scale[1] == 0


@pytest.mark.parametrize('options', [dict(clip=0.), dict(factor=-0.7)])
def test_refuses_options_that_leave_nothing(options):
    with pytest.raises(ValueError, match='must be positive'):
        TernaryWeight(**options)
