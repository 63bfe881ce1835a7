"""What every quantizer must bear."""
import copy
import inspect
import pickle
import socket
from collections.abc import Iterable
from functools import partial

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from quantization.quantizer_cases import CASES, PLACES, SHAPE, SIGNS
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmcompress import quantization
from mmcompress.compat import close_process_group
from mmcompress.quantization.quantizer import Quantizer

DEFINED = [
    pytest.param(name, place, sign, id=f'{name}-{place}-{sign}')
    for name, case in CASES.items() for place, sign in case.defined()
]
UNDEFINED = [
    pytest.param(name, place, sign, id=f'{name}-{place}-{sign}')
    for name, case in CASES.items() for place in PLACES for sign in SIGNS
    if (place, sign) not in set(case.defined())
]
NAN, INF = float('nan'), float('inf')

every_quantizer = pytest.mark.parametrize('name', CASES)
everywhere = pytest.mark.parametrize(('name', 'place', 'sign'), DEFINED)


def normal(seed: int = 0, shape=SHAPE, dtype=torch.float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def values(name: str, *args, **kwargs) -> Tensor:
    """Such as a quantizer is made for."""
    return CASES[name].data(normal(*args, **kwargs))


def leaf(name: str, *args, **kwargs) -> Tensor:
    return values(name, *args, **kwargs).requires_grad_()


def begun(name: str, *args) -> Quantizer:
    """A quantizer that has seen data."""
    quantizer = CASES[name].build(*args)
    quantizer(leaf(name))
    assert quantizer.is_initialized
    return quantizer


def shift(quantizer: Quantizer) -> None:
    """A zero point that isn't 0, as it is at first."""
    if isinstance(getattr(quantizer, 'zero_point', None), nn.Parameter):
        with torch.no_grad():
            quantizer.zero_point.fill_(1.3)


def where(condition) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        'name', [name for name in CASES if condition(CASES[name].build())])


stateful = where(lambda q: q.stateful)
with_parameters = where(lambda q: any(True for _ in q.parameters()))


def equal_states(*modules: nn.Module) -> bool:
    first, *others = [module.state_dict() for module in modules]
    return all(
        torch.equal(value, other[key]) for other in others
        for key, value in first.items())


def test_no_quantizer_is_left_out():
    exported = {
        kind
        for _, kind in inspect.getmembers(quantization, inspect.isclass)
        if issubclass(kind, Quantizer) and kind is not Quantizer
    }
    assert exported == {case.cls for case in CASES.values()}


# ---- What it computes ------------------------------------------------------


@pytest.mark.parametrize(('name', 'place', 'sign'), UNDEFINED)
def test_what_is_not_defined_is_refused_by_name(name, place, sign):
    with pytest.raises(ValueError, match=CASES[name].cls.__name__):
        CASES[name].build(place, sign)


@everywhere
def test_integers_stand_for_what_it_computes(name, place, sign):
    quantizer = begun(name, place, sign).eval()
    shift(quantizer)
    x = 2 * values(name, 1)
    codes = quantizer.quantize_int(x)
    y = quantizer(x)
    ulp = torch.nextafter(y.abs(), torch.tensor(INF)) - y.abs()
    assert ((codes.dequantize() - y).abs() <= ulp).all()
    assert codes.values.dtype == torch.int32 and codes.values.shape == x.shape
    assert codes.values.min() >= quantizer.low
    assert codes.values.max() <= quantizer.high
    assert codes.values.unique().numel() > 1


@everywhere
def test_a_grid_gives_the_same_integers(name, place, sign):
    quantizer = begun(name, place, sign).eval()
    shift(quantizer)
    grid = quantizer.grid()
    if grid is not None and grid.dynamic_clip is None:
        x = 2 * values(name, 1)
        offset = 0 if grid.offset is None else grid.offset
        codes = ((x - offset) / grid.scale).round() + grid.zero_point
        expected = quantizer.quantize_int(x)
        assert (grid.low, grid.high) == (quantizer.low, quantizer.high)
        assert torch.equal(
            codes.clamp(grid.low, grid.high).int(), expected.values)
        assert torch.equal(expected.scale.view(1), grid.scale)
        assert expected.offset == offset


