"""The CUDA operators against their definition, bit for bit.

``cuda`` runs them where a GPU and the library are; ``emulated`` runs the same
binding and kernels on the CPU, through ``ops/csrc/cuda/emulator``.
"""
import pytest
import torch
from cuda_device import HAS_CUDA, assert_same, cuda_or_emulator  # noqa: F401
from signs import LAYOUTS, count, in_layout, randn

from mmcompress import ops
from mmcompress.ops import library, reference

# the emulator has to be compiled
pytestmark = [pytest.mark.slow, pytest.mark.gate]


def to(device, *values):
    return [v.to(device) if isinstance(v, torch.Tensor) else v for v in values]


def prepack(weight, device, groups=1, isa=''):
    bits = reference.binary_pack(weight).to(device)
    return ops.binary_prepack(bits, list(weight.shape), groups, isa)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('channels', [1, 31, 64, 100, 257])
def test_pack(device, channels, layout):
    x = in_layout(randn(2, channels, 5, 7), layout)
    x[0, 0, 0, 0] = float('nan')
    x[0, 0, 1, :] = -0.0
    threshold = randn(channels, seed=1)
    flip = randn(channels, seed=2) > 0
    threshold[::3] = x[1, ::3, 2, 2]  # ties
    for arguments in ((None, None), (threshold, None), (threshold, flip)):
        expected = reference.binary_pack(x, *arguments)
        # .to(device) would lose the layout
        assert_same(
            ops.binary_pack(
                in_layout(x.to(device), layout), *to(device, *arguments)),
            expected)
    signs = ops.binary_unpack(expected.to(device), channels)
    assert_same(signs, reference.binary_unpack(expected, channels))


CONVOLUTIONS = [
    # batch, C, height, width, K, kernel, options
    (2, 64, 9, 8, 64, 3, dict(padding=1)),
    (1, 128, 7, 7, 128, 3, dict(padding=1, stride=2)),
    (1, 192, 5, 6, 130, 3, dict(padding=(2, 0), pad_value=-1)),
    (3, 100, 4, 11, 7, 3, dict(padding=3, dilation=2, stride=(1, 2))),
    (1, 512, 3, 3, 64, 1, dict()),
    (1, 1, 6, 5, 33, 5, dict(padding=2)),
    (2, 256, 1, 1, 80, 1, dict()),
    (1, 96, 6, 6, 64, 3, dict(padding=1, groups=2)),
    (1, 66, 5, 5, 66, 3, dict(padding=1, groups=66, pad_value=-1)),
]


def isas(options):
    return ['', 'generic'] if options.get(
        'groups', 1) > 1 else ['', 'tensor_core', 'generic']


def random_convolution(batch, channels, height, width, num, kernel, options):
    x = randn(batch, channels, height, width)
    each = channels // options.get('groups', 1)
    return x, randn(num, each, kernel, kernel, seed=1)


@pytest.mark.parametrize('conv', CONVOLUTIONS, ids=str)
def test_counts_are_exact(device, conv):
    options = conv[-1]
    x, weight = random_convolution(*conv)
    expected = count(x, weight, **options)
    bits = ops.binary_pack(x.to(device))
    for isa in isas(options):
        blob = prepack(weight, device, options.get('groups', 1), isa)
        k = ops.binary_conv2d(bits, blob, list(weight.shape), **options)
        assert k.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(k.cpu(), expected), isa


@pytest.mark.parametrize('conv', CONVOLUTIONS, ids=str)
def test_packed_in_packed_out(device, conv):
    options = conv[-1]
    x, weight = random_convolution(*conv)
    num, products = len(weight), weight[0].numel()
    scale, shift = randn(num, seed=2), randn(num, seed=3)
    threshold, next_flip = randn(num, seed=4), randn(num, seed=5) > 0
    k = count(x, weight, **options)
    y = k * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    expected = reference.binary_pack(y, threshold, next_flip)
    limits = ops.integer_limits(scale, shift, threshold, next_flip, products)
    bits = ops.binary_pack(x.to(device))
    for isa in isas(options):
        blob = prepack(weight, device, options.get('groups', 1), isa)
        out = ops.binary_conv2d_bits(bits, blob, *to(device, *limits),
                                     list(weight.shape), **options)
        assert_same(out, expected)


