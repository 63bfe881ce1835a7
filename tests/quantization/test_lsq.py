import pytest
import torch

from mmcompress.quantization import LSQ


def normal(*shape, seed=0):
    return torch.randn(
        shape,
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.double)


def begun(scale, **options):
    quantizer = LSQ(4, signed=True, **options).double()
    quantizer(normal(8))
    quantizer.scale.data.fill_(scale)
    return quantizer


def test_scaled_values_and_scale_give_scaled_results():
    x = normal(50)
    torch.testing.assert_close(begun(0.6)(3 * x), 3 * begun(0.2)(x))


def test_values_on_the_grid_give_the_scale_no_gradient():
    quantizer = begun(0.25)
    quantizer(0.25 * torch.arange(-8, 8.).double()).backward(normal(16))
    assert quantizer.scale.grad.item() == 0


def test_the_first_8_bit_scale_clips_little():
    x = normal(4000)
    errors = []
    for init in ('auto', 'lsq'):
        quantizer = LSQ(8, init=init).double()
        errors.append((quantizer(x) - x).square().mean())
    assert errors[0] < errors[1] / 4


def test_gradients_of_samples_do_not_depend_on_the_batch():
    x, dy = normal(1, 20), normal(1, 20, seed=1)
    grads = []
    for num in (1, 4):
        quantizer = begun(0.3, grad_scale='features')
        quantizer(x.repeat(num, 1)).backward(dy.repeat(num, 1))
        grads.append(quantizer.scale.grad / num)
    torch.testing.assert_close(*grads)


def test_one_signed_bit_is_refused():
    for signed in (True, 'auto'):
        with pytest.raises(ValueError, match='1-bit layer'):
            LSQ(1, signed=signed)


@pytest.mark.parametrize('option',
                         ['offset', 'mask', 'init', 'init_stat', 'grad_scale'])
def test_unknown_options_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be one of.*'no'"):
        LSQ(4, **{option: 'no'})
