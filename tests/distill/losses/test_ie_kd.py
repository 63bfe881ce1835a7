import pytest
import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import IEKDLoss
from mmcompress.distill.losses.ie_kd import (Autoencoder, Coder, mean_distance,
                                             unit)

KINDS = pytest.mark.parametrize('kind', ['norm', 'cos'])


def ie_kd(student_channels=6, factor_channels=4, kind='norm', **kwargs):
    torch.manual_seed(0)
    return IEKDLoss(student_channels, factor_channels, inh_loss=kind,
                    exp_loss=kind, **kwargs)  # yapf: disable


def maps(channels, size=5, num=3, dtype=torch.float32, levels=1):
    generator = torch.Generator().manual_seed(channels)
    return [
        torch.randn(num, channels, size, size, generator=generator).to(dtype)
        for _ in range(levels)
    ]


def total(losses):
    return sum(level for levels in losses.values() for level in levels)


@golden('ie_kd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


@KINDS
def test_an_equal_factor_is_inherited_and_not_explored(kind):
    loss = ie_kd(kind=kind, inh_weight=1, exp_weight=1)
    student, = maps(6)
    inherited, = loss.inherited([student])
    student.requires_grad_()
    losses = loss([student], [inherited.detach()])
    torch.testing.assert_close(losses['loss_inh'][0], torch.tensor(0.))
    losses['loss_inh'][0].backward()
    assert student.grad.abs().max() < 1e-6
    explored, = loss.explored([student])
    farthest = dict(norm=0, cos=1)[kind]
    found = loss([student], [explored])['loss_exp'][0]
    torch.testing.assert_close(found, torch.tensor(float(farthest)))


def test_steps_inherit_and_explore():
    loss = ie_kd()
    student = [maps(6)[0].requires_grad_()]
    teacher = maps(4)
    before = loss(student, teacher)
    optimizer = torch.optim.SGD([*student, *loss.parameters()], 1.0)
    total(before).backward()
    optimizer.step()
    after = loss(student, teacher)
    for name in ('loss_inh', 'loss_exp'):
        assert after[name][0] < before[name][0]


@pytest.mark.parametrize('p', [1, 1.5, 2, 3])
def test_exploration_is_bounded(p):
    loss = ie_kd(p=p, exp_weight=1)
    teacher = maps(4)
    explored, = loss.explored(maps(6))
    numel = teacher[0][0].numel()
    # as far as unit vectors can be
    farthest = loss(maps(6), [-explored.detach()])['loss_exp'][0]
    bound = -2 * numel**(-0.5 if p <= 2 else -1 / p)
    assert bound - 1e-6 <= farthest < loss(maps(6), teacher)['loss_exp'][0] < 0


@KINDS
def test_the_length_of_factors_plays_no_part(kind):
    student, teacher = maps(6), maps(4)
    before = ie_kd(kind=kind)(student, teacher)
    after = ie_kd(kind=kind)(student, [3 * teacher[0]])
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize('divide', ['natural', 'random'])
@pytest.mark.parametrize('channels', [2, 7, 8])
def test_channels_are_divided_once(divide, channels):
    loss = ie_kd(channels, divide=divide)
    halves = loss.inh_index, loss.exp_index
    assert len(halves[0]) == channels // 2
    assert sorted(torch.cat(halves).tolist()) == list(range(channels))
    loss(maps(channels), maps(4))
    torch.manual_seed(1)
    other = IEKDLoss(channels, 4, divide=divide)
    other.load_state_dict(loss.state_dict())
    assert other.inh_index.equal(loss.inh_index)
    student = [x.requires_grad_() for x in maps(channels)]
    loss(student, maps(4))['loss_inh'][0].backward()
    learn = student[0].grad.abs().amax((0, 2, 3)) > 0
    assert learn[loss.inh_index].all()
    assert not learn[loss.exp_index].any()


def test_random_divisions_differ():
    torch.manual_seed(0)
    first, second = (IEKDLoss(16, 4, divide='random') for _ in range(2))
    assert not first.inh_index.equal(second.inh_index)


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(kind='cos'),
    dict(use_bn=False),
    dict(teacher_channels=4, num_levels=2)
])
def test_every_parameter_learns(kwargs):
    loss = ie_kd(**kwargs)
    levels = kwargs.get('num_levels', 1)
    total(loss(maps(6, levels=levels), maps(4, levels=levels))).backward()
    assert all(p.grad.any() for p in loss.parameters())


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(kind='cos'),
    dict(p=2, use_bn=False),
    dict(teacher_channels=2, factor_channels=2)
])
def test_gradients_are_right(kwargs):
    loss = ie_kd(4, **{'factor_channels': 2, **kwargs}).double()
    channels = kwargs.get('teacher_channels', 2)
    teacher = maps(channels, 2, 2, torch.float64)
    student = maps(4, 2, 2, torch.float64)[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: total(loss([x], teacher)),
                                    student)


@KINDS
@pytest.mark.parametrize('use_bn', [True, False])
@pytest.mark.parametrize('student', [
    torch.zeros(2, 6, 5, 5),
    torch.full((2, 6, 5, 5), 1e4),
    torch.full((2, 6, 5, 5), -1e4), 1e4 * maps(6, num=1)[0]
])
def test_extremes_stay_finite(kind, use_bn, student):
    loss = ie_kd(kind=kind, use_bn=use_bn, teacher_channels=4)
    student.requires_grad_().grad = None
    for teacher in (student[:, :4].detach(), 1e4 * torch.ones(5, 5)):
        losses = loss([student], [teacher.expand(len(student), 4, 5, 5)])
        total(losses).backward()
        assert total(losses).isfinite()
        # nor huge, of a factor of zeros for example
        assert student.grad.abs().max() < 1e4
        assert all(p.grad.isfinite().all() for p in loss.parameters())


