"""Numbers that would overflow, hang or mean nothing are refused in words."""
import pytest
import torch
from signs import count, randn

from mmcompress import ops

K, C = 70, 66
SHAPE = [K, C, 3, 3]
X = torch.zeros(1, C, 9, 8)
ROIS = torch.tensor([[0., 1, 1, 4, 4]])
VECTOR, FLAGS = torch.zeros(K), torch.zeros(K, dtype=torch.bool)
LIMIT = torch.zeros(K, dtype=torch.int32)
HUGE = [4097, 2**31, 2**32, 2**62, 2**63 - 1]


@pytest.fixture(params=['operators', 'reference', 'fake'])
def engine(request):
    """Who computes, and where its tensors are."""
    if request.param == 'reference':
        return ops.reference, 'cpu'
    return torch.ops.mmcompress, 'meta' if request.param == 'fake' else 'cpu'


def calls(engine):
    """Every operator, as functions of what may be too large."""
    run, device = engine
    bits = ops.reference.binary_pack(X)
    weight_bits = ops.reference.binary_pack(torch.zeros(*SHAPE))
    maker = ops.reference if run is ops.reference else torch.ops.mmcompress
    blob = maker.binary_prepack(weight_bits, SHAPE)
    x, bits, blob, weight_bits, vector, flags, limit, rois = (
        t.to(device)
        for t in (X, bits, blob, weight_bits, VECTOR, FLAGS, LIMIT, ROIS))

    def conv(shape=SHAPE,
             stride=(1, 1),
             padding=(0, 0),
             dilation=(1, 1),
             groups=1,
             pad_value=0):
        return (list(shape), list(stride), list(padding), list(dilation),
                groups, pad_value)

    tokens = bits[0, 0]
    keys = torch.ones(2, 2, 9, 4, device=device)

    def roi_align(output_size=(2, 2), spatial_scale=1.0, sampling_ratio=0):
        return run.roi_align(x, rois, list(output_size), spatial_scale,
                             sampling_ratio, True)

    def routed_attention(grid=(3, 2), num_heads=2, scale=1.0):
        routes = torch.zeros(1, 6, 2, dtype=torch.int64, device=device)
        tokens = x.permute(0, 2, 3, 1)
        return run.routed_attention(tokens, tokens, tokens, routes, list(grid),
                                    num_heads, scale)

    def quantizer(axis=1, low=-8, high=7):
        return x, vector[:C], None, None, axis, low, high, 1., 'clip'

    convolutions = [
        lambda **k: run.binary_conv2d(bits, blob, *conv(**k)),
        lambda **k: run.binary_conv2d_bits(bits, blob, limit, flags, *conv(**k)
                                           ),
        lambda **k: run.binary_conv2d_fused(bits, blob, vector, vector, *
                                            [None] * 8, *conv(**k)),
        lambda **k: run.binary_conv2d_fused(x, blob, vector, vector, *[None] *
                                            8, *conv(**k)),
    ]
    return dict(
        convolutions=convolutions,
        prepack=lambda shape=SHAPE, groups=1: run.binary_prepack(
            weight_bits, list(shape), groups),
        unpack=lambda channels: run.binary_unpack(bits, channels),
        linear=[
            lambda num_outputs=K, channels=C: run.binary_linear(
                tokens, blob, num_outputs, channels),
            lambda num_outputs=K, channels=C: run.binary_linear_bits(
                tokens, blob, limit, flags, num_outputs, channels),
            lambda num_outputs=K, channels=C: run.binary_linear_fused(
                tokens, blob, vector, vector, *[None] * 8, num_outputs,
                channels),
        ],
        fake_quantize=lambda **k: run.lsq_fake_quantize(*quantizer(**k)),
        fake_quantize_backward=lambda **k: run.lsq_fake_quantize_backward(
            x, *quantizer(**k)),
        match_merge=lambda r=3, protected=(0, ): run.match_merge(
            keys, keys[:, 0], None, r, list(protected)),
        roi_align=roi_align,
        routed_attention=routed_attention)


def refused(name, call, **arguments):
    with pytest.raises((ValueError, RuntimeError), match=rf'\b{name}\b'):
        call(**arguments)


@pytest.mark.parametrize('value', [*HUGE, -1, -2**63])
@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('name', ['stride', 'padding', 'dilation'])
def test_geometry_of_convolutions(engine, name, axis, value):
    pair = [1, 1]
    pair[axis] = value
    for call in calls(engine)['convolutions']:
        refused(name, call, **{name: pair})
        # where a large padding makes room for it, too
        if name == 'dilation':
            refused('(padding|dilation)', call, padding=pair, dilation=pair)


@pytest.mark.parametrize('name, value', [('stride', 0), ('dilation', 0),
                                         ('groups', 0), ('groups', 2**62),
                                         ('groups', -2**62),
                                         ('pad_value', 2**62)])
def test_other_numbers_of_convolutions(engine, name, value):
    if name in ('stride', 'dilation'):
        value = [1, value]
    for call in calls(engine)['convolutions']:
        refused(name, call, **{name: value})


@pytest.mark.parametrize('shape', [
    [2**62, C, 3, 3], [K, 2**62, 3, 3], [K, C, 2**62, 3], [K, C, 3, 2**62],
    [2**32, 2**32, 1, 1], [K, 2**32, 2**32, 1], [K, 1, 2**32, 2**32],
    [2**31, 2**31, 2, 1], [K, 2**23, 3, 1], [2**24 + 2, C, 1, 1],
    [K, C, 3, -2**62], [0, C, 3, 3], [K, C, 0, 3]
])  # yapf: disable
def test_weights(engine, shape):
    functions = calls(engine)
    for call in (functions['prepack'], *functions['convolutions']):
        refused('weight_shape', call, shape=shape)