@pytest.mark.parametrize('present', range(8))
@pytest.mark.parametrize('conv', CONVOLUTIONS[:5] + CONVOLUTIONS[-2:], ids=str)
def test_fused(device, conv, present):
    options = conv[-1]
    x, weight = random_convolution(*conv)
    num, channels, shape = len(weight), x.shape[1], list(weight.shape)
    vectors = dict(scale=randn(num, seed=2), shift=randn(num, seed=3))
    vectors['scale'][::5] = float('inf')
    vectors['shift'][::7] = -0.0
    residual = randn(*count(x, weight, **options).shape, seed=4)
    optional = [
        dict(pre=randn(num, seed=5), post=randn(num, seed=6)),
        dict(slope=randn(num, seed=7), residual=residual),
        dict(
            threshold=randn(channels, seed=8),
            flip=randn(channels, seed=9) > 0,
            next_threshold=randn(num, seed=10),
            next_flip=randn(num, seed=11) > 0),
    ]
    for i, group in enumerate(optional):
        if present >> i & 1:
            vectors |= group
    groups = options.get('groups', 1)
    blob = reference.binary_prepack(
        reference.binary_pack(weight), shape, groups)
    keys = ('threshold', 'flip', 'residual', 'pre', 'slope', 'post',
            'next_threshold', 'next_flip')
    pairs = [[v, v] if isinstance(v, int) else v
             for v in (options.get(name, default)
                       for name, default in (('stride', 1), ('padding', 0),
                                             ('dilation', 1)))]
    y, bits = reference.binary_conv2d_fused(
        x, blob, vectors['scale'], vectors['shift'],
        *(vectors.get(key) for key in keys), shape, *pairs, groups,
        options.get('pad_value', 0))
    moved = {key: value.to(device) for key, value in vectors.items()}
    if 'residual' in moved:
        layout = LAYOUTS[sum(conv[:6]) % len(LAYOUTS)]
        moved['residual'] = in_layout(moved['residual'], layout)
    scale, shift = moved.pop('scale'), moved.pop('shift')
    for isa in isas(options):
        blob = prepack(weight, device, groups, isa)
        results = ops.binary_conv2d_fused(
            x.to(device), blob, scale, shift, shape, **moved, **options)
        assert_same(results[0], y)
        assert_same(results[1], bits)
        if 'next_threshold' in moved:
            results = ops.binary_conv2d_fused(
                x.to(device),
                blob,
                scale,
                shift,
                shape,
                bits_only=True,
                **moved,
                **options)
            assert results[0].numel() == 0
            assert_same(results[1], bits)


def test_no_images(device):
    weight = randn(64, 64, 3, 3)
    shape, vector = [64, 64, 3, 3], torch.ones(64, device=device)
    blob = prepack(weight, device)
    x = torch.zeros(0, 64, 5, 5, device=device)
    bits = ops.binary_pack(x)
    assert bits.shape == (0, 5, 5, 8)
    assert ops.binary_unpack(bits, 64).shape == x.shape
    assert ops.binary_conv2d(bits, blob, shape).shape == (0, 64, 3, 3)
    y, _ = ops.binary_conv2d_fused(x, blob, vector, vector, shape)
    assert y.shape == (0, 64, 3, 3)


@pytest.mark.parametrize('offset', [1, 8])
def test_slices_that_are_not_aligned(device, offset):
    x, weight = randn(1, 128, 5, 5), randn(64, 128, 3, 3, seed=1)
    blob = prepack(weight, device)

    def shifted(tensor):
        buffer = tensor.new_full((offset + tensor.numel(), ), 255)
        return buffer[offset:].view(tensor.shape).copy_(tensor)

    bits = shifted(ops.binary_pack(x.to(device)))
    assert bits.data_ptr() % 16 != 0
    k = ops.binary_conv2d(bits, shifted(blob), [64, 128, 3, 3])
    assert torch.equal(k.cpu(), count(x, weight))


def test_one_tensor_per_token(device):
    x, weight = randn(37, 3, 100), randn(70, 100, seed=1)
    bits = ops.binary_linear_pack(x.to(device))
    blob = prepack(weight[..., None, None], device)
    k = ops.binary_linear(bits, blob, [70, 100, 1, 1])
    signs = (x > 0) * 2.0 - 1
    assert torch.equal(k.cpu(), (signs @ ((weight > 0) * 2.0 - 1).T).int())


