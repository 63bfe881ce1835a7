import copy
import pickle
from collections import namedtuple

import pytest
import torch
import torch.nn as nn

from mmcompress.distill.taps import Taps, map_tensors, parse_tap, tensors_of


class Head(nn.Module):

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(x)


class Net(nn.Module):
    """A neck that gives a tuple and a head shared over its levels."""

    def __init__(self):
        super().__init__()
        self.neck = nn.ModuleDict({'conv': nn.Linear(4, 4)})
        self.levels = Levels()
        self.head = Head()

    def forward(self, x):
        levels = self.levels(self.neck['conv'](x))
        # as mmpose, mmseg and mmdet do in mode 'tensor'
        return [self.head.forward(level) for level in levels]


class Levels(nn.Module):

    def forward(self, x):
        return x, x + 1, x + 2


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def record(net, **specs):
    taps = Taps(specs, net, 'student')
    with taps.record(net) as calls:
        net(torch.ones(2, 4))
    return taps.select(calls)


def test_output_of_a_module(net):
    seen = record(net, a='neck.conv')['a']
    torch.testing.assert_close(seen, net.neck['conv'](torch.ones(2, 4)))


def test_tuple_index_and_slice(net):
    seen = record(net, a='levels', b='levels[1]', c='levels[0:2]',
                  d='levels[-1]', e='levels[1:]')  # yapf: disable
    assert isinstance(seen['a'], tuple) and len(seen['a']) == 3
    assert seen['b'] is seen['a'][1] and seen['d'] is seen['a'][2]
    assert [len(seen[k]) for k in 'ce'] == [2, 2]


def test_input_of_a_module(net):
    assert torch.equal(record(net, a='neck.conv@input')['a'], torch.ones(2, 4))


def test_a_shared_head_yields_a_list_over_its_calls(net):
    seen = record(net, a='head', b='head.fc@input')
    assert isinstance(seen['a'], list) and len(seen['a']) == 3
    assert len(seen['b']) == 3


def test_fires_for_modules_called_by_forward(net):
    """A forward hook does not."""
    hooked = []
    net.head.register_forward_hook(lambda *args: hooked.append(args))
    assert len(record(net, a='head')['a']) == 3
    assert not hooked


def test_two_taps_of_one_module_lists_and_dicts(net):
    seen = record(
        net, a=['levels[0]', 'levels[2]'], b=dict(x='levels[0]', y='head'))
    assert seen['a'][0] is seen['b']['x']
    assert len(seen['b']['y']) == 3


def test_one_module_under_two_names(net):
    net.alias = net.head
    seen = record(net, a='head', b='alias')
    assert len(seen['a']) == len(seen['b']) == 3
    assert 'forward' not in vars(net.head)


def test_everything_is_put_back(net):
    before = {name: dict(vars(m)) for name, m in net.named_modules()}
    record(net, a='head', b='levels')
    taps = Taps(dict(a='head', b='levels'), net, 'student')
    with pytest.raises(ZeroDivisionError), taps.record(net):
        raise ZeroDivisionError
    assert before == {name: dict(vars(m)) for name, m in net.named_modules()}


def test_a_forward_on_the_instance_is_kept(net):

    def own(x):
        return x * 0

    net.head.forward = own
    assert not record(net, a='head')['a'][0].any()
    assert net.head.forward is own


def test_copies_and_pickles_work_after_recording(net):
    record(net, a='head')
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        torch.testing.assert_close(
            twin(torch.ones(2, 4)), net(torch.ones(2, 4)))


def test_stops_after_the_last_call(net):
    taps = Taps(dict(a='head'), net, 'teacher')
    ran = []
    net.register_forward_hook(lambda *args: ran.append(1))
    with taps.record(net, dict(head=2)) as calls:
        net(torch.ones(2, 4))
    assert len(calls['head']) == 2 and not ran
    assert 'forward' not in vars(net.head)


def test_names_the_closest_path(net):
    with pytest.raises(KeyError, match="'neck.cnv'.*closest: neck.conv"):
        Taps(dict(a='neck.cnv'), net, 'student')


@pytest.mark.parametrize('tap', [
    '', 'neck[', 'neck[-]', 'neck[a]', 'neck[]', "neck['']", 'neck]1[',
    'neck@output', 3
])
def test_what_is_not_a_tap(tap):
    with pytest.raises(ValueError, match='is not a tap'):
        parse_tap(tap)


