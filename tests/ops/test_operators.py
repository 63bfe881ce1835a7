"""How the operators behave in PyTorch: shapes, errors, compile, export."""
import pytest
import torch
import torch.nn as nn
from signs import count, prepack, randn

from mmcompress import ops
from mmcompress.ops.library import SCHEMAS

SHAPE = [70, 66, 3, 3]


def arguments(batch=2):
    """Valid arguments of every operator, in the order of its schema."""
    x, weight = randn(batch, 66, 9, 8), randn(*SHAPE, seed=1)
    bits, blob = ops.binary_pack(x), prepack(weight)
    scale, shift, threshold = (randn(70, seed=i) for i in (2, 3, 4))
    flip = randn(70, seed=5) > 0
    residual = randn(batch, 70, 5, 4, seed=6)
    limit = torch.arange(70, dtype=torch.int32)
    conv = (SHAPE, [2, 2], [1, 1], [1, 1], 1, -1)
    codes = ops.store_codes((4 * weight).round().clamp(-8, 7), 4)
    heavy = ops.integer_prepack(codes, SHAPE, bits=4)
    linear = ops.store_codes((4 * weight[..., 0, 0]).round().clamp(-8, 7), 4)
    step, grid = torch.tensor([0.1]), [9, 0, 20]
    integer = (SHAPE, [2, 2], [1, 1], [1, 1], 1, 4, grid)
    tokens = randn(batch, 3, 66, seed=8)
    token_bits = ops.binary_linear_pack(tokens)
    matrix = prepack(randn(70, 66, 1, 1, seed=9))
    quantizer = (scale[:66].abs(), shift[:66], threshold[:66], 1, -8, 7, 0.1,
                 'clip')
    maps = randn(3, batch, 4, 6, 24, seed=10)
    routes = torch.tensor([[[0, 1], [1, 1], [2, 5], [3, 0], [4, 1], [5, 2]]] *
                          batch)
    return {
        'binary_pack': (x, randn(66), randn(66) > 0),
        'binary_unpack': (bits, 66),
        'binary_prepack': (ops.binary_pack(weight), SHAPE, 1, ''),
        'binary_conv2d': (bits, blob, *conv),
        'binary_conv2d_bits': (bits, blob, limit, flip, *conv),
        'binary_conv2d_fused': (x, blob, scale, shift, randn(66), randn(66)
                                > 0, residual, scale, shift, threshold,
                                threshold, flip, *conv, False),
        'quantize_codes': (x, step, grid, True),
        'max_pool_codes': (x.abs().mul(9).byte(), [3, 2], [2, 1], [1, 0]),
        'layer_norm_codes': (randn(batch, 3,
                                   70), scale, shift, step, 1e-6, grid),
        'integer_prepack': (codes, SHAPE, 1, 4, 255, ''),
        'integer_conv2d':
        (x, heavy, step, scale, shift, residual, step, *integer, 'relu', grid),
        'integer_conv2d_codes':
        (x, heavy, step, scale, shift, step, *integer, 'relu6', grid),
        'integer_linear': (randn(batch, 3, 66),
                           ops.integer_prepack(linear, [70, 66, 1, 1], bits=4),
                           step, scale, shift, [70, 66, 1, 1], 4, grid),
        'binary_linear_pack': (tokens, randn(66), randn(66) > 0),
        'binary_linear': (token_bits, matrix, 70, 66),
        'binary_linear_bits': (token_bits, matrix, limit, flip, 70, 66),
        'binary_linear_fused': (tokens, matrix, scale, shift, randn(66),
                                randn(66) > 0, randn(batch, 3, 70,
                                                     seed=7), scale, shift,
                                threshold, threshold, flip, 70, 66, False),
        'roi_align':
        (x, torch.tensor([[0., 1, 1, 6, 5]] * batch), [2, 3], 0.5, 0, True),
        'routed_attention': (*maps, routes, [2, 3], 3, 0.2),
        'lsq_fake_quantize': (x, *quantizer),
        'lsq_fake_quantize_backward': (x.cos(), x, *quantizer),
        'match_merge': (randn(batch, 9, 2, 8).transpose(1, 2),
                        randn(batch, 9, 6), randn(batch, 9, 1).abs(), 3, [0]),
    }


@pytest.mark.parametrize('name', SCHEMAS)
def test_schema_is_the_documented_one(name):
    operator = getattr(torch.ops.mmcompress, name).default
    wanted = torch._C.parse_schema(f'mmcompress::{name}{SCHEMAS[name]}')
    assert str(operator._schema) == str(wanted)