@everywhere
def test_gradients_are_those_of_the_paper(name, place, sign):
    quantizer = CASES[name].build(place, sign).double()
    quantizer(leaf(name, dtype=torch.double))
    shift(quantizer)
    x, dy = 2 * values(
        name, 1, dtype=torch.double), normal(
            2, dtype=torch.double)
    x.requires_grad_()
    quantizer(x).backward(dy)
    with torch.no_grad():
        expected = CASES[name].gradients(quantizer, x, dy)
    actual = {k: p.grad for k, p in quantizer.named_parameters()}
    torch.testing.assert_close(
        actual | dict(x=x.grad), {
            k: v.double()
            for k, v in expected.items()
        },
        rtol=1e-9,
        atol=1e-12)


@pytest.mark.parametrize(('name', 'place', 'sign'),
                         [p for p in DEFINED if CASES[p.values[0]].rounds])
def test_what_it_returns_is_returned_again(name, place, sign):
    quantizer = begun(name, place, sign)
    y = quantizer(2 * values(name, 1))
    torch.testing.assert_close(quantizer(y), y, rtol=0, atol=1e-6)
    assert torch.equal(
        quantizer.quantize_int(y).values,
        quantizer.quantize_int(2 * values(name, 1)).values)


@pytest.mark.parametrize('name', [k for k, c in CASES.items() if c.rounds])
def test_ties_go_to_even_codes(name):
    quantizer = begun(name)
    with torch.no_grad():
        for key, value in dict(
                scale=0.5, alpha=0.5 * quantizer.high, beta=0.25).items():
            if getattr(quantizer, key, None) is not None:
                getattr(quantizer, key).fill_(value)
    codes = quantizer.quantize_int(values(name)).values
    offset = quantizer.quantize_int(values(name)).offset
    zero = quantizer.quantize_int(values(name)).zero_point
    low, high = quantizer.low, quantizer.high
    assert codes.min() >= low
    halves = torch.arange(low, high) + 0.5
    ties = (halves - zero) * 0.5 + offset
    expected = torch.where(halves.floor() % 2 == 0, halves.floor(),
                           halves.ceil())
    if isinstance(zero, Tensor) and zero % 2:
        # ties are even before the zero point is added
        expected = halves.floor() + halves.ceil() - expected
    assert torch.equal(quantizer.quantize_int(ties).values, expected.int())
    assert torch.equal(quantizer(ties), (expected - zero) * 0.5 + offset)


# ---- Odd inputs ------------------------------------------------------------


@everywhere
def test_empty_inputs_pass(name, place, sign):
    shape = (0, *SHAPE[1:])
    for quantizer in CASES[name].build(place, sign), begun(name, place, sign):
        before = copy.deepcopy(quantizer.state_dict())
        x = leaf(name, shape=shape)
        y = quantizer(x)
        y.sum().backward()
        assert y.shape == x.grad.shape == shape
        assert all(p.grad is not None for p in quantizer.parameters())
        assert quantizer.quantize_int(x).dequantize().shape == shape
        after = quantizer.state_dict()
        assert all(torch.equal(before[k], v) for k, v in after.items())


@everywhere
def test_constants_give_finite_values(name, place, sign):
    for value in (3., -3., 1e-12, 1e6):
        quantizer = CASES[name].build(place, sign)
        x = CASES[name].data(torch.full(SHAPE, value)).requires_grad_()
        y = quantizer(x)
        y.sum().backward()
        grads = [p.grad for p in quantizer.parameters()]
        assert all(t.isfinite().all() for t in (y, x.grad, *grads)), value


@everywhere
def test_zeros_give_finite_values(name, place, sign):
    for quantizer in CASES[name].build(place, sign), begun(name, place, sign):
        x = torch.zeros(SHAPE, requires_grad=True)
        y = quantizer(x)
        y.sum().backward()
        assert y.isfinite().all() and x.grad.isfinite().all()
        codes = quantizer.eval().quantize_int(x)
        if quantizer.is_initialized:
            assert codes.values.min() >= quantizer.low
            assert codes.values.max() <= quantizer.high
        assert torch.equal(codes.dequantize(), quantizer(x))


@everywhere
def test_a_channel_of_zeros_beside_others_gives_finite_values(
        name, place, sign):
    quantizer = CASES[name].build(place, sign)
    x = values(name)
    x[:, 0] = x[..., 0] = 0
    x.requires_grad_()
    y = quantizer(x)
    y.sum().backward()
    grads = [p.grad for p in quantizer.parameters()]
    assert all(t.isfinite().all() for t in (y, x.grad, *grads))


