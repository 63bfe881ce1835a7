"""The CUDA operators of integers against their definition, bit for bit."""
import pytest
import torch
from cuda_device import HAS_CUDA, assert_same, cuda_or_emulator  # noqa: F401
from signs import LAYOUTS, in_layout, randn

from mmcompress import ops
from mmcompress.ops import reference

INPUT_SCALE = torch.tensor([0.037])
NEXT_SCALE = torch.tensor([0.25])
NEXT_GRID = [9, 3, 200]


def integers(low, high, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, generator=generator)


def codes(*shape):
    return integers(0, 256, *shape).to(torch.uint8)


def stored(shape, bits):
    limit = 2**(bits - 1)
    return ops.store_codes(integers(-limit, limit, *shape, seed=1), bits)


def special_values(*shape):
    """Ties, infinities and NaN among others."""
    x = (100 * randn(*shape) * 0.3).flatten()
    x[::3] = (x[::3] / 0.3).round() * 0.3 + 0.15
    odd = [float('nan'), float('inf'), -float('inf'), -0.0, 3e38]
    x[1:len(odd) + 1] = torch.tensor(odd)
    return x.view(shape)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('channels', [1, 8, 31])
def test_quantize(device, channels, layout):
    x = special_values(2, channels, 5, 7)
    scale, grid = torch.tensor([0.3]), [128, 5, 250]
    # .to(device) would lose the layout
    moved = in_layout(x.to(device), layout)
    for channels_last in (False, True):
        assert_same(
            ops.quantize_codes(moved, scale.to(device), grid, channels_last),
            reference.quantize_codes(x, scale, grid, channels_last))


@pytest.mark.parametrize('shape', [(), (0, ), (3, 0, 2)], ids=str)
def test_quantize_any_shape(device, shape):
    x, scale = torch.full(shape, 1.7), INPUT_SCALE
    assert_same(
        ops.quantize_codes(x.to(device), scale.to(device), [0, 0, 9]),
        reference.quantize_codes(x, scale, [0, 0, 9]))


CONVOLUTIONS = [
    # batch, height, width, weight_shape, bits, zero point, options
    (2, 7, 6, [64, 32, 3, 3], 8, 128, dict(padding=1, act='relu6')),
    (1, 5, 6, [130, 68, 3, 3], 4, 77, dict(padding=(2, 0), act='relu')),
    (2, 7, 7, [66, 16, 3, 3], 2, 255, dict(padding=2, dilation=2)),
    (1, 9, 8, [33, 3, 7, 7], 8, 0, dict(padding=3, stride=2, act='relu')),
    (2, 1, 1, [128, 72, 1, 1], 4, 8, dict(stride=(1, 2))),
    (1, 6, 6, [66, 8, 3, 3], 4, 9, dict(padding=1, groups=2)),
    (1, 5, 5, [40, 1, 3, 3], 2, 200, dict(padding=1, groups=40, act='relu6')),
]  # yapf: disable


def options_of(options, device):
    """As the operators take them, with pairs."""

    def move(value):
        return value.to(device) if isinstance(value, torch.Tensor) else value

    pairs = dict(stride=1, padding=0, dilation=1)
    for name in pairs:
        value = options.get(name, pairs[name])
        pairs[name] = [value, value] if isinstance(value, int) else value
    return {k: move(v) for k, v in {**options, **pairs}.items()}


def as_defined(function, x, blob, *tensors, weight_shape, grid, **options):
    """Call the definition in the place of the function of ``ops``."""
    o = options_of(options, 'cpu')
    conv = (weight_shape, o['stride'], o['padding'], o['dilation'],
            o.get('groups', 1), o['bits'], grid, o.get('act', ''))
    if function == 'codes':
        return reference.integer_conv2d_codes(x, blob, *tensors, o.get('bias'),
                                              NEXT_SCALE, *conv, NEXT_GRID)
    next_scale = o.get('next_scale')
    return reference.integer_conv2d(x, blob, *tensors, o.get('bias'),
                                    o.get('residual'), next_scale, *conv,
                                    [] if next_scale is None else NEXT_GRID)


def prepack_both(weight, shape, groups, bits, device, isa=''):
    defined = reference.integer_prepack(weight, shape, groups, bits, 255)
    return defined, ops.integer_prepack(
        weight.to(device), shape, groups, bits, isa=isa)


