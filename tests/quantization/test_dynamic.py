import pytest
import torch

from mmcompress.quantization import Dynamic


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('kind', ['symmetric', 'minmax'])
def test_a_token_does_not_depend_on_the_others(kind):
    quantizer = Dynamic(8, kind=kind, per_token=True)
    x = normal(2, 3, 8)
    alone = torch.stack([quantizer(x[:, i]) for i in range(3)], 1)
    torch.testing.assert_close(quantizer(x), alone)


def test_a_matrix_of_four_dimensions_has_one_range():
    x = normal(2, 3, 4, 5)
    codes = Dynamic(8, per_token=True).quantize_int(x)
    assert codes.scale.shape == (2, 3, 1, 1)


@pytest.mark.parametrize('kind', ['symmetric', 'minmax'])
def test_the_whole_range_is_used(kind):
    quantizer = Dynamic(4, kind=kind)
    codes = quantizer.quantize_int(torch.linspace(-3, 3, 100)).values
    assert codes.max() == quantizer.high and codes.min() == quantizer.low


def test_evaluation_uses_the_moving_average_of_training():
    quantizer = Dynamic(8, act_range='ema', momentum=0.5)
    plain = Dynamic(8)
    for scale in (1, 3):
        x = torch.linspace(-scale, scale, 9)
        assert torch.equal(quantizer(x), plain(x))
    assert quantizer.largest == 2 and quantizer.least == -2
    quantizer.eval()
    torch.testing.assert_close(
        quantizer(torch.tensor([5., -0.1])), torch.tensor([2, -6 * 2 / 127]))
    assert quantizer.grid().scale == 2 / 127


def test_evaluation_changes_no_range():
    quantizer = Dynamic(8, act_range='ema')
    quantizer(normal(9))
    before = quantizer.largest.clone()
    with torch.no_grad():
        quantizer(9 * normal(9))
    quantizer.eval()(9 * normal(9))
    assert torch.equal(quantizer.largest, before)


@pytest.mark.parametrize(
    'options', [
        dict(kind='minmax', signed=True),
        dict(per_token=True, axis=0, size=3),
        dict(per_token=True, act_range='ema'),
        dict(clip=0.),
        dict(kind='no'),
        dict(signed='auto')
    ],
    ids=str)
def test_refuses_options_that_contradict_each_other(options):
    with pytest.raises(ValueError, match='Dynamic: '):
        Dynamic(8, **options)