@pytest.mark.parametrize('groups', [0, -1, 2**62, -2**62, 69])
def test_groups_of_weights(engine, groups):
    refused('groups', calls(engine)['prepack'], groups=groups)


@pytest.mark.parametrize('channels',
                         [0, -1, 64, 129, 2**62, 2**63 - 1, -2**63])
def test_channels(engine, channels):
    refused('channels', calls(engine)['unpack'], channels=channels)


@pytest.mark.parametrize('value', [0, -1, 2**24 + 1, 2**62, 2**63 - 1, -2**63])
@pytest.mark.parametrize('name', ['num_outputs', 'channels'])
def test_size_of_linear_layers(engine, name, value):
    for call in calls(engine)['linear']:
        refused(name, call, **{name: value})


@pytest.mark.parametrize('value', [*HUGE, 0, -1, -2**63])
@pytest.mark.parametrize('axis', [0, 1])
def test_number_of_bins(engine, axis, value):
    size = [2, 2]
    size[axis] = value
    refused('output_size', calls(engine)['roi_align'], output_size=size)


@pytest.mark.parametrize('value', HUGE)
def test_number_of_samples(engine, value):
    refused('sampling_ratio', calls(engine)['roi_align'], sampling_ratio=value)


def test_any_negative_number_of_samples_is_none(engine):
    roi_align = calls(engine)['roi_align']
    wanted = roi_align(sampling_ratio=0)
    found = roi_align(sampling_ratio=-2**63)
    assert found.shape == wanted.shape
    assert found.is_meta or torch.equal(found, wanted)


@pytest.mark.parametrize('value', [
    0.0, -1.0, 1e-40, 1e39, float('inf'),
    float('-inf'), float('nan')
])  # yapf: disable
def test_scale_of_regions(engine, value):
    refused('spatial_scale', calls(engine)['roi_align'], spatial_scale=value)


@pytest.mark.parametrize('name, value', [
    *(('num_heads', value) for value in (*HUGE, 0, -1, -2**63)),
    *(('grid', (value, 2)) for value in (*HUGE, 0, -1, -2**63)),
    ('grid', (9, 8, 1)),
    *(('scale', value) for value in (1e39, float('inf'), float('nan'))),
])  # yapf: disable
def test_regions_and_heads(engine, name, value):
    refused(name, calls(engine)['routed_attention'], **{name: value})


@pytest.mark.parametrize('name, value', [('axis', 4), ('axis', -5),
                                         ('axis', 2**62), ('axis', -2**63),
                                         ('low', 1), ('low', -2**16 - 1),
                                         ('low', -2**63), ('high', -1),
                                         ('high', 2**16 + 1),
                                         ('high', 2**63 - 1)])
def test_codes(engine, name, value):
    functions = calls(engine)
    refused(name, functions['fake_quantize'], **{name: value})
    refused(name, functions['fake_quantize_backward'], **{name: value})


@pytest.mark.parametrize('value', [9, 2**62, 2**63 - 1, -1, -2**63])
def test_positions_of_tokens(engine, value):
    for protected in ([value], [0, value], [value, 8]):
        refused('protected', calls(engine)['match_merge'], protected=protected)


def test_number_of_tokens_that_leave(engine):
    call = calls(engine)['match_merge']
    for value in (-1, -2**63):
        refused('r', call, r=value)
    assert call(r=2**63 - 1)[0].shape == (2, 5, 4)


@pytest.mark.parametrize('num_products', [0, -1, 2**24 + 1, 2**62])
def test_products_of_integer_limits(num_products):
    refused(
        'num_products',
        ops.integer_limits,
        scale=VECTOR,
        shift=VECTOR,
        next_threshold=VECTOR,
        next_flip=None,
        num_products=num_products)


def test_the_largest_that_is_allowed_is_computed():
    x, weight = randn(1, 1, 2, 2), randn(1, 1, 2, 2, seed=1)
    options = dict(padding=4096, dilation=4096, stride=4096)
    for run in (torch.ops.mmcompress, ops.reference):
        pack = run.binary_pack
        blob = run.binary_prepack(pack(weight), [1, 1, 2, 2])
        pairs = [[options[name]] * 2
                 for name in ('stride', 'padding', 'dilation')]
        k = run.binary_conv2d(pack(x), blob, [1, 1, 2, 2], *pairs)
        assert torch.equal(k, count(x, weight, **options))
        rois = torch.tensor([[0., 0, 0, 2, 2]])
        bins = run.roi_align(x, rois, [1, 4096], 1e30, 4096, True)
        assert bins.shape == (1, 1, 1, 4096)


def test_no_images_of_any_size():
    """The sizes of tensors without elements are not bounded by memory."""
    weight = ops.binary_prepack(ops.binary_pack(torch.zeros(*SHAPE)), SHAPE)
    bits = torch.empty(0, 2**30, 5, 16, dtype=torch.uint8)
    k = ops.binary_conv2d(bits, weight, SHAPE, padding=1)
    assert k.shape == (0, K, 2**30, 5)


@pytest.mark.skipif(
    bool(ops.build_info()['reason']), reason='needs the kernels')
@pytest.mark.parametrize('shape', [(0, 2**40, 5, 16), (0, 5, 2**31, 16)])
def test_no_images_of_sizes_that_overflow(shape):
    bits = torch.empty(*shape, dtype=torch.uint8)
    weight = ops.binary_prepack(ops.binary_pack(torch.zeros(*SHAPE)), SHAPE)
    with pytest.raises(RuntimeError, match='bits has a dimension larger'):
        ops.binary_conv2d(bits, weight, SHAPE)
    with pytest.raises(RuntimeError, match='bits has a dimension larger'):
        ops.binary_unpack(bits, C)