@pytest.mark.parametrize('tap', ['levels[3]', 'levels[-4]', 'levels[5:]'])
def test_wrong_index(net, tap):
    with pytest.raises(IndexError, match=r"levels.* gave 3 values"):
        record(net, a=tap)


def test_index_of_a_tensor(net):
    with pytest.raises(TypeError, match='gave a Tensor, which has no index'):
        record(net, a='neck.conv[0]')


def test_a_tap_that_never_fires(net):
    net.unused = nn.Linear(1, 1)
    with pytest.raises(
            RuntimeError, match="unused of the student was not called"):
        record(net, a='unused')


def test_a_tap_under_activation_checkpointing_is_refused(net):
    """Reentrant checkpointing runs the forward without gradients."""
    from torch.utils.checkpoint import checkpoint
    taps = Taps(dict(a='head.fc'), net, 'student')
    x = torch.ones(2, 4, requires_grad=True)
    with pytest.raises(
            RuntimeError, match='head.fc of the student runs '
            'without gradients'), taps.record(net):
        checkpoint(net.head, x, use_reentrant=True)
    # a teacher runs without gradients anyway
    with torch.no_grad(), taps.record(net) as calls:
        net(x)
    assert len(calls['head.fc']) == 3


# ---- what is changed in place after it was tapped --------------------------