@pytest.mark.parametrize('conv', CONVOLUTIONS, ids=str)
def test_convolutions(device, conv):
    batch, height, width, shape, bits, zero_point, options = conv
    groups = options.get('groups', 1)
    x = codes(batch, shape[1] * groups, height, width)
    x[0, 0] = 255
    layout = LAYOUTS[sum(shape) % 3]
    # the results have ties, and sums that float32 rounds
    scale = randn(shape[0]) / 50
    scale[::3] = 0.125 / INPUT_SCALE
    known = dict(weight_shape=shape, grid=[zero_point, 0, 255], bits=bits)
    for isa in ['', 'generic'][groups > 1:]:
        defined, blob = prepack_both(
            stored(shape, bits), shape, groups, bits, device, isa)
        moved = (in_layout(
            x.to(device), 'nchw' if layout == 'strided' else layout), blob,
                 INPUT_SCALE.to(device), scale.to(device))
        y = as_defined('', x, defined, INPUT_SCALE, scale, **known,
                       **options)[0]
        found, nothing = ops.integer_conv2d(*moved, **known,
                                            **options_of(options, device))
        assert_same(found, y)
        assert nothing.numel() == 0 and nothing.dtype == torch.uint8

        more = dict(options, bias=randn(shape[0], seed=3))
        wanted = as_defined('codes', x, defined, INPUT_SCALE, scale, **known,
                            **more)
        assert_same(
            ops.integer_conv2d_codes(
                *moved,
                NEXT_SCALE.to(device),
                next_grid=NEXT_GRID,
                **known,
                **options_of(more, device)), wanted)

        more['residual'] = in_layout(y.flip(1) * 0.75, layout)
        more['next_scale'] = NEXT_SCALE
        wanted = as_defined('', x, defined, INPUT_SCALE, scale, **known,
                            **more)
        found = ops.integer_conv2d(
            *moved, **known, next_grid=NEXT_GRID, **options_of(more, device))
        for pair in zip(found, wanted):
            assert_same(*pair)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('channels', [3, 16])
def test_floats_are_quantized_first(device, channels, layout):
    shape, grid = [8, channels, 3, 3], [100, 2, 240]
    x, scale = special_values(1, channels, 5, 4), randn(8)
    defined, blob = prepack_both(stored(shape, 8), shape, 1, 8, device)
    wanted, _ = as_defined(
        '', x, defined, INPUT_SCALE, scale, weight_shape=shape, grid=grid,
        bits=8, padding=1)  # yapf: disable
    y, _ = ops.integer_conv2d(
        in_layout(x.to(device), layout),
        blob,
        INPUT_SCALE.to(device),
        scale.to(device),
        shape,
        grid,
        padding=(1, 1))
    assert_same(y, wanted)


@pytest.mark.parametrize('rows, channels, bits', [((3, 5), 40, 4),
                                                  ((1, ), 19, 8), ((), 8, 2),
                                                  ((0, 3), 16, 8)])
def test_linear(device, rows, channels, bits):
    shape, grid = [70, channels, 1, 1], [31, 0, 63]
    scale, bias = randn(70), randn(70, seed=1)
    defined, blob = prepack_both(stored(shape, bits), shape, 1, bits, device)
    for x in (integers(0, 64, *rows,
                       channels).to(torch.uint8), randn(*rows, channels)):
        wanted = reference.integer_linear(x, defined, INPUT_SCALE, scale, bias,
                                          shape, bits, grid)
        y = ops.integer_linear(
            x.to(device),
            blob,
            INPUT_SCALE.to(device),
            scale.to(device),
            shape,
            grid,
            bits=bits,
            bias=bias.to(device))
        assert_same(y, wanted)


def test_codes_that_are_not_aligned(device):
    shape = [8, 16, 1, 1]
    defined, blob = prepack_both(stored(shape, 8), shape, 1, 8, device)
    x, one = codes(6, 16), torch.ones(8)
    buffer = torch.zeros(97, dtype=torch.uint8)
    buffer[1:] = x.flatten()
    view = buffer.to(device)[1:].view(6, 16)
    assert view.data_ptr() % 16 != 0
    assert_same(
        ops.integer_linear(view, blob, INPUT_SCALE.to(device), one.to(device),
                           shape, [0, 0, 255]),
        reference.integer_linear(x, defined, INPUT_SCALE, one, None, shape, 8,
                                 [0, 0, 255]))


def test_more_products_than_32_bits_hold(device):
    shape = [1, 66000, 1, 1]
    weight = ops.store_codes(torch.full(shape, -128), 8).to(device)
    weight[65793:] = 0
    ops.integer_prepack(weight, shape, isa='generic')
    weight[-1] = 255
    with pytest.raises(RuntimeError, match='sums up to 2147483775'):
        ops.integer_prepack(weight, shape, isa='generic')