@stateful
def test_zeros_pass_and_are_not_what_it_begins_with(name):
    quantizer = CASES[name].build()
    quantizer.path = 'neck.conv.input_quant'
    zeros = torch.zeros(SHAPE, requires_grad=True)
    for _ in range(2):
        y = quantizer(zeros)
        assert torch.equal(y, zeros) and not quantizer.is_initialized
        y.sum().backward()
        # DDP waits for the gradient of every parameter
        assert all(p.grad is not None for p in quantizer.parameters())
    with torch.no_grad():
        assert torch.equal(quantizer(zeros), zeros)
        codes = quantizer.quantize_int(zeros)
        assert not codes.values.any() and codes.scale == 1
        # a bias is no longer 0 after the first step
        other = leaf(name)
        assert torch.equal(quantizer(other), other)
        with pytest.raises(RuntimeError, match='input_quant has no scales'):
            quantizer.quantize_int(other)
    quantizer(leaf(name))
    assert equal_states(quantizer, begun(name))


@every_quantizer
def test_values_that_are_no_numbers_are_refused_in_words(name):
    quantizer = begun(name)
    quantizer.path = 'neck.conv.input_quant'
    x = values(name)
    x[0, 0, 0, 0] = NAN
    with pytest.raises(ValueError, match='neck.conv.input_quant: NaN'):
        quantizer.quantize_int(x)


@pytest.mark.parametrize(
    'name', [n for n, c in CASES.items() if c.build().stateful is False])
def test_values_that_are_no_numbers_stay_so(name):
    # or a training that diverged would go on with the integer of NaN
    x = leaf(name)
    with torch.no_grad():
        x[0, 0, 0, 0] = NAN
    assert CASES[name].build()(x)[0, 0, 0, 0].isnan()


@stateful
def test_does_not_begin_with_values_that_are_not_finite(name):
    quantizer = CASES[name].build()
    quantizer.path = 'neck.conv.input_quant'
    for value in (NAN, INF, -INF):
        x = values(name)
        x[0, 0, 0, 0] = value
        with pytest.raises(ValueError, match='input_quant.*not finite'):
            quantizer(x.requires_grad_())
        assert not quantizer.is_initialized


@pytest.mark.parametrize(('name', 'place', 'sign'),
                         [p for p in DEFINED if p.values[1] != 'tensor'])
def test_another_size_is_refused_in_words(name, place, sign):
    quantizer = begun(name, place, sign)
    with pytest.raises(ValueError, match=f'{quantizer.size} scales for axis'):
        quantizer(leaf(name, shape=(2, 7, 4, 7)))


@every_quantizer
def test_infinite_values_have_codes_or_are_refused_in_words(name):
    quantizer = begun(name).eval()
    quantizer.path = 'neck.conv.input_quant'
    x = values(name)
    x[0, 0, 0, 0] = INF
    try:
        codes = quantizer.quantize_int(x)
    except ValueError as error:
        assert 'neck.conv.input_quant: values that are not' in str(error)
    else:
        assert codes.values[0, 0, 0, 0] == quantizer.high
        assert codes.dequantize().isfinite().all()


@stateful
def test_what_passes_as_it_is_has_the_precision_of_the_rest(name):
    quantizer = CASES[name].build()
    assert quantizer(torch.zeros(SHAPE).half()).dtype == torch.float32
    quantizer.bypass = True
    assert quantizer(values(name).half()).dtype == torch.float32
    quantizer.observer = [].append
    assert quantizer(values(name).half()).dtype == torch.float32


@every_quantizer
@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16], ids=str)
def test_autocast_gives_the_values_of_float32(name, dtype):
    quantizer = begun(name).eval()
    x = values(name, 1).to(dtype)
    with torch.autocast('cpu', dtype=dtype):
        y = quantizer(x)
        codes = quantizer.quantize_int(x)
    assert y.dtype == codes.dequantize().dtype == torch.float32
    assert torch.equal(y, quantizer(x.float()))


# ---- Beginning -------------------------------------------------------------


@stateful
def test_begins_in_eval_mode_where_gradients_are_enabled(name):
    # frozen stages are in eval mode while the model trains
    quantizer = CASES[name].build().eval()
    quantizer(values(name))
    assert quantizer.is_initialized
    assert equal_states(quantizer, begun(name))