@pytest.mark.parametrize('name', SCHEMAS)
def test_passes_opcheck(name):
    operator = getattr(torch.ops.mmcompress, name).default
    torch.library.opcheck(operator, arguments()[name])


@pytest.mark.parametrize('residual, next_threshold, bits_only',
                         [(False, False, False), (True, True, True),
                          (False, True, False)])
def test_fused_passes_opcheck_without_options(residual, next_threshold,
                                              bits_only):
    args = list(arguments()['binary_conv2d_fused'])
    args[0] = ops.binary_pack(args[0])
    optional = dict(enumerate([None] * 8, start=4))
    if residual:
        del optional[6]
    if next_threshold:
        del optional[10]
    for i in optional:
        args[i] = None
    args[-1] = bits_only
    torch.library.opcheck(torch.ops.mmcompress.binary_conv2d_fused.default,
                          tuple(args))


@pytest.mark.parametrize('axis', [None, 0, -1])
def test_fake_quantization_passes_opcheck(axis):
    x = randn(5, 6, 7)[..., ::2].requires_grad_()
    num = 1 if axis is None else x.shape[axis]
    scale = randn(num).abs().requires_grad_()
    torch.library.opcheck(torch.ops.mmcompress.lsq_fake_quantize.default,
                          (x, scale, None, None, axis, 0, 3, 1., 'rounded'))


def test_merging_passes_opcheck_without_masses():
    keys, x = randn(2, 9, 2, 8).transpose(1, 2), randn(2, 9, 6, seed=1)
    torch.library.opcheck(torch.ops.mmcompress.match_merge.default,
                          (keys, x.requires_grad_(), None, 3, [0, 1]))


class PackedPair(nn.Module):
    """Two 1-bit layers in a row, the activations between them packed."""

    def __init__(self):
        super().__init__()
        self.blob = prepack(randn(128, 64, 3, 3, seed=1))
        self.next_blob = prepack(randn(32, 128, 1, 1, seed=2))
        self.vectors = [randn(128, seed=i) for i in (3, 4, 5)]

    def forward(self, x):
        scale, shift, threshold = self.vectors
        _, bits = ops.binary_conv2d_fused(
            torch.tanh(x),
            self.blob,
            scale,
            shift, [128, 64, 3, 3],
            stride=2,
            padding=1,
            next_threshold=threshold,
            bits_only=True)
        k = ops.binary_conv2d(bits, self.next_blob, [32, 128, 1, 1])
        return 2 * k.float().mean((2, 3))


@pytest.mark.parametrize('dynamic', [False, True])
def test_compiles_into_one_graph(dynamic):
    model = PackedPair()
    compiled = torch.compile(
        model, fullgraph=True, dynamic=dynamic, backend='aot_eager')
    for size in (8, 11):
        x = randn(2, 64, size, size + 1)
        assert torch.equal(compiled(x), model(x))


@pytest.mark.slow
def test_compiles_with_inductor():
    model, x = PackedPair(), randn(2, 64, 8, 9)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


def test_exports():
    model = PackedPair()
    batch = torch.export.Dim('batch', min=1, max=8)
    program = torch.export.export(
        model, (randn(2, 64, 8, 9), ), dynamic_shapes=({
            0: batch
        }, ))
    names = [str(node.target) for node in program.graph.nodes]
    assert 'mmcompress.binary_conv2d_fused.default' in names
    x = randn(5, 64, 8, 9, seed=9)
    assert torch.equal(program.module()(x), model(x))


def test_autocast_does_not_round():
    x, weight = randn(1, 512, 6, 6), randn(64, 512, 3, 3, seed=1)
    vector = torch.ones(64)
    blob, shape = prepack(weight), list(weight.shape)
    with torch.autocast('cpu', torch.bfloat16):
        half = x.bfloat16()
        k = ops.binary_conv2d(ops.binary_pack(half), blob, shape, 1, 1)
        y, _ = ops.binary_conv2d_fused(
            half, blob, vector, vector, shape, padding=1)
    assert torch.equal(k, count(x, weight, padding=1))
    assert y.dtype == torch.float32
    assert torch.equal(y, k.float() + 1)


def test_meta_tensors_give_shapes():
    meta = {
        name:
        [a.to('meta') if isinstance(a, torch.Tensor) else a for a in args]
        for name, args in arguments().items()
    }
    del meta['binary_prepack'], meta['integer_prepack']
    for name, args in meta.items():
        operator = getattr(torch.ops.mmcompress, name)
        real = operator(*arguments()[name])
        fake = operator(*args)
        for a, b in zip(*(r if isinstance(r, tuple) else (r, )
                          for r in (real, fake))):
            assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype,
                                                      b.stride())