class Overwriting(nn.Module):
    """Changes what its modules gave and got, in every way that there is."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.relu = nn.ReLU(inplace=True)
        self.chunks = Chunks()
        self.stages = Stages()
        self.last = nn.Conv2d(2, 2, 1)
        self.overwrites = True

    def forward(self, x):
        for _ in range(2):
            x = self.conv(x)
            # a residual connection, then an activation
            x = self.relu(x.add_(1) if self.overwrites else x + 1)
        x = x + 1
        first, _ = self.chunks(x)
        # the chunks are views of x
        x *= 2
        stages = self.stages(x)
        stages['a'].append(first)
        stages['b'] = stages.pop('b').sigmoid_()
        return self.relu(self.last(x))


class Chunks(nn.Module):

    def forward(self, x):
        return x.chunk(2, 1)


class Stages(nn.Module):

    def forward(self, x):
        return dict(a=[x + 1, x + 2], b=x + 3)


SPECS = dict(
    output='conv',
    given='relu@input',
    view='chunks[1]',
    nested='stages',
    key="stages['b']",
    both=['conv', dict(last='last')])


def out_of_place(net, x):
    """What the modules gave, by :data:`SPECS`."""
    convs, relus = [], []
    for _ in range(2):
        convs.append(net.conv(x))
        relus.append(convs[-1] + 1)
        x = relus[-1].relu()
    x = x + 1
    view = x.chunk(2, 1)[1]
    x = 2 * x
    last = net.last(x)
    return dict(
        output=convs,
        given=[*relus, last],
        view=view,
        nested=dict(a=[x + 1, x + 2], b=x + 3),
        key=x + 3,
        both=[convs, dict(last=last)])


def see(taps, net, x, num_calls=None):
    with taps.record(net, num_calls) as calls:
        net(x)
    return taps.select(calls)


@pytest.mark.parametrize('amp', [False, True])
@pytest.mark.parametrize('with_gradients', [False, True])
def test_yields_what_was_given_not_what_became_of_it(with_gradients, amp):
    torch.manual_seed(0)
    net, x = Overwriting(), torch.randn(2, 2, 3, 3)
    taps = Taps(SPECS, net, 'model')
    with torch.set_grad_enabled(with_gradients), \
            torch.autocast('cpu', torch.bfloat16, enabled=amp):
        expected = out_of_place(net, x)
        for _ in range(3):
            torch.testing.assert_close(
                see(taps, net, x), expected, rtol=0, atol=0)


def test_gradients_are_those_of_what_was_given():
    torch.manual_seed(0)
    net, x = Overwriting(), torch.randn(2, 2, 3, 3)
    taps = Taps(SPECS, net, 'model')

    def gradients(seen):
        loss = sum(t.square().sum() for t in tensors_of(seen))
        return torch.autograd.grad(loss, [*net.parameters()])

    expected = gradients(out_of_place(net, x))
    for _ in range(2):
        torch.testing.assert_close(gradients(see(taps, net, x)), expected)


def test_stops_early_with_the_values_of_a_whole_forward():
    torch.manual_seed(0)
    net, x = Overwriting(), torch.randn(2, 2, 3, 3)
    taps = Taps(dict(a='conv', b='relu@input'), net, 'teacher')
    with torch.no_grad():
        whole = see(taps, net, x)
        for num_calls in (dict(conv=2, relu=3), dict(conv=2, relu=1)):
            stopped = see(taps, net, x, num_calls)
            torch.testing.assert_close(stopped['a'], whole['a'])
            assert torch.equal(tensors_of(stopped['b'])[0], whole['b'][0])


@pytest.mark.parametrize('use_reentrant', [False, True])
def test_what_is_checkpointed_as_a_whole(use_reentrant):
    from torch.utils.checkpoint import checkpoint
    torch.manual_seed(0)
    net = Overwriting()
    x = torch.randn(2, 2, 3, 3, requires_grad=True)
    conv, expected = net.conv.forward, net.conv(x)
    net.conv.forward = lambda x: checkpoint(
        conv, x, use_reentrant=use_reentrant)
    taps = Taps(dict(a='conv'), net, 'student')
    for _ in range(2):
        seen = see(taps, net, x)['a'][0]
        torch.testing.assert_close(seen, expected)
        seen.sum().backward()


def test_copies_only_what_is_overwritten():
    net = Overwriting()
    taps = Taps(dict(a='conv', b='last@input'), net, 'student')
    given = []
    for name in ('conv', 'last'):
        net.get_submodule(name).register_forward_hook(
            lambda module, x, y: given.extend([*x, y]))
    see(taps, net, torch.randn(2, 2, 3, 3))
    given.clear()
    seen = see(taps, net, torch.randn(2, 2, 3, 3))
    assert not any(t is g for t in seen['a'] for g in given)
    with taps.record(net) as calls:
        x = torch.randn(2, 2, 3, 3)
        net.last(x)
        net.conv(x)
    assert taps.select(calls)['b'] is x


def test_what_is_newly_overwritten_in_a_later_step_is_an_error():
    net = Overwriting()
    net.overwrites = False
    taps = Taps(dict(a='conv'), net, 'student')
    x = torch.randn(2, 2, 3, 3)
    see(taps, net, x)
    net.overwrites = True
    with pytest.raises(RuntimeError, match='what conv of the student gave '
                       'was changed in place'):  # yapf: disable
        see(taps, net, x)


def test_a_list_that_grows_later_yields_what_it_was():
    net = nn.ModuleDict(dict(stages=Stages()))
    taps = Taps(dict(a='stages'), net, 'student')
    for _ in range(2):
        with taps.record(net) as calls:
            given = net['stages'](torch.zeros(1))
            given['a'].append(given.pop('b'))
        assert taps.select(calls) == dict(a=dict(a=[1, 2], b=3))


def test_containers_keep_their_types():
    Pair = namedtuple('Pair', 'x y')
    value = dict(a=Pair(torch.ones(1), None), b=[(torch.ones(2), 'text')])
    mapped = map_tensors(value, lambda t: t + 1)
    assert mapped == dict(
        a=Pair(torch.tensor([2.]), None), b=[(mapped['b'][0][0], 'text')])
    assert value['a'].x == 1 and type(mapped['a']) is Pair


# ---- taps that are none ----------------------------------------------------


@pytest.mark.parametrize('tap, error, message', [
    ("stages['c']", KeyError, 'a dict with the keys a, b'),
    ("conv['a']", TypeError, 'gave a Tensor, which has no keys'),
    ('stages[0]', TypeError, 'gave a dict, which has no index'),
])
def test_a_key_that_is_not_there(tap, error, message):
    net = Overwriting()
    with pytest.raises(error, match=message):
        see(Taps(dict(a=tap), net, 'model'), net, torch.ones(2, 2, 3, 3))


def test_a_module_that_is_never_called_itself():
    net = Net()
    net.convs = nn.ModuleList([nn.ModuleDict(dict(x=nn.Linear(4, 4)))])
    for tap in ('convs', 'convs.0'):
        with pytest.raises(
                ValueError,
                match=f"tap '{tap}': .* of the student is a Module.*, which "
                "is never called itself; .*such as 'convs.0.x'"):
            Taps(dict(a=tap), net, 'student')
    net.empty = nn.ModuleList()
    with pytest.raises(ValueError, match='an empty ModuleList'):
        Taps(dict(a='empty'), net, 'student')
