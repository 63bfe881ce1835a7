"""Operators for onnxruntime, one by one, against those of PyTorch."""
import pytest
import torch
from one_node import CONV, run

from mmcompress import ops
from mmcompress.deploy.onnx import custom_ops, custom_ops_library

pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')
if not custom_ops._FILE.exists():
    pytest.skip('the library is not built', allow_module_level=True)

FLOAT, BITS, INT = torch.float32, torch.uint8, torch.int32


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def weight(*shape):
    """Packed bits of a weight, and what PyTorch's operators take."""
    num, channels, height, width = shape
    rows = ops.binary_pack(noise(*shape, seed=1))
    return rows, lambda groups=1: ops.binary_prepack(rows, list(shape), groups)


def vectors(num_inputs, num_outputs):
    """All that a fused layer may have."""
    names = 'scale', 'shift', 'pre', 'slope', 'post', 'next_threshold'
    found = dict(zip(names, noise(6, num_outputs, seed=2)))
    found['threshold'] = noise(num_inputs, seed=3) * 0.2
    found['flip'] = noise(num_inputs, seed=4) > 0.5
    found['next_flip'] = noise(num_outputs, seed=5) > 0.5
    return found


def in_order(rows, given):
    """Inputs of a fused node behind ``x``."""
    names = ('scale', 'shift', 'threshold', 'flip', 'residual', 'pre', 'slope',
             'post', 'next_threshold', 'next_flip')
    return dict(weight_bits=rows, **{name: given.get(name) for name in names})


# channels, outputs, kernel, and what differs from CONV
SHAPES = dict(
    plain=(64, 64, 3, dict(pads=[1, 1])),
    odd=(37, 45, 3, dict(pads=[2, 1], strides=[2, 1], dilations=[1, 2])),
    groups=(64, 96, 3, dict(pads=[1, 1], group=2)),
    minus_one=(32, 40, 3, dict(pads=[1, 1], pad_value=-1)),
    pointwise=(128, 33, 1, dict()))


