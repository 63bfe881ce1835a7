import copy
import pickle

import pytest
import torch
import torch.nn as nn

from mmcompress.distill.taps import Taps, parse_tap


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


@pytest.mark.parametrize(
    'tap',
    ['', 'neck[', 'neck[-]', 'neck[a]', 'neck[]', 'neck]1[', 'neck@output', 3])
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