@pytest.mark.parametrize('shape, axis', [((7, ), None), ((9001, ), None),
                                         ((3, 2, 4100), 1), ((20, 3, 3), 0),
                                         ((600, 40), -1), ((2, 3, 5, 7), 1)])
def test_fake_quantization(device, shape, axis):
    num = 1 if axis is None else shape[axis]
    x, dy = 3 * randn(*shape), randn(*shape, seed=1)
    scale = randn(num, seed=2).abs() + 0.1
    x.view(-1)[:5] = scale[0] * torch.tensor([-2, 1, 1.5, -0.0, 1e9])
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    run = library.operators
    for beta, zero in ((False, False), (True, False), (False, True)):
        args = (scale, randn(num, seed=3) if beta else None,
                3 * randn(num, seed=4) if zero else None, axis, -2, 1, 0.5,
                'rounded' if zero else 'clip')
        moved = to(device, x, *args)
        assert_same(
            run.lsq_fake_quantize(*moved),
            reference.lsq_fake_quantize(x, *args))
        found = run.lsq_fake_quantize_backward(dy.to(device), *moved)
        wanted = reference.lsq_fake_quantize_backward(dy, x, *args)
        assert_same(found[0], wanted[0])
        for a, b in zip(found[1:], wanted[1:]):
            torch.testing.assert_close(a.cpu(), b, rtol=1e-5, atol=1e-4)
        again = run.lsq_fake_quantize_backward(dy.to(device), *moved)
        assert all(torch.equal(a, b) for a, b in zip(again, found))


def test_fake_quantization_of_nothing(device):
    x, vector = torch.zeros(4, 0, device=device), torch.ones(4, device=device)
    args = x, vector, vector, None, 0, -2, 1, 0.5, 'clip'
    assert library.operators.lsq_fake_quantize(*args).shape == (4, 0)
    _, *gradients = library.operators.lsq_fake_quantize_backward(x, *args)
    assert [len(g) for g in gradients] == [4, 4, 0]
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize('num, protected', [(1, []), (50, []), (65, [0]),
                                            (131, [0, 1, 130])])
def test_merging_tokens(device, num, protected):
    keys = randn(2, num, 3, 20).transpose(1, 2)
    x, mass = randn(2, num, 33, seed=1), randn(2, num, 1, seed=2).relu().ceil()
    for masses in (None, mass):
        for of in (keys, keys.ceil()):
            args = of, x, masses, num // 4, protected
            found = library.operators.match_merge(*to(device, *args))
            wanted = reference.match_merge(*args)
            assert_same(found[2], wanted[2])
            for a, b in zip(found[:2], wanted[:2]):
                torch.testing.assert_close(a.cpu(), b, rtol=1e-6, atol=1e-6)