@stateful
def test_says_what_to_do_where_it_can_not_begin(name):
    quantizer = CASES[name].build()
    quantizer.path = 'neck.conv.input_quant'
    with torch.no_grad():
        for call in (quantizer, quantizer.quantize_int):
            with pytest.raises(
                    RuntimeError, match='neck.conv.input_quant.*calibrate'):
                call(values(name))


@every_quantizer
def test_weights_are_seen_at_any_time(name):
    quantizer = CASES[name].build().eval()
    with torch.no_grad():
        quantizer(nn.Parameter(values(name)))
    assert quantizer.is_initialized


@stateful
def test_begins_once(name):
    quantizer = begun(name).eval()
    before = copy.deepcopy(quantizer)
    quantizer(3 * leaf(name, 1))
    assert equal_states(quantizer, before)


@stateful
def test_begins_again_when_a_float_checkpoint_is_loaded(name):
    quantizer = begun(name)
    quantizer.load_state_dict({})
    assert not quantizer.is_initialized


@every_quantizer
def test_a_loaded_one_computes_the_same(name):
    quantizer = begun(name).eval()
    new = CASES[name].build().eval()
    new.load_state_dict(quantizer.state_dict())
    with torch.no_grad():
        assert torch.equal(new(values(name, 1)), quantizer(values(name, 1)))


@every_quantizer
def test_parameters_have_one_dimension(name):
    # `init_weights` and weight decay know these from weights
    for place in CASES[name].places:
        for parameter in CASES[name].build(place).parameters():
            assert parameter.dim() == 1


# ---- Copies ----------------------------------------------------------------


@every_quantizer
@pytest.mark.parametrize(
    'duplicate', [copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))],
    ids=['deepcopy', 'pickle'])
def test_a_copy_computes_the_same_and_shares_nothing(name, duplicate):
    quantizer = begun(name).eval()
    twin = duplicate(quantizer)
    with torch.no_grad():
        expected = quantizer(values(name, 1))
        assert torch.equal(twin(values(name, 1)), expected)
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.zero_()
        assert torch.equal(quantizer(values(name, 1)), expected)


@with_parameters
def test_a_trained_copy_begins_by_itself(name):
    quantizer = CASES[name].build()
    twin = copy.deepcopy(quantizer)
    quantizer(leaf(name))
    twin(3 * leaf(name))
    assert not quantizer.stateful or not equal_states(quantizer, twin)


@stateful
@pytest.mark.parametrize('update_buffers', [True, False])
@pytest.mark.parametrize('num_zeros', [0, 2])
def test_a_moving_average_begins_with_the_model(name, update_buffers,
                                                num_zeros):
    quantizer = CASES[name].build()
    average = ExponentialMovingAverage(
        quantizer, momentum=0.5, update_buffers=update_buffers)
    parameters = list(quantizer.parameters())
    twin = average.module
    for batch in num_zeros * [torch.zeros(SHAPE)] + [values(name)]:
        quantizer(batch.requires_grad_()).sum().backward()
        with torch.no_grad():
            # a step
            for parameter in parameters:
                parameter.add_(0.1)
        average.update_parameters(quantizer)
    assert twin.initialized and torch.equal(twin.signed, quantizer.signed)
    for now, mean in zip(parameters, twin.parameters()):
        # of what it began with, unless the first update of all is a copy
        step = 0.05 if num_zeros else 0.
        torch.testing.assert_close(now - mean, torch.full_like(now, step))
    with torch.no_grad():
        twin(values(name))


@stateful
def test_a_resumed_average_begins_with_the_model(name):
    first = CASES[name].build()
    saved = ExponentialMovingAverage(first).state_dict()
    quantizer = CASES[name].build()
    average = ExponentialMovingAverage(quantizer)
    average.load_state_dict(saved)
    quantizer.load_state_dict(first.state_dict())
    quantizer(leaf(name))
    assert average.module.initialized


class Everything(nn.Module):
    """One quantizer of each kind, and a weight for those of weights."""

    def __init__(self, names: Iterable[str] = CASES) -> None:
        super().__init__()
        self.quantizers = nn.ModuleDict({
            name:
            CASES[name].build(CASES[name].places[-1])
            for name in names
        })
        self.weight = nn.Parameter(normal())

    def forward(self, x: Tensor) -> list[Tensor]:
        return [
            quantizer(
                self.weight if CASES[name].is_weight else CASES[name].data(x))
            for name, quantizer in self.quantizers.items()
        ]


