"""Every engine that this machine has computes what the definition says."""
import copy
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from mmcompress import ops
from mmcompress.ops import engines, library, onednn

ROOT = Path(__file__).parents[2]
USABLE = [name for name in engines._ENGINES if not ops.why_not(name)]
each_engine = pytest.mark.parametrize('name', USABLE)
needs_onednn = pytest.mark.skipif(
    'onednn' not in USABLE, reason=f'oneDNN: {ops.why_not("onednn")}')

# (K, C / groups, kh, kw), groups, stride, padding, dilation, zero point
LAYERS = {
    '3x3': ([40, 24, 3, 3], 1, [1, 1], [1, 1], [1, 1], 0),
    '3x3 with zero point': ([40, 24, 3, 3], 1, [2, 1], [1, 1], [1, 2], 128),
    '1x1': ([40, 24, 1, 1], 1, [1, 1], [0, 0], [1, 1], 7),
    'strided 1x1': ([40, 24, 1, 1], 1, [2, 3], [0, 0], [1, 1], 0),
    'grouped': ([48, 8, 3, 3], 3, [1, 1], [1, 1], [1, 1], 0),
    'grouped with zero point': ([48, 8, 3, 3], 3, [1, 1], [1, 1], [1, 1], 3),
    'depthwise': ([24, 1, 3, 3], 24, [1, 1], [1, 1], [1, 1], 0),
    'filters of one channel': ([48, 1, 3, 3], 24, [1, 1], [1, 1], [1, 1], 77),
    # these ended the process
    'window outside': ([16, 1, 1, 1], 1, [2, 1], [0, 3], [1, 3], 0),
    'windows outside': ([8, 24, 3, 1], 1, [1, 2], [1, 3], [1, 3], 77),
    # only holes of the window lie inside
    'window around': ([2, 4, 2, 2], 1, [1, 1], [8, 9], [16, 19], 77)
}


def integers(low, high, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator)


class Case:
    """A layer with all that surrounds it."""

    def __init__(self, layer, bits=8, x_code=None, weight_code=None):
        self.shape, self.groups, *self.moves, self.zero = layer
        self.bits = bits
        half = 2**(bits - 1)
        self.weight = integers(-half, half - 1, *self.shape, seed=1)
        if weight_code is not None:
            self.weight.fill_(weight_code)
        channels = self.shape[1] * self.groups
        self.x = integers(0, 255, 2, channels, 9, 10).to(torch.uint8)
        if x_code is not None:
            self.x.fill_(x_code)
        self.step = torch.tensor([0.0123])
        self.scale = integers(-99, 99, self.shape[0], seed=2) / 7e4
        self.bias = integers(-99, 99, self.shape[0], seed=3) / 70
        self.grid = [self.zero, 0, 255]
        self.conv = (self.shape, *self.moves, self.groups, bits, self.grid)

    def blob(self, engine):
        codes = ops.store_codes(self.weight, self.bits)
        return engine.integer_prepack(codes, self.shape, self.groups,
                                      self.bits, 255)

    def run(self, engine, blob, **options):
        x = options.get('x', self.x)
        arguments = (x, blob, self.step, self.scale, options.get('bias'))
        if options.get('codes_only'):
            return engine.integer_conv2d_codes(*arguments, options['step'],
                                               *self.conv, options['act'],
                                               options['grid'])
        return engine.integer_conv2d(*arguments, options.get('residual'),
                                     options.get('step'), *self.conv,
                                     options.get('act', ''),
                                     options.get('grid', []))

    def sums(self):
        """Sums of products, exact."""
        k = F.conv2d(self.x.double() - self.zero, self.weight.double(), None,
                     *self.moves, self.groups)
        return k.float()