def test_errors_name_the_argument(device):
    shape = [70, 66, 3, 3]
    bits = torch.zeros(1, 5, 5, 16, dtype=torch.uint8, device=device)
    weight_bits = torch.zeros(70, 3, 3, 16, dtype=torch.uint8, device=device)
    blob = ops.binary_prepack(weight_bits, shape)
    x, vector = torch.zeros(1, 66, 5, 5), torch.zeros(70)
    x, vector = x.to(device), vector.to(device)
    keys = torch.ones(1, 1, 40, 4, device=device)

    def conv2d(bits=bits, blob=blob, shape=shape, **options):
        return ops.binary_conv2d(bits, blob, shape, **options)

    def fused(x=x, scale=vector, **options):
        return ops.binary_conv2d_fused(x, blob, scale, vector, shape,
                                       **options)

    calls = [
        ('x', lambda: ops.binary_pack(x.double())),
        ('x', lambda: ops.binary_pack(x[0])),
        ('threshold', lambda: ops.binary_pack(x, vector)),
        ('flip', lambda: ops.binary_pack(x, None, vector[:66])),
        ('channels', lambda: ops.binary_unpack(bits, 64)),
        ('weight_bits', lambda: ops.binary_prepack(x, shape)),
        ('weight_shape', lambda: ops.binary_prepack(weight_bits, shape[:3])),
        ('groups', lambda: ops.binary_prepack(weight_bits, shape, 3)),
        ('avx2', lambda: ops.binary_prepack(weight_bits, shape, 1, 'avx2')),
        ('tensor_core', lambda: ops.binary_prepack(
            weight_bits, shape, 2, 'tensor_core')),
        ('bits', lambda: conv2d(bits[..., :8])),
        ('blob', lambda: conv2d(blob=vector)),
        ('blob', lambda: conv2d(blob=blob[:-1])),
        ('blob', lambda: conv2d(shape=[70, 66, 1, 9], padding=4)),
        ('stride', lambda: conv2d(stride=0)),
        ('stride', lambda: conv2d(stride=2**62)),
        ('padding', lambda: conv2d(padding=2**62)),
        ('padding', lambda: conv2d(padding=(0, 4097))),
        ('dilation', lambda: conv2d(dilation=2**62)),
        ('dilation', lambda: conv2d(padding=4096, dilation=2**32)),
        ('groups', lambda: conv2d(groups=2**62)),
        ('weight_shape', lambda: conv2d(shape=[70, 2**62, 3, 3])),
        ('weight_shape', lambda: conv2d(shape=[70, 2**32, 2**32, 1])),
        ('weight_shape', lambda: ops.binary_prepack(
            weight_bits, [2**62, 66, 3, 3], 2**62)),
        ('channels', lambda: ops.binary_unpack(bits, 2**63 - 1)),
        ('pad_value', lambda: conv2d(pad_value=1)),
        ('kernel', lambda: conv2d(dilation=3)),
        ('scale', lambda: fused(scale=vector[:1])),
        ('residual', lambda: fused(residual=x)),
        ('next_threshold', lambda: fused(bits_only=True)),
        ('threshold', lambda: fused(bits, threshold=vector[:66])),
        ('scale', lambda: ops.lsq_fake_quantize(x, vector, low=0, high=1)),
        ('protected', lambda: ops.match_merge(
            keys, keys[:, 0], None, 1, range(33))),
    ]  # yapf: disable
    # ValueError: fake quantization takes PyTorch where no kernels are built
    for name, call in calls:
        with pytest.raises((RuntimeError, ValueError), match=rf'\b{name}\b'):
            call()


@pytest.mark.skipif(not HAS_CUDA, reason='needs a GPU and the library')
class TestOnTheGpu:
    """What only a device can show."""

    @pytest.mark.parametrize('batch, channels, size, num', [
        (64, 64, 56, 64), (64, 256, 14, 256), (3, 512, 7, 512),
        (2, 128, 76, 256)
    ])  # yapf: disable
    def test_large_layers(self, batch, channels, size, num):
        x = randn(batch, channels, size, size).cuda()
        weight = randn(num, channels, 3, 3, seed=1).cuda()
        # half precision holds no sum above 2048; float32 without TF32 does
        expected = count(x, weight, padding=1)
        bits = ops.binary_pack(x)
        for isa in ('tensor_core', 'generic'):
            blob = prepack(weight.cpu(), 'cuda', 1, isa)
            k = ops.binary_conv2d(bits, blob, list(weight.shape), padding=1)
            assert torch.equal(k, expected), isa

    def test_uses_the_current_stream(self):
        stream = torch.cuda.Stream()
        x, weight = randn(8, 64, 56, 56), randn(64, 64, 3, 3, seed=1)
        pinned = x.pin_memory()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(10**7)
            bits = ops.binary_pack(pinned.to('cuda', non_blocking=True))
            k = ops.binary_conv2d(bits, prepack(weight, 'cuda'),
                                  [64, 64, 3, 3])
        stream.synchronize()
        assert torch.equal(k.cpu(), count(x, weight))

    def test_replays_in_a_graph(self):
        weight = randn(64, 64, 3, 3, seed=1)
        blob = prepack(weight, 'cuda')
        x = randn(4, 64, 14, 14).cuda()
        run = lambda: ops.binary_conv2d(  # noqa: E731
            ops.binary_pack(x), blob, [64, 64, 3, 3])
        run()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            k = run()
        x.copy_(randn(4, 64, 14, 14, seed=2))
        graph.replay()
        assert torch.equal(k.cpu(), count(x.cpu(), weight))

    def test_passes_opcheck(self):
        bits = ops.binary_pack(randn(2, 66, 9, 8).cuda())
        blob = prepack(randn(70, 66, 3, 3, seed=1), 'cuda')
        torch.library.opcheck(
            torch.ops.mmcompress.binary_conv2d.default,
            (bits, blob, [70, 66, 3, 3], [2, 2], [1, 1], [1, 1], 1, -1))