@pytest.mark.parametrize('channels_last', [0, 1])
@pytest.mark.parametrize('name', SHAPES)
def test_a_fused_convolution(name, channels_last):
    channels, num, size, changes = SHAPES[name]
    conv = dict(CONV, **changes)
    shape = [num, channels // conv['group'], size, size]
    rows, prepack = weight(*shape)
    x = noise(2, channels, 9, 13)
    geometry = (shape, conv['strides'], conv['pads'], conv['dilations'],
                conv['group'], conv['pad_value'])
    given = vectors(channels, num)
    scale, shift = given.pop('scale'), given.pop('shift')
    size_of = ops.binary_conv2d(
        ops.binary_pack(x), prepack(conv['group']), *geometry)
    residual = noise(*size_of.shape, seed=6)
    y, bits = ops.binary_conv2d_fused(
        x,
        prepack(conv['group']),
        scale,
        shift,
        *geometry,
        residual=residual,
        **given)
    order = [0, 2, 3, 1]
    dynamic = dict(x=x, residual=residual)
    if channels_last:
        dynamic = {k: v.permute(order) for k, v in dynamic.items()}
    constants = in_order(rows, dict(given, scale=scale, shift=shift))
    attributes = dict(
        conv,
        channels=shape[1],
        channels_last=channels_last,
        residual_channels_last=channels_last)
    found = run('BinaryConv2dFused', dynamic, constants, [FLOAT, BITS],
                **attributes)
    assert found[0].equal(y.permute(order)) and found[1].equal(bits)
    found, = run('BinaryConv2dFusedBits', dynamic, constants, [BITS],
                 **attributes)
    assert found.equal(bits)


def test_bits_in_and_little_around():
    shape = [64, 64, 3, 3]
    rows, prepack = weight(*shape)
    bits = ops.binary_pack(noise(1, 64, 5, 6))
    scale, shift = noise(2, 64, seed=2)
    y, _ = ops.binary_conv2d_fused(bits, prepack(), scale, shift, shape, 1, 1)
    attributes = dict(CONV, channels=64, pads=[1, 1], residual_channels_last=0)
    found, = run('BinaryConv2dFused', dict(x=bits),
                 dict(weight_bits=rows, scale=scale, shift=shift), [FLOAT],
                 **attributes)
    assert found.equal(y.permute(0, 2, 3, 1))


def test_packing_counting_and_limits():
    shape = [70, 40, 3, 3]
    rows, prepack = weight(*shape)
    x = noise(2, 40, 8, 7)
    threshold, flip = noise(40, seed=3), noise(40, seed=4) > 0
    bits = ops.binary_pack(x, threshold, flip)
    for channels_last, images in ((0, x), (1, x.permute(0, 2, 3, 1))):
        found, = run(
            'BinaryPack',
            dict(x=images),
            dict(threshold=threshold, flip=flip), [BITS],
            channels=40,
            channels_last=channels_last)
        assert found.equal(bits)
    conv = dict(CONV, channels=40, pads=[1, 1])
    k = ops.binary_conv2d(bits, prepack(), shape, 1, 1)
    found, = run('BinaryConv2d', dict(x=bits), dict(weight_bits=rows), [INT],
                 **conv)
    assert found.equal(k.permute(0, 2, 3, 1))
    limit = torch.arange(-35, 35, dtype=INT)
    flip = noise(70, seed=5) > 0
    found, = run('BinaryConv2dBits', dict(x=bits),
                 dict(weight_bits=rows, limit=limit, flip=flip), [BITS],
                 **conv)
    assert found.equal(
        ops.binary_conv2d_bits(bits, prepack(), limit, flip, shape, 1, 1))


@pytest.mark.parametrize('leading', [(5, ), (2, 3), (0, )])
def test_linear_layers(leading):
    shape = [50, 70, 1, 1]
    rows, prepack = weight(*shape)
    x, residual = noise(*leading, 70), noise(*leading, 50, seed=6)
    given = vectors(70, 50)
    scale, shift = given.pop('scale'), given.pop('shift')
    expected = ops.binary_linear_fused(
        x, prepack(), scale, shift, shape, residual=residual, **given)
    constants = in_order(rows, dict(given, scale=scale, shift=shift))
    dynamic = dict(x=x, residual=residual)
    found = run(
        'BinaryLinearFused', dynamic, constants, [FLOAT, BITS], channels=70)
    assert all(a.equal(b) for a, b in zip(found, expected, strict=True))
    bits, = run(
        'BinaryLinearPack',
        dict(x=x),
        dict(threshold=given['threshold'], flip=given['flip']), [BITS],
        channels=70)
    assert bits.equal(
        ops.binary_linear_pack(x, given['threshold'], given['flip']))
    k, = run(
        'BinaryLinear',
        dict(x=bits),
        dict(weight_bits=rows), [INT],
        channels=70)
    assert k.equal(ops.binary_linear(bits, prepack(), shape))
    limit, flip = torch.arange(50, dtype=INT) - 25, given['next_flip']
    found, = run(
        'BinaryLinearBits',
        dict(x=bits),
        dict(weight_bits=rows, limit=limit, flip=flip), [BITS],
        channels=70)
    assert found.equal(
        ops.binary_linear_bits(bits, prepack(), limit, flip, shape))


@pytest.mark.parametrize('channels', [1, 20])
def test_roi_align(channels):
    x = noise(2, channels, 9, 11)
    rois = torch.tensor([[0, 1., 2, 60, 50], [1, -4, 3, 20, 99]])
    attributes = dict(
        output_size=[3, 2], spatial_scale=0.125, sampling_ratio=0, aligned=1)
    expected = ops.roi_align(x, rois, (3, 2), 0.125, 0, True)
    for channels_last, maps in ((0, x), (1, x.permute(0, 2, 3, 1))):
        found, = run(
            'RoIAlign',
            dict(x=maps, rois=rois),
            dict(rois=None), [FLOAT],
            channels_last=channels_last,
            **attributes)
        assert found.equal(expected)


def test_threads_give_the_same():
    shape = [128, 128, 3, 3]
    rows, prepack = weight(*shape)
    x, (scale, shift) = noise(1, 128, 40, 40), noise(2, 128, seed=2)
    y, _ = ops.binary_conv2d_fused(x, prepack(), scale, shift, shape, 1, 1)
    constants = dict(weight_bits=rows, scale=scale, shift=shift)
    for threads in (1, 3):
        found, = run(
            'BinaryConv2dFused',
            dict(x=x),
            constants, [FLOAT],
            threads,
            **dict(CONV, channels=128, pads=[1, 1]),
            residual_channels_last=0)
        assert found.equal(y.permute(0, 2, 3, 1))


def wrong(**changes):
    """Arguments of a small convolution, some of them wrong."""
    rows, _ = weight(8, 16, 3, 3)
    scale, shift = noise(2, 8)
    given = dict(
        x=noise(1, 16, 4, 4), weight_bits=rows, scale=scale, shift=shift)
    given.update({k: v for k, v in changes.items() if k in given})
    attributes = dict(CONV, channels=16, residual_channels_last=0)
    attributes.update({k: v for k, v in changes.items() if k in attributes})
    dynamic = {name: given[name] for name in ('x', *changes.get('moving', ()))}
    constants = {
        k: None if k in dynamic else v
        for k, v in given.items() if k != 'x'
    }
    return run('BinaryConv2dFused', dynamic, constants, [FLOAT], **attributes)


@pytest.mark.parametrize('changes, message', [
    (dict(x=noise(1, 15, 4, 4)), 'x has shape .1, 15, 4, 4., the weight wa'),
    (dict(x=noise(16, 4)), 'x must have four dimensions'),
    (dict(x=noise(1, 16, 2, 4)), 'the kernel does not fit'),
    (dict(x=torch.zeros(1, 16, 4, 4, dtype=INT)), 'x must be float32'),
    (dict(scale=noise(7)), r'scale must have shape \(8\), it has \(7\)'),
    (dict(moving=['shift']), 'shift must be a constant'),
    (dict(channels=200), 'weight_bits must be .*bytes of 200 channels'),
    (dict(channels=2**62), 'weight_bits must be'),
    (dict(group=3), 'group must divide the 8 output channels, it is 3'),
    (dict(strides=[0, 1]), r'strides must be two numbers.*\(0, 1\)'),
    (dict(pads=[2**62, 1]), 'pads must be two numbers'),
    (dict(dilations=[1]), 'dilations must be two numbers'),
    (dict(pad_value=1), 'pad_value must be 0 or -1: 1'),
])  # yapf: disable
def test_errors_name_the_operator_and_the_argument(changes, message):
    with pytest.raises(Exception, match=f'BinaryConv2dFused: {message}'):
        wrong(**changes)


def test_a_region_of_no_image_is_an_error():
    with pytest.raises(Exception, match='number of an image, row 0 has 1'):
        run('RoIAlign',
            dict(x=noise(1, 2, 3, 3), rois=torch.ones(1, 5)),
            dict(rois=None), [FLOAT],
            output_size=[1, 1],
            spatial_scale=1.,
            sampling_ratio=0,
            aligned=1,
            channels_last=0)


def test_a_library_that_is_not_built(monkeypatch, tmp_path):
    assert custom_ops_library().endswith('libmmcompress_ort.so')
    monkeypatch.setattr(custom_ops, '_FILE', tmp_path / 'lib.so')
    with pytest.raises(FileNotFoundError, match='not built.*`make ops`'):
        custom_ops_library()