@pytest.mark.parametrize('names', [
    pytest.param(['lsq', 'ternary', 'qn_activation', 'observed'], id='some'),
    pytest.param(list(CASES), id='all', marks=pytest.mark.slow),
])
def test_compiled_they_compute_the_same(names):
    net = Everything(names)
    net(normal().requires_grad_())
    net.eval()
    torch._dynamo.reset()
    compiled = torch.compile(net, backend='eager', fullgraph=True)
    with torch.no_grad():
        for seed in (1, 2):
            actual, expected = compiled(normal(seed)), net(normal(seed))
            for name, a, e in zip(names, actual, expected):
                assert torch.equal(a, e), name


# ---- Training --------------------------------------------------------------


def train(net: Everything, x: Tensor, steps: range, state=None) -> dict:
    """Some steps; what they leave behind."""
    x = nn.Parameter(x)
    optimizer = torch.optim.Adam([x, *net.parameters()], lr=0.01)
    if state is not None:
        optimizer.load_state_dict(state['optimizer'])
    for step in steps:
        optimizer.zero_grad()
        target = normal(step)
        loss = sum((y - target).square().mean() for y in net(x * (1 + step)))
        loss.backward()
        optimizer.step()
    return dict(
        net=copy.deepcopy(net.state_dict()),
        optimizer=copy.deepcopy(optimizer.state_dict()),
        x=x.detach().clone())


def test_a_resumed_training_is_the_uninterrupted_one():
    whole = train(Everything(), normal(), range(4))
    half = pickle.loads(pickle.dumps(train(Everything(), normal(), range(2))))
    net = Everything()
    net.load_state_dict(half['net'])
    resumed = train(net, half['x'], range(2, 4), half)
    assert torch.equal(resumed['x'], whole['x'])
    for key, value in whole['net'].items():
        assert torch.equal(resumed['net'][key], value), key


@with_parameters
@pytest.mark.parametrize(
    'optimizer', [
        partial(torch.optim.SGD, lr=1e6),
        partial(torch.optim.Adam, lr=1e3),
        partial(torch.optim.Adam, lr=1e3, foreach=True)
    ],
    ids=['sgd', 'adam', 'foreach'])
def test_scales_stay_positive_after_a_wild_step(name, optimizer):
    quantizer = begun(name)
    optimizer = optimizer(quantizer.parameters())
    for parameter in quantizer.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scales = quantizer.after_step()
    assert scales and all((scale > 0).all() for scale in scales)
    assert quantizer(leaf(name)).isfinite().all()


@with_parameters
def test_weight_decay_is_refused_in_words(name):
    quantizer = begun(name)
    quantizer.path = 'neck.conv.input_quant'
    for parameter in quantizer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(quantizer.parameters(), weight_decay=0.05)
    with pytest.raises(
            ValueError, match='(?s)neck.conv.input_quant.*decay_mult'):
        optimizer.step()


@with_parameters
def test_every_parameter_gets_a_gradient(name):
    quantizer = begun(name)
    quantizer(3 * leaf(name)).square().sum().backward()
    assert all(p.grad.any() for p in quantizer.parameters())


def _train_in_a_process(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    net = Everything()
    parallel = DistributedDataParallel(net, broadcast_buffers=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    states = []
    for step in range(3):
        # the second process has no data at first
        shape = (0, *SHAPE[1:]) if step == 0 and rank else SHAPE
        optimizer.zero_grad()
        x = (1 + rank) * normal(2 * step + rank, shape)
        sum(y.square().sum() for y in parallel(x.requires_grad_())).backward()
        states.append(copy.deepcopy(net.state_dict()))
        optimizer.step()
    states.append(net.state_dict())
    torch.save(states, f'{folder}/{rank}.pth')
    close_process_group()


@pytest.mark.slow
def test_two_processes_stay_equal(tmp_path):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    # not forked: threads that other tests started would be missing there
    torch.multiprocessing.spawn(
        _train_in_a_process, (port, str(tmp_path)), nprocs=2)
    first, second = [torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1)]
    for mine, its in zip(first, second):
        for key, value in mine.items():
            assert torch.equal(value, its[key]), key