def test_does_not_change_its_arguments():
    for name, args in arguments().items():
        copies = [
            a.clone() if isinstance(a, torch.Tensor) else a for a in args
        ]
        getattr(torch.ops.mmcompress, name)(*args)
        for a, b in zip(args, copies):
            if isinstance(a, torch.Tensor):
                assert torch.equal(a, b)


X = torch.zeros(1, 66, 5, 5)
BITS = torch.zeros(1, 5, 5, 16, dtype=torch.uint8)
WEIGHT_BITS = torch.zeros(70, 3, 3, 16, dtype=torch.uint8)
VECTOR = torch.zeros(70)
FLAGS = torch.zeros(70, dtype=torch.bool)
LIMIT = torch.zeros(70, dtype=torch.int32)


def conv2d(bits=BITS, blob=None, shape=SHAPE, **conv):
    blob = prepack(torch.zeros(*SHAPE)) if blob is None else blob
    return ops.binary_conv2d(bits, blob, shape, **conv)


def conv2d_bits(limit=LIMIT, flip=FLAGS):
    return ops.binary_conv2d_bits(BITS, prepack(torch.zeros(*SHAPE)), limit,
                                  flip, SHAPE)


def fused(x=X, scale=VECTOR, shift=VECTOR, **options):
    return ops.binary_conv2d_fused(x, prepack(torch.zeros(*SHAPE)), scale,
                                   shift, SHAPE, **options)


TOKENS = torch.zeros(2, 3, 66)
TOKEN_BITS = torch.zeros(2, 3, 16, dtype=torch.uint8)


def linear(bits=TOKEN_BITS, shape=(70, 66, 1, 1), blob=None):
    blob = prepack(torch.zeros(70, 66, 1, 1)) if blob is None else blob
    return ops.binary_linear(bits, blob, list(shape))


def linear_bits(limit=LIMIT, flip=FLAGS):
    return ops.binary_linear_bits(TOKEN_BITS,
                                  prepack(torch.zeros(70, 66, 1, 1)), limit,
                                  flip, [70, 66, 1, 1])


def linear_fused(x=TOKENS, scale=VECTOR, shift=VECTOR, **options):
    return ops.binary_linear_fused(x, prepack(torch.zeros(70, 66, 1, 1)),
                                   scale, shift, [70, 66, 1, 1], **options)


def quantize(x=X, scale=VECTOR[:66], low=-8, high=7, axis=1, **options):
    return ops.lsq_fake_quantize(
        x, scale, low=low, high=high, axis=axis, **options)


def gradients(dy, x=X):
    return torch.ops.mmcompress.lsq_fake_quantize_backward(
        dy, x, VECTOR[:66], None, None, 1, -8, 7, 1., 'clip')


MAP = torch.zeros(1, 4, 4, 6)
ROUTES = torch.zeros(1, 4, 2, dtype=torch.int64)


def attend(q=MAP, k=MAP, v=MAP, routes=ROUTES, grid=(2, 2), heads=2, scale=1.):
    return ops.routed_attention(q, k, v, routes, grid, heads, scale)


KEYS, MERGED = torch.zeros(2, 3, 9, 8), torch.zeros(2, 9, 5)


def merge(keys=KEYS, x=MERGED, mass=None, r=3, protected=(0, )):
    return torch.ops.mmcompress.match_merge(keys, x, mass, r, list(protected))


