import pytest
import torch
from operators import assert_close, needs_compiled, on_both, with_grads

pytestmark = needs_compiled

# stride, padding, dilation, groups, deformable groups, kernel
SETTINGS = [
    (1, 1, 1, 1, 1, (3, 3)),
    (2, 1, 1, 2, 1, (3, 3)),
    (1, 2, 2, 1, 2, (3, 3)),
    ((2, 1), (0, 1), (1, 2), 2, 4, (2, 3)),
    (1, 0, 1, 4, 2, (1, 1)),
]


def tensors(setting, size=(7, 8), num_images=2, spread=2.0, dtype=torch.float):
    """Input, offset, mask, weight and bias."""
    stride, padding, dilation, groups, deform_groups, kernel = setting
    g = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=g, dtype=torch.double).to(dtype)

    x = random(num_images, 4, *size)
    weight = random(8, 4 // groups, *kernel)
    out = torch.nn.functional.conv2d(x, weight, None, stride, padding,
                                     dilation, groups).shape[2:]
    cells = kernel[0] * kernel[1] * deform_groups
    return (x, random(num_images, 2 * cells, *out) * spread,
            random(num_images, cells, *out).sigmoid(), weight, random(8))


def run(setting, modulated, bias=True, **kwargs):
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d
    *conv, _ = setting
    x, offset, mask, weight, b = tensors(setting, **kwargs)
    if not modulated:
        return on_both(
            'deform_conv', lambda: with_grads(
                lambda *t: deform_conv2d(*t, *conv), x, offset, weight))
    leaves = (x, offset, mask, weight) + ((b, ) if bias else ())
    return on_both(
        'modulated_deform_conv', lambda: with_grads(
            lambda *t: modulated_deform_conv2d(*t, *([] if bias else [None]), *
                                               conv), *leaves))


@pytest.mark.parametrize('setting', SETTINGS, ids=str)
@pytest.mark.parametrize('modulated', [False, True])
def test_output_and_gradients(setting, modulated):
    assert_close(*run(setting, modulated), ulps=64)


@pytest.mark.parametrize('modulated', [False, True])
def test_in_double_precision(modulated):
    assert_close(*run(SETTINGS[0], modulated, dtype=torch.double), ulps=64)


@pytest.mark.parametrize('modulated', [False, True])
def test_offsets_of_zero_have_the_derivative_to_the_right(modulated):
    compiled, ours = run(SETTINGS[0], modulated, spread=0.0)
    assert_close(compiled, ours, ulps=64)
    assert ours[2].abs().max() > 0.1


@pytest.mark.parametrize('modulated', [False, True])
def test_offsets_far_outside(modulated):
    assert_close(*run(SETTINGS[0], modulated, spread=9.0), ulps=64)


def test_without_bias():
    assert_close(*run(SETTINGS[0], True, bias=False), ulps=64)


def test_plain_with_zero_offsets_is_a_convolution():
    x, offset, _, weight, _ = tensors(SETTINGS[1], spread=0.0)
    _, ours = run(SETTINGS[1], False, spread=0.0)
    torch.testing.assert_close(
        ours[0],
        torch.nn.functional.conv2d(x, weight, None, 2, 1, 1, 2),
        rtol=1e-5,
        atol=1e-5)


def test_an_offset_that_does_not_fit():
    from mmcompress.light_ops.ext import deform_conv_forward
    x, offset, _, weight, _ = tensors(SETTINGS[0])
    with pytest.raises(ValueError, match=r'offset .* should be \(2, 18, 7, 8'):
        deform_conv_forward(x, weight, offset[:, :4], None, None, None, 3, 3,
                            1, 1, 1, 1, 1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match='2 group'):
        deform_conv_forward(x, weight, offset, None, None, None, 3, 3, 1, 1, 1,
                            1, 1, 1, 2, 1, 1)
