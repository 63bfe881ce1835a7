import math

import pytest
import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import (CWDLoss, G2SDDetLoss, G2SDGenericLoss,
                                       HardKDLoss)

# for test_every_loss.py
EVERY_LOSS = dict(hard_kd=dict(name='HardKDLoss', inputs='LOGITS'))


@golden('g2sd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def generic(**kwargs):
    torch.manual_seed(0)
    return G2SDGenericLoss(4, 6, **kwargs).double()


def hidden(n=2, length=9, scale=1.0, num_masked=6):
    """What decoders of widths 4 and 6 give, and one mask."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(n, length)
    mask[:, :num_masked] = 1
    return [
        dict(
            hidden=scale * torch.randn(
                n, length + 1, dims, generator=generator, dtype=torch.double),
            mask=mask) for dims in (4, 6)
    ]


def maps(n=2, anchors=3, dtype=torch.double, scale=1.0):
    """Features of 4 and 6 channels, and objectness, on two levels."""
    generator = torch.Generator().manual_seed(0)

    def draw(channels, size):
        return scale * torch.randn(
            n, channels, *size, generator=generator, dtype=dtype)

    sizes = (4, 5), (2, 3)
    return [
        dict(
            feats=[draw(channels, size) for size in sizes],
            objectness=[draw(anchors, size) for size in sizes])
        for channels in (4, 6)
    ]


def det(**kwargs):
    torch.manual_seed(0)
    return G2SDDetLoss(4, 6, num_levels=2, **kwargs).double()


def test_targets_are_normalized_per_token():
    target = generic().target(hidden()[1]['hidden'])
    torch.testing.assert_close(target.mean(2), torch.zeros(2, 10).double())
    torch.testing.assert_close(
        target.var(2, unbiased=False),
        torch.ones(2, 10).double(),
        rtol=1e-4,
        atol=0)


def test_the_loss_is_quadratic_near_and_linear_far():
    student, teacher = hidden()
    loss = generic()
    difference = loss.predictor(student['hidden']) - loss.target(
        teacher['hidden'])
    # a change of slope in between, to be sure that both cases occur
    for beta in (2.0, 0.1):
        loss.beta = beta
        d = difference.abs()
        expected = torch.where(d < beta, 0.5 * d**2 / beta, d - beta / 2)
        torch.testing.assert_close(loss(student, teacher), expected.mean())
    for p in loss.parameters():
        torch.nn.init.zeros_(p)
    loss.beta = 100.0
    # of the normalized target the mean square is 1
    loss_of_zeros = loss(student, teacher).item()
    assert math.isclose(loss_of_zeros, 0.5 / 100.0, rel_tol=1e-4)


def test_only_masked_patches_count_on_request():
    student, teacher = hidden()
    loss = generic(supervise_all=False)
    expected = loss(student, teacher)
    # the class token and what is visible
    for i in (0, 7, 9):
        teacher['hidden'][:, i] *= torch.arange(6)
        student['hidden'][:, i] += 3
    assert loss(student, teacher) == expected
    assert generic()(student, teacher) != expected
    teacher['hidden'][:, 1] *= torch.arange(6)
    assert loss(student, teacher) != expected
    for side in (student, teacher):
        side['mask'] = torch.zeros(2, 9)
    assert loss(student, teacher) == 0


@pytest.mark.parametrize('supervise_all', [True, False])
def test_gradient_of_the_generic_loss(supervise_all):
    student, teacher = hidden(length=4, num_masked=3)
    loss = generic(supervise_all=supervise_all)

    def total(x, *parameters):
        return torch.func.functional_call(
            loss, dict(zip(dict(loss.named_parameters()), parameters)),
            (dict(student, hidden=x), teacher))

    inputs = student['hidden'].requires_grad_(), *loss.parameters()
    assert torch.autograd.gradcheck(total, inputs)


def test_the_teacher_gets_no_gradient():
    student, teacher = hidden()
    teacher['hidden'].requires_grad_()
    generic()(student, teacher).backward()
    assert teacher['hidden'].grad is None
    student, teacher = maps()
    for x in (*teacher['feats'], *teacher['objectness']):
        x.requires_grad_()
    sum(det()(student, teacher).values()).backward()
    assert all(
        x.grad is None for x in (*teacher['feats'], *teacher['objectness']))


def test_different_masks_are_refused():
    student, teacher = hidden()
    teacher['mask'] = teacher['mask'].flip(1)
    with pytest.raises(ValueError, match='saw different patches.*shared_'):
        generic()(student, teacher)
    with pytest.raises(ValueError, match='same patches are needed'):
        generic()(hidden(length=16)[0], hidden()[1])
    with pytest.raises(ValueError, match=r'student_dims.*\(4, 6\)'):
        generic()(*reversed(hidden()))
    with pytest.raises(ValueError, match='beta must be positive'):
        generic(beta=0)


def test_hard_labels_are_the_teachers_decision():
    student = torch.randn(3, 4)
    teacher = torch.eye(4)[[2, 0, 1]]
    expected = -student.log_softmax(1)[range(3), [2, 0, 1]].mean()
    torch.testing.assert_close(HardKDLoss(0.5)(student, teacher), expected / 2)
    # only the largest counts
    assert HardKDLoss()(student, teacher) == HardKDLoss()(student,
                                                          5 * teacher + 1)
    with pytest.raises(ValueError, match='same classes'):
        HardKDLoss()(student, teacher[:, :3])


def test_gradient_of_the_hard_labels():
    student = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(3, 4)
    assert torch.autograd.gradcheck(lambda x: HardKDLoss()(x, teacher),
                                    student)


def test_positions_count_by_the_surest_anchor():
    student, teacher = maps()
    loss = det(distill_feat_weight=1.0, distill_cls_weight=1.0)
    before = loss(student, teacher)
    surest = [o.amax(1, keepdim=True) for o in teacher['objectness']]
    for o, most in zip(teacher['objectness'], surest):
        # of the other anchors only that they are less sure
        o.copy_(torch.where(o == most, o, o - 1))
    after = loss(student, teacher)
    torch.testing.assert_close(after['loss_feat'], before['loss_feat'])
    assert not torch.isclose(after['loss_cls'], before['loss_cls'])


def test_one_position_decides_where_the_teacher_sees_nothing_else():
    student, teacher = maps(n=1)
    for o in teacher['objectness']:
        o.fill_(-1e4)
        o[0, 1, 1, 2] = 1e4
    loss = det(distill_feat_weight=1.0, distill_cls_weight=1.0)
    losses = loss(student, teacher)
    squares = sum(
        (adapter(s) - t)[0, :, 1, 2].square().sum() for adapter, s, t in zip(
            loss.adapters, student['feats'], teacher['feats']))
    torch.testing.assert_close(losses['loss_feat'], squares)
    entropy = 0
    for o in student['objectness']:
        p = o[0, :, 1, 2].sigmoid()
        entropy -= p[1].log() + (1 - p[0]).log() + (1 - p[2]).log()
    torch.testing.assert_close(losses['loss_cls'], entropy)


def test_gradient_of_the_detection_loss():
    student, teacher = maps(n=1)
    loss = det(distill_feat_weight=1.0, distill_cls_weight=1.0)

    def total(*inputs):
        tapped = dict(feats=inputs[:2], objectness=inputs[2:4])
        parameters = dict(zip(dict(loss.named_parameters()), inputs[4:]))
        return sum(
            torch.func.functional_call(loss, parameters,
                                       (tapped, teacher)).values())

    inputs = *student['feats'], *student['objectness'], *loss.parameters()
    assert torch.autograd.gradcheck(
        total, [x.detach().requires_grad_() for x in inputs], fast_mode=True)


def test_maps_that_do_not_fit_are_refused():
    student, teacher = maps()
    with pytest.raises(ValueError, match='num_levels'):
        G2SDDetLoss(4, 6)(student, teacher)
    with pytest.raises(ValueError, match='same anchors'):
        det()(student, maps(anchors=2)[1])
    student['objectness'].pop()
    teacher['objectness'].pop()
    with pytest.raises(ValueError, match='same anchors, on all levels'):
        det()(student, teacher)


def test_segmentation_leaves_the_teachers_entropy():
    # CWD subtracts it, the official code doesn't; the gradients are the same
    teacher = torch.randn(2, 3, 4, 5, dtype=torch.double)
    student = teacher.clone().requires_grad_()
    loss = CWDLoss(tau=1.0, loss_weight=10.0)(student, teacher)
    loss.backward()
    torch.testing.assert_close(loss, torch.zeros_like(loss))
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


def as_dtype(tapped, dtype):
    return {
        k: [x.to(dtype) for x in v] if isinstance(v, list) else v.to(dtype)
        for k, v in tapped.items()
    }


def cases():
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1))
    return dict(
        generic=(generic(), hidden()), det=(det(), maps()),
        hard=(HardKDLoss(), logits))  # yapf: disable


@pytest.mark.parametrize('name', ['generic', 'det', 'hard'])
@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_autocast_gives_nearly_the_same_loss(name, dtype):
    loss, sides = cases()[name]
    loss = loss.float()
    if name != 'hard':
        sides = [as_dtype(side, torch.float) for side in sides]
    expected = loss(*sides)
    half = [
        side.to(dtype) if name == 'hard' else as_dtype(side, dtype)
        for side in sides
    ]
    with torch.autocast('cpu', dtype=dtype):
        actual = loss(*half)
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize('scale', [0.0, 1e4])
def test_extremes_stay_finite(scale):
    results = [
        generic(supervise_all=False)(*hidden(n=1, scale=scale)),
        HardKDLoss()(*(scale * torch.randn(2, 1, 5)).requires_grad_()),
    ]
    results += det()(*maps(n=1, scale=scale)).values()
    student, teacher = maps(n=1)
    for side in (student, teacher):
        side['objectness'] = [o * 0 - 1e4 for o in side['objectness']]
    # nothing is foreground, also in float32
    loss = det().float()
    results += loss(*(as_dtype(x, torch.float)
                      for x in (student, teacher))).values()
    for result in results:
        assert result.isfinite()
    sum(x.double() for x in results).backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


def test_every_parameter_learns():
    for loss, sides in list(cases().values())[:2]:
        result = loss(*sides)
        sum(result.values() if isinstance(result, dict) else [result]
            ).backward()
        assert all(p.grad.any() for p in loss.parameters())