def test_a_factor_of_zeros_stays_zero_without_gradient():
    factor = torch.zeros(2, 3, 1, 1)
    factor[1] = 1e-6
    factor.requires_grad_()
    units = unit(factor)
    assert units[0].eq(0).all()
    torch.testing.assert_close(units[1].norm(), torch.tensor(1.))
    units[:, 0].sum().backward()
    assert factor.grad[0].eq(0).all() and factor.grad[1].all()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('kwargs', [dict(), dict(teacher_channels=4)])
@KINDS
def test_autocast_gives_nearly_the_same_loss(dtype, kwargs, kind):

    def features(dtype):
        # those that half precision knows
        return [[x.bfloat16().half().to(dtype) for x in maps(channels)]
                for channels in (6, 4)]

    expected = ie_kd(kind=kind, **kwargs)(*features(torch.float32))
    with torch.autocast('cpu', dtype=dtype):
        actual = ie_kd(kind=kind, **kwargs)(*features(dtype))
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=0)


def test_levels_have_their_own_coders_and_are_averaged():
    student, teacher = maps(6, levels=2), maps(4, levels=2)
    both = ie_kd(num_levels=2)
    losses = both(student, teacher)
    for level in range(2):
        one = ie_kd()
        one.load_state_dict({
            k.replace(f'.{level}.', '.0.', 1): v
            for k, v in both.state_dict().items()
            if 'index' in k or k.startswith(f'embed_inh.{level}.')
            or k.startswith(f'embed_exp.{level}.')
        })
        for name, (expected, ) in one([student[level]],
                                      [teacher[level]]).items():
            torch.testing.assert_close(losses[name][level], expected / 2)


def test_larger_factors_are_pooled():
    loss = ie_kd()
    teacher, = maps(4, size=4)
    doubled = teacher.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = loss(maps(6, size=4), [teacher])
    torch.testing.assert_close(loss(maps(6, size=4), [doubled]), expected)
    assert total(loss(maps(6, size=8), [teacher])).isfinite()


def test_a_batch_of_one():
    assert total(ie_kd()(maps(6, num=1), maps(4, num=1))).isfinite()
    single = maps(6, size=1, num=1), maps(4, size=1, num=1)
    loss = ie_kd()
    for x in single[0]:
        x.requires_grad_()
    with pytest.warns(UserWarning, match='use_bn=False'):
        nothing = total(loss(*single))
    nothing.backward()
    assert nothing == 0
    assert not any(p.grad.any() for p in (*single[0], *loss.parameters()))
    with pytest.raises(ValueError, match='use_bn=False'):
        Coder(6, 4)(*single[0])
    evaluated = total(loss.eval()(*single))
    assert evaluated.isfinite() and evaluated != 0
    assert total(ie_kd(use_bn=False)(*single)).isfinite()


def test_teachers_get_no_gradient():
    teacher = [x.requires_grad_() for x in maps(4)]
    loss = ie_kd(teacher_channels=4)
    total(loss(maps(6), teacher)).backward()
    assert teacher[0].grad is None
    # its autoencoder learns to reconstruct, whatever the student does
    before = {k: p.grad for k, p in loss.autoencoder.named_parameters()}
    loss.zero_grad()
    losses = loss([2 * x for x in maps(6)], teacher)
    losses['loss_rec'][0].backward()
    for key, parameter in loss.autoencoder.named_parameters():
        torch.testing.assert_close(parameter.grad, before[key])


def test_coders_keep_their_input():
    feature, = maps(4)
    before = feature.clone()
    Autoencoder(4, 2)([feature])
    assert feature.equal(before)


def test_coders_start_as_officially():
    torch.manual_seed(0)
    coder = Coder(64, 32)
    assert [type(m).__name__ for m in coder.layers
            ] == ['LeakyReLU'] + 3 * ['Conv2d', 'BatchNorm2d', 'LeakyReLU']
    for index, channels in ((1, 64), (4, 32), (7, 32)):
        conv = coder.layers[index]
        assert conv.bias is None and conv.out_channels == channels
        expected = (2 / (9 * channels))**0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)
    plain = Coder(6, 3, use_bn=False)
    assert [type(m).__name__
            for m in plain.layers] == 3 * ['Conv2d', 'LeakyReLU']


@pytest.mark.parametrize('p', [1, 1.5, 2, 3])
def test_the_distance_is_a_mean_over_elements(p):
    a, b = torch.randn(2, 5, 3, dtype=torch.float64)
    assert mean_distance(a, b, p).item() == pytest.approx(
        (a - b).abs().pow(p).mean().item()**(1 / p))


@pytest.mark.parametrize('p', [1, 2])
def test_the_distance_of_equals_has_no_gradient(p):
    x = torch.randn(2, 3).requires_grad_()
    mean_distance(x, x.detach(), p).backward()
    assert x.grad.eq(0).all()


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="inh_loss must be 'norm' or 'cos'"):
        IEKDLoss(4, inh_loss='l2')
    with pytest.raises(ValueError, match="divide must be 'natural'"):
        IEKDLoss(4, divide='half')
    with pytest.raises(ValueError, match='at least 1, got 0'):
        IEKDLoss(4, p=0)
    with pytest.raises(ValueError, match='at least 2.* got 1'):
        IEKDLoss(1)
    with pytest.raises(ValueError, match=r'\(6, 4\) channels .*factor_chan'):
        ie_kd()(maps(6), maps(5))
    with pytest.raises(ValueError, match=r'\(6, 3\) channels .*teacher_chan'):
        ie_kd(teacher_channels=3)(maps(6), maps(4))
    with pytest.raises(ValueError, match='1 levels'):
        ie_kd()(maps(6, levels=2), maps(4, levels=2))