@pytest.mark.parametrize('name, call', [
    ('q', lambda: attend(MAP.double())),
    ('q', lambda: attend(MAP[0])),
    ('q', lambda: attend(MAP[:, :3])),
    ('q', lambda: attend(MAP[:, :0])),
    ('q', lambda: attend(MAP[..., :5])),
    ('q', lambda: attend(MAP[..., :0])),
    ('k', lambda: attend(k=MAP[:0])),
    ('k', lambda: attend(k=MAP[..., :4])),
    ('k', lambda: attend(k=MAP[:, :, :3])),
    ('v', lambda: attend(v=MAP[:, :2])),
    ('v', lambda: attend(v=MAP.half())),
    ('routes', lambda: attend(routes=ROUTES.int())),
    ('routes', lambda: attend(routes=ROUTES[:, :3])),
    ('routes', lambda: attend(routes=ROUTES[..., :0])),
    ('routes', lambda: attend(routes=ROUTES[0])),
    ('routes', lambda: attend(routes=ROUTES - 1)),
    ('routes', lambda: attend(routes=ROUTES + 4)),
    ('grid', lambda: attend(grid=(0, 2))),
    ('grid', lambda: attend(grid=(2, ))),
    ('num_heads', lambda: attend(heads=0)),
    ('num_heads', lambda: attend(heads=4)),
    ('scale', lambda: attend(scale=float('nan'))),
    ('x', lambda: ops.binary_linear_pack(TOKENS.double())),
    ('x', lambda: ops.binary_linear_pack(TOKENS[0, 0, 0])),
    ('x', lambda: ops.binary_linear_pack(TOKENS[..., :0])),
    ('threshold', lambda: ops.binary_linear_pack(TOKENS, VECTOR)),
    ('flip', lambda: ops.binary_linear_pack(TOKENS, None, FLAGS)),
    ('bits', lambda: linear(TOKENS)),
    ('bits', lambda: linear(TOKEN_BITS[0, 0, 0])),
    ('bits', lambda: linear(TOKEN_BITS[..., :8])),
    ('weight_shape', lambda: linear(shape=SHAPE)),
    ('num_outputs', lambda: linear(shape=[0, 66, 1, 1])),
    ('blob', lambda: linear(shape=[71, 66, 1, 1])),
    ('blob', lambda: linear(blob=VECTOR)),
    ('limit', lambda: linear_bits(limit=LIMIT[:69])),
    ('flip', lambda: linear_bits(flip=LIMIT)),
    ('x', lambda: linear_fused(TOKENS.double())),
    ('x', lambda: linear_fused(TOKENS[..., :65])),
    ('scale', lambda: linear_fused(scale=VECTOR[:1])),
    ('threshold', lambda: linear_fused(threshold=VECTOR)),
    ('threshold', lambda: linear_fused(TOKEN_BITS, threshold=VECTOR[:66])),
    ('residual', lambda: linear_fused(residual=TOKENS)),
    ('post', lambda: linear_fused(post=LIMIT)),
    ('next_threshold', lambda: linear_fused(bits_only=True)),
    ('x', lambda: quantize(X.half(), VECTOR[:66].half())),
    ('scale', lambda: quantize(scale=VECTOR)),
    ('scale', lambda: quantize(scale=VECTOR[:66].double())),
    ('scale', lambda: quantize(axis=None)),
    ('beta', lambda: quantize(beta=VECTOR)),
    ('zero_point', lambda: quantize(zero_point=VECTOR[:66].int())),
    ('axis', lambda: quantize(axis=4)),
    ('axis', lambda: quantize(axis=-5)),
    ('low', lambda: quantize(low=1)),
    ('high', lambda: quantize(high=-1)),
    ('mask', lambda: quantize(mask='no')),
    ('keys', lambda: merge(KEYS[0])),
    ('keys', lambda: merge(KEYS[:, :0])),
    ('keys', lambda: merge(KEYS.int())),
    ('x', lambda: merge(x=MERGED[:, :8])),
    ('x', lambda: merge(x=MERGED.int())),
    ('mass', lambda: merge(mass=MERGED)),
    ('mass', lambda: merge(mass=MERGED[..., :1].int())),
    ('r', lambda: merge(r=-1)),
    ('protected', lambda: merge(protected=[9])),
    ('protected', lambda: merge(protected=[-1])),
    ('protected', lambda: merge(protected=[1, 0])),
    ('protected', lambda: merge(protected=[1, 1])),
    ('dy', lambda: gradients(X[..., :1])),
    ('dy', lambda: gradients(X.double())),
    ('x', lambda: ops.binary_pack(X.double())),
    ('x', lambda: ops.binary_pack(X.half())),
    ('x', lambda: ops.binary_pack(X[0])),
    ('x', lambda: ops.binary_pack(X[:, :0])),
    ('threshold', lambda: ops.binary_pack(X, VECTOR[:65])),
    ('threshold', lambda: ops.binary_pack(X, VECTOR[:66].double())),
    ('threshold', lambda: ops.binary_pack(X, VECTOR[:66].view(1, 66))),
    ('flip', lambda: ops.binary_pack(X, None, VECTOR[:66])),
    ('flip', lambda: ops.binary_pack(X, None, FLAGS)),
    ('bits', lambda: ops.binary_unpack(X, 66)),
    ('bits', lambda: ops.binary_unpack(BITS[0], 66)),
    ('channels', lambda: ops.binary_unpack(BITS, 64)),
    ('channels', lambda: ops.binary_unpack(BITS, 0)),
    ('weight_bits', lambda: ops.binary_prepack(X, SHAPE)),
    ('weight_bits', lambda: ops.binary_prepack(WEIGHT_BITS, [70, 60, 3, 3])),
    ('weight_bits', lambda: ops.binary_prepack(WEIGHT_BITS, [71, 66, 3, 3])),
    ('weight_shape', lambda: ops.binary_prepack(WEIGHT_BITS, [70, 66, 3])),
    ('weight_shape', lambda: ops.binary_prepack(WEIGHT_BITS, [70, 66, 0, 3])),
    ('groups', lambda: ops.binary_prepack(WEIGHT_BITS, SHAPE, 3)),
    ('groups', lambda: ops.binary_prepack(WEIGHT_BITS, SHAPE, 0)),
    ('nosuch', lambda: ops.binary_prepack(WEIGHT_BITS, SHAPE, 1, 'nosuch')),
    ('bits', lambda: conv2d(X)),
    ('bits', lambda: conv2d(BITS[0])),
    ('bits', lambda: conv2d(BITS[..., :8])),
    ('blob', lambda: conv2d(blob=VECTOR)),
    ('blob', lambda: conv2d(blob=BITS)),
    ('blob', lambda: conv2d(blob=LIMIT.to(torch.uint8))),
    ('blob', lambda: conv2d(blob=BITS.flatten()[:0])),
    ('blob', lambda: conv2d(shape=[70, 67, 3, 3])),
    ('blob', lambda: conv2d(shape=[71, 66, 3, 3])),
    ('weight_shape', lambda: conv2d(shape=[70, 66, 9])),
    ('groups', lambda: conv2d(shape=[70, 33, 3, 3], groups=-2)),
    ('stride', lambda: conv2d(stride=0)),
    ('padding', lambda: conv2d(padding=-1)),
    ('dilation', lambda: conv2d(dilation=(1, 0))),
    ('pad_value', lambda: conv2d(pad_value=1)),
    ('kernel', lambda: conv2d(dilation=3)),
    ('kernel', lambda: conv2d(BITS[:, :2])),
    ('kernel', lambda: conv2d(BITS[:, :0])),
    ('limit', lambda: conv2d_bits(limit=VECTOR)),
    ('limit', lambda: conv2d_bits(limit=LIMIT[:69])),
    ('flip', lambda: conv2d_bits(flip=LIMIT)),
    ('flip', lambda: conv2d_bits(flip=FLAGS[:1])),
    ('x', lambda: fused(X.double())),
    ('x', lambda: fused(X[:, :65])),
    ('scale', lambda: fused(scale=VECTOR.double())),
    ('scale', lambda: fused(scale=VECTOR[:1])),
    ('shift', lambda: fused(shift=VECTOR[:69])),
    ('threshold', lambda: fused(threshold=VECTOR)),
    ('threshold', lambda: fused(BITS, threshold=VECTOR[:66])),
    ('flip', lambda: fused(flip=VECTOR[:66])),
    ('residual', lambda: fused(residual=X)),
    ('residual', lambda: fused(residual=torch.zeros(1, 70, 3, 3).double())),
    ('pre', lambda: fused(pre=VECTOR[:1])),
    ('slope', lambda: fused(slope=VECTOR[:1])),
    ('post', lambda: fused(post=LIMIT)),
    ('next_threshold', lambda: fused(next_threshold=VECTOR[:66])),
    ('next_flip', lambda: fused(next_threshold=VECTOR, next_flip=VECTOR)),
    ('next_threshold', lambda: fused(bits_only=True)),
    ('next_flip', lambda: fused(next_flip=FLAGS)),
])  # yapf: disable
def test_errors_name_the_argument(name, call):
    with pytest.raises((ValueError, RuntimeError), match=rf'\b{name}\b'):
        call()


def test_a_blob_of_another_weight_is_refused():
    blob = prepack(torch.zeros(70, 66, 3, 3))
    for shape in ([66, 70, 3, 3], [70, 66, 1, 9], [140, 33, 3, 3]):
        bits = torch.zeros(
            1, 9, 9, ops.packed_bytes(shape[1]), dtype=torch.uint8)
        with pytest.raises((ValueError, RuntimeError), match='blob'):
            ops.binary_conv2d(bits, blob, shape)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_arguments_on_two_devices_are_refused():
    with pytest.raises((ValueError, RuntimeError), match='threshold'):
        ops.binary_pack(X, VECTOR[:66].cuda())
    with pytest.raises((ValueError, RuntimeError), match='blob'):
        conv2d(BITS.cuda(), prepack(torch.zeros(*SHAPE)))