def test_errors_name_the_argument(device):
    shape, grid = [6, 5, 3, 3], [0, 0, 255]
    weight = stored(shape, 8).to(device)
    blob = ops.integer_prepack(weight, shape)
    x, one = codes(1, 5, 4, 4).to(device), INPUT_SCALE.to(device)
    vector = torch.ones(6, device=device)

    def prepack(weight=weight, shape=shape, *more):
        return ops.integer_prepack(weight, shape, *more)

    def conv(x=x, blob=blob, one=one, vector=vector, shape=shape, grid=grid,
             **options):  # yapf: disable
        return ops.integer_conv2d(x, blob, one, vector, shape, grid, **options)

    def linear(x=x[0, 0], shape=[6, 4, 1, 1]):
        return ops.integer_linear(x, blob, one, vector, shape, grid)

    def quantize(x=vector, scale=one, grid=grid, last=False):
        return ops.quantize_codes(x, scale, grid, last)

    calls = [
        ('x', lambda: quantize(x)),
        ('x', lambda: quantize(vector, last=True)),
        ('scale', lambda: quantize(scale=vector)),
        ('grid', lambda: quantize(grid=[3, 4, 5])),
        ('codes', lambda: prepack(weight[1:])),
        ('codes', lambda: prepack(vector)),
        ('weight_shape', lambda: prepack(weight, shape[1:])),
        ('weight_shape', lambda: prepack(weight, [2**62, 5, 3, 3])),
        ('groups', lambda: prepack(weight, shape, 4)),
        ('groups', lambda: prepack(weight, shape, 2**62)),
        ('bits', lambda: prepack(weight, shape, 1, 3)),
        ('high', lambda: prepack(weight, shape, 1, 8, 256)),
        ('isa', lambda: prepack(weight, shape, 1, 8, 255, 'avx2')),
        ('tensor_core', lambda: prepack(stored([6, 2, 3, 3], 8).to(device),
                                        [6, 2, 3, 3], 2, 8, 255,
                                        'tensor_core')),
        ('x', lambda: conv(x.double())),
        ('x', lambda: conv(x[0])),
        ('channels', lambda: conv(x[:, :4])),
        ('blob', lambda: conv(blob=blob[:-1])),
        ('blob', lambda: conv(bits=4)),
        ('bits', lambda: conv(bits=5)),
        ('input_scale', lambda: conv(one=vector)),
        ('scale', lambda: conv(vector=one)),
        ('bias', lambda: conv(bias=one)),
        ('grid', lambda: conv(grid=[0, 0, 256])),
        ('stride', lambda: conv(stride=(0, 1))),
        ('padding', lambda: conv(padding=(2**62, 0))),
        ('kernel', lambda: conv(dilation=(2, 2))),
        ('act', lambda: conv(act='gelu')),
        ('residual', lambda: conv(residual=vector)),
        ('next_scale', lambda: conv(next_grid=grid)),
        ('next_scale', lambda: conv(next_scale=vector, next_grid=grid)),
        ('next_grid', lambda: conv(next_scale=one)),
        ('weight_shape', lambda: linear(shape=shape)),
        ('channels', lambda: linear(x[0, 0, :, 1:])),
        ('x', lambda: linear(one[0])),
    ]  # yapf: disable
    for name, call in calls:
        with pytest.raises(RuntimeError, match=rf'\b{name}\b'):
            call()


@pytest.mark.skipif(not HAS_CUDA, reason='needs a GPU and the library')
class TestOnTheGpu:
    """What only a device can show."""

    def test_is_the_engine(self):
        assert ops.why_not('kernels', 'cuda') == ''
        assert ops.choose_engine('cuda').name == 'kernels'

    @pytest.mark.parametrize('bits', [8, 4, 2])
    @pytest.mark.parametrize('batch, channels, size, num', [
        (64, 64, 56, 64), (64, 256, 14, 256), (3, 512, 7, 512),
        (2, 128, 76, 256)
    ])  # yapf: disable
    def test_large_layers(self, batch, channels, size, num, bits):
        shape, grid = [num, channels, 3, 3], [128, 0, 255]
        weight = stored(shape, bits).cuda()
        x = codes(batch, channels, size, size).cuda()
        x = x.contiguous(memory_format=torch.channels_last)
        one, vector = INPUT_SCALE.cuda(), randn(num).cuda()
        results = []
        for isa in ('tensor_core', 'generic'):
            blob = ops.integer_prepack(weight, shape, bits=bits, isa=isa)
            results.append(
                ops.integer_conv2d(
                    x,
                    blob,
                    one,
                    vector,
                    shape,
                    grid,
                    bits=bits,
                    padding=(1, 1))[0])
        assert torch.equal(*results)

    def test_replays_in_a_graph(self):
        shape, grid = [64, 64, 3, 3], [128, 0, 255]
        blob = ops.integer_prepack(stored(shape, 8).cuda(), shape)
        one, vector = INPUT_SCALE.cuda(), randn(64).cuda()
        x = randn(4, 64, 14, 14).cuda()
        run = lambda: ops.integer_conv2d(  # noqa: E731
            x, blob, one, vector, shape, grid)[0]
        run()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = run()
        x.copy_(randn(4, 64, 14, 14, seed=2))
        graph.replay()
        assert torch.equal(y, run())

    def test_passes_opcheck(self):
        shape = [6, 5, 3, 3]
        blob = ops.integer_prepack(stored(shape, 8).cuda(), shape)
        torch.library.opcheck(
            torch.ops.mmcompress.integer_conv2d.default,
            (codes(2, 5, 6, 7).cuda(), blob, INPUT_SCALE.cuda(),
             randn(6).cuda(), None, None, NEXT_SCALE.cuda(), shape, [2, 1],
             [1, 1], [1, 1], 1, 8, [128, 0, 255], 'relu', NEXT_GRID))