def assert_same(found, wanted):
    if isinstance(found, torch.Tensor):
        found, wanted = (found, ), (wanted, )
    for a, b in zip(found, wanted, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
        assert torch.equal(a, b)


@each_engine
@pytest.mark.parametrize('layer', LAYERS.values(), ids=LAYERS)
def test_equals_the_definition_with_every_option(name, layer):
    engine, definition = engines._ENGINES[name], library.reference
    case = Case(layer)
    blob, wanted_blob = case.blob(engine), case.blob(definition)
    y, _ = case.run(definition, wanted_blob)
    residual = 0.75 * y.flip(1)
    step = torch.tensor([0.0345])
    floats = case.step * (case.x.float() - 99.5)
    tries = [
        dict(bias=case.bias, residual=residual, act=act, step=step, grid=grid)
        for act in ('', 'relu', 'relu6') for grid in ([0, 0, 255], [8, 3, 15])
    ]
    tries += [{
        **options, 'residual': None,
        'codes_only': True
    } for options in tries]
    tries += [dict(act='relu'), dict(x=floats), dict(x=case.x[:0])]
    tries += [
        dict(x=case.x.contiguous(memory_format=torch.channels_last)),
        dict(x=case.x[:, :, ::2, 1::2])
    ]
    for options in tries:
        assert_same(
            case.run(engine, blob, **options),
            case.run(definition, wanted_blob, **options))


@each_engine
@pytest.mark.parametrize('layer', LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize('codes', [(None, None), (255, -128), (255, 127),
                                   (0, -128)])
def test_sums_are_exact(name, layer, codes):
    case = Case(layer, 8, *codes)
    y, _ = case.run(engines._ENGINES[name], case.blob(engines._ENGINES[name]))
    assert torch.equal(y,
                       case.sums() * case.step * case.scale.view(1, -1, 1, 1))


@each_engine
def test_sums_of_a_filter_of_one_channel_are_exact(name):
    # oneDNN miscounts them on small images
    case = Case(([1, 1, 7, 7], 1, [1, 2], [5, 3], [1, 1], 0))
    case.x = case.x[:, :, :1, :1]
    engine = engines._ENGINES[name]
    y, _ = case.run(engine, case.blob(engine))
    assert torch.equal(y, case.sums() * case.step * case.scale)


@each_engine
@pytest.mark.parametrize('bits', [2, 4, 8])
def test_linear_equals_the_definition(name, bits):
    engine = engines._ENGINES[name]
    case = Case(LAYERS['1x1'], bits)
    rows = case.x.permute(0, 2, 3, 1)
    for x in rows, rows[0, 0, :1], rows[0, 0, 0], rows[:0], rows * 0.01:
        rest = (case.step, case.scale, case.bias, case.shape, bits, case.grid)
        assert_same(
            engine.integer_linear(x, case.blob(engine), *rest),
            library.reference.integer_linear(x, case.blob(library.reference),
                                             *rest))


@each_engine
def test_the_number_of_threads_changes_nothing(name):
    case = Case(([64, 32, 3, 3], 1, [1, 1], [1, 1], [1, 1], 128))
    case.x = integers(0, 255, 3, 32, 20, 20).to(torch.uint8)
    blob, results = case.blob(engines._ENGINES[name]), []
    for threads in 1, 2, 3:
        torch.set_num_threads(threads)
        results.append(case.run(engines._ENGINES[name], blob)[0])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


class Network(nn.Module):
    """A convolution, and a linear layer of what it hands on."""

    def __init__(self, engine):
        super().__init__()
        self.engine = engine
        self.conv, self.linear = Case(LAYERS['3x3']), Case(
            ([10, 40, 1, 1], 1, [1, 1], [0, 0], [1, 1], 0))
        self.blobs = [case.blob(engine) for case in (self.conv, self.linear)]

    def forward(self, x):
        codes = self.conv.run(
            self.engine,
            self.blobs[0],
            x=x * 2,
            codes_only=True,
            step=self.conv.step,
            act='relu',
            grid=[0, 0, 255])
        case = self.linear
        return self.engine.integer_linear(
            codes.permute(0, 2, 3, 1), self.blobs[1], case.step, case.scale,
            case.bias, case.shape, 8, case.grid) * 2


IMAGE = integers(-99, 99, 2, 24, 9, 10, seed=9) / 70


@each_engine
def test_compiles_and_exports(name):
    model = Network(engines._ENGINES[name])
    wanted = model(IMAGE)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    assert torch.equal(compiled(IMAGE), wanted)
    program = torch.export.export(model, (IMAGE, ))
    assert torch.equal(program.module()(IMAGE), wanted)


@pytest.mark.slow
@each_engine
def test_network_compiles_with_inductor(name):
    model = Network(engines._ENGINES[name])
    compiled = torch.compile(model, fullgraph=True)
    assert torch.equal(compiled(IMAGE), model(IMAGE))


@pytest.mark.parametrize(
    'name', ['onednn', pytest.param('float', marks=pytest.mark.slow)])
def test_operators_pass_opcheck(name):
    if name not in USABLE:
        pytest.skip(ops.why_not(name))
    engine = engines._ENGINES[name]
    case = Case(LAYERS['1x1'])
    blob = case.blob(engine)
    first = (case.x, blob, case.step, case.scale, case.bias)
    y, _ = case.run(engine, blob)
    for operator, arguments in ((engine.integer_prepack,
                                 (ops.store_codes(case.weight,
                                                  8), case.shape, 1, 8, 255)),
                                (engine.integer_conv2d,
                                 (*first, y, case.step, *case.conv, 'relu',
                                  [0, 0, 255])), (engine.integer_conv2d_codes,
                                                  (*first, case.step,
                                                   *case.conv, '', [0, 0,
                                                                    255])),
                                (engine.integer_linear,
                                 (case.x.permute(0, 2, 3, 1), *first[1:],
                                  case.shape, 8, case.grid))):
        torch.library.opcheck(operator.default, arguments)


@each_engine
def test_models_are_copied_pickled_and_shared_by_threads(name):
    model = Network(engines._ENGINES[name])
    wanted = model(IMAGE)
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    assert all(other.engine is model.engine for other in others)
    results = [None] * 6

    def run(i):
        results[i] = (others + [model])[i % 3](IMAGE)

    threads = [threading.Thread(target=run, args=(i, )) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(r, wanted) for r in results)


@needs_onednn
def test_weights_of_onednn_live_as_long_as_the_model_and_are_few():
    before = len(onednn._PACKED)
    case, engine = Case(LAYERS['3x3']), engines._ENGINES['onednn']
    blob = case.blob(engine)
    for width in range(4, 40):
        x = torch.zeros(1, 24, 4, width, dtype=torch.uint8)
        case.run(engine, blob, x=x)
    assert len(onednn._PACKED) == before + 1
    assert len(onednn._PACKED[blob]) == onednn._MOST_SHAPES
    del blob
    assert len(onednn._PACKED) == before


@needs_onednn
def test_a_changed_blob_is_arranged_anew():
    case, engine = Case(LAYERS['3x3']), engines._ENGINES['onednn']
    blob = case.blob(engine)
    case.run(engine, blob)
    assert case.run(engine, blob.zero_())[0].abs().max() == 0


@needs_onednn
def test_onednn_arranges_weights_for_the_shape_of_the_input(monkeypatch):
    shapes, prepack = [], torch.ops.onednn.qconv_prepack

    def spy(*args):
        shapes.append(args[-1])
        return prepack(*args)

    monkeypatch.setattr(torch.ops.onednn, 'qconv_prepack', spy)
    case, engine = Case(LAYERS['3x3']), engines._ENGINES['onednn']
    blob = case.blob(engine)
    for _ in range(2):
        for x in case.x, case.x[:1]:
            case.run(engine, blob, x=x)
    assert shapes == [[2, 24, 9, 10], [1, 24, 9, 10]]


@needs_onednn
def test_onednn_gets_unsigned_activations(monkeypatch):
    dtypes, convolve = set(), torch.ops.onednn.qconv2d_pointwise

    def spy(x, *args):
        dtypes.add(x.dtype)
        return convolve(x, *args)

    monkeypatch.setattr(torch.ops.onednn, 'qconv2d_pointwise', spy)
    case, engine = Case(LAYERS['3x3']), engines._ENGINES['onednn']
    for x in case.x, case.x * 0.01 - 1:
        case.run(engine, case.blob(engine), x=x)
    assert dtypes == {torch.uint8}
    with pytest.raises(ValueError, match='uint8 codes or float32'):
        case.run(engine, case.blob(engine), x=case.x.to(torch.int8))


@needs_onednn
def test_an_engine_refuses_the_blob_of_another():
    case = Case(LAYERS['3x3'])
    blob = case.blob(engines._ENGINES['float'])
    with pytest.raises(ValueError, match='integer_prepack of the engine'):
        case.run(engines._ENGINES['onednn'], blob)


@pytest.mark.skipif(
    bool(onednn.missing()) or os.uname().machine != 'x86_64',
    reason='needs oneDNN on x86')
def test_onednn_is_refused_where_it_saturates():
    code = """if True:
        import os
        from mmcompress import ops
        print(ops.choose_engine().name)
        os.environ['MMCOMPRESS_ENGINE'] = 'onednn'
        ops.choose_engine()
    """
    done = subprocess.run([sys.executable, '-c', code],
                          capture_output=True,
                          text=True,
                          cwd=ROOT,
                          env=dict(os.environ, ONEDNN_MAX_CPU_ISA='AVX2'))
    assert done.stdout in ('kernels\n', 'float\n')
    assert ('MMCOMPRESS_ENGINE=onednn cannot be had: differs from the '
            'definition at extremes') in done.stderr


@pytest.fixture
def fresh():
    engines.why_not.cache_clear()
    yield
    engines.why_not.cache_clear()


@each_engine
def test_the_environment_forces_an_engine(name, monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_ENGINE', name)
    assert ops.choose_engine().name == ops.build_info()['engine'] == name


def test_the_environment_is_checked(monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_ENGINE', 'tpu')
    with pytest.raises(RuntimeError, match='tpu is none of .*onednn.*float'):
        ops.choose_engine()


def test_what_private_names_lack_is_said(fresh, monkeypatch):
    monkeypatch.setattr(onednn, '_NEEDED', ('nosuch', ))
    assert 'torch.ops.onednn.nosuch is not in PyTorch' in ops.why_not('onednn')
    assert ops.choose_engine().name != 'onednn'


def test_other_arguments_of_private_names_are_no_crash(fresh, monkeypatch):

    def changed(x):
        return x

    monkeypatch.setattr(torch.ops.onednn, 'qlinear_pointwise', changed)
    if not onednn.missing():
        assert ops.why_not('onednn')


@pytest.mark.parametrize('name', ['onednn', 'kernels'])
def test_one_wrong_bit_refuses_an_engine(name, fresh, monkeypatch):
    if name not in USABLE:
        pytest.skip('not here')
    engine = engines._ENGINES[name]

    def wrong(*args):
        y = engine.integer_linear(*args)
        y[0, 3] = y[0, 3].nextafter(y.new_tensor(99.))
        return y

    broken = engines.Engine(name, engine.integer_prepack,
                            engine.integer_conv2d, engine.integer_conv2d_codes,
                            wrong)
    monkeypatch.setitem(engines._ENGINES, name, broken)
    assert 'differs from the definition' in ops.why_not(name)


def test_there_is_always_an_engine(fresh, monkeypatch):
    monkeypatch.setattr(engines, 'difference', lambda *_: 'broken')
    assert ops.choose_engine().name == 'float'
    assert ops.build_info()['engines'] == dict(
        ops.build_info()['engines'], float='')
