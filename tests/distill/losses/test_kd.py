import math

import pytest
import torch
import torch.nn.functional as F
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.distiller import Slot
from mmcompress.distill.losses import KDLoss, kd
from mmcompress.distill.losses.kd import softened_binary_kl, softened_kl

REDUCTIONS = ['batchmean', 'mean', 'sum', 'none']


def pair(*shape, **kwargs):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *shape, generator=generator, **kwargs)


@golden('kd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def sigmoid(**kwargs):
    return KDLoss(activation='sigmoid', **kwargs)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_gradient_is_the_derivative(reduction, activation):
    student, teacher = pair(2, 5, dtype=torch.double)
    assert torch.autograd.gradcheck(
        KDLoss(tau=2.0, reduction=reduction, activation=activation),
        (student.requires_grad_(), teacher))


def test_the_divergence_is_the_sum_over_classes():
    teacher = torch.tensor([[0, math.log(3)]])
    # (1/4, 3/4) against (1/2, 1/2)
    expected = [[0.25 * math.log(0.5), 0.75 * math.log(1.5)]]
    torch.testing.assert_close(
        softened_kl(torch.zeros(1, 2), teacher, 1.0), torch.tensor(expected))


def test_the_binary_divergence_is_that_of_each_class():
    teacher = torch.tensor([[0, math.log(3)]])
    # (3/4, 1/4) against (1/2, 1/2)
    expected = [[0, 0.75 * math.log(1.5) + 0.25 * math.log(0.5)]]
    torch.testing.assert_close(
        softened_binary_kl(torch.zeros(1, 2), teacher, 1.0),
        torch.tensor(expected))


@pytest.mark.parametrize('shape', [(4, 5), (4, 1), (2, 3, 5), (2, 5, 3, 3)])
def test_the_sigmoid_form_is_the_binary_divergence(shape):
    student, teacher = pair(*shape, dtype=torch.double)
    tau, weight = 2.0, 3.0
    p, q = (x.div(tau).sigmoid() for x in (student, teacher))
    kl = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    expected = weight * tau**2 * kl
    for reduction, value in dict(
            batchmean=expected.sum() / shape[0],
            mean=expected.mean(), sum=expected.sum(),
            none=expected).items():  # yapf: disable
        torch.testing.assert_close(
            sigmoid(tau=tau, loss_weight=weight,
                    reduction=reduction)(student, teacher), value)


def test_of_two_classes_the_softmax_is_the_sigmoid_of_their_difference():
    student, teacher = pair(4, 2, dtype=torch.double)
    difference = [x[:, :1] - x[:, 1:] for x in (student, teacher)]
    torch.testing.assert_close(
        sigmoid(tau=2.0)(*difference),
        KDLoss(tau=2.0)(student, teacher))


def test_at_a_high_temperature_the_sigmoid_gives_the_difference_of_logits():
    student, teacher = pair(4, 5, dtype=torch.double)
    student.requires_grad_()
    grad, = torch.autograd.grad(sigmoid(tau=1e4)(student, teacher), student)
    torch.testing.assert_close(
        grad, (student - teacher).detach() / 16, rtol=1e-3, atol=1e-5)


def test_a_single_class_learns_by_the_sigmoid_only():
    student, teacher = pair(4, 1)
    student.requires_grad_()
    with pytest.raises(ValueError, match="one class.*activation='sigmoid'"):
        KDLoss()(student, teacher)
    sigmoid()(student, teacher).backward()
    assert student.grad.all()


def test_the_classes_may_be_on_another_axis():
    student, teacher = pair(3, 7, 5, dtype=torch.double)
    expected = sum(
        KDLoss(tau=2.0)(s, t) for s, t in zip(
            student.unbind(1), teacher.unbind(1)))  # yapf: disable
    for axis in (-1, 2):
        loss = KDLoss(tau=2.0, class_axis=axis)
        torch.testing.assert_close(loss(student, teacher), expected)
    torch.testing.assert_close(
        KDLoss(tau=2.0, class_axis=1)(student.mT, teacher.mT), expected)


@pytest.mark.parametrize('shape', [(2, 100, 81), (2, 5, 2, 3, 3)])
def test_asks_for_the_axis_where_it_cannot_be_known(shape):
    logits = torch.zeros(shape)
    with pytest.raises(ValueError, match='which axis.*class_axis=-1'):
        KDLoss()(logits, logits)
    assert KDLoss(class_axis=1)(logits, logits) == 0


@pytest.mark.parametrize('axis', [2, -2, -3])
def test_rejects_an_axis_that_is_none_of_classes(axis):
    with pytest.raises(ValueError, match=f'class_axis={axis} is none'):
        KDLoss(class_axis=axis)(*pair(4, 5))


@pytest.mark.parametrize('shape', [(4, 5), (2, 5, 3, 3)])
def test_is_zero_when_the_student_equals_the_teacher(shape):
    student, _ = pair(*shape).requires_grad_()
    loss = KDLoss(tau=2.0)(student, student.detach())
    grad, = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0)
    assert grad.abs().max() < 1e-6


def test_ignores_a_constant_added_to_a_samples_logits():
    student, teacher = pair(4, 5, dtype=torch.double)
    offset = torch.arange(4.0)[:, None]
    torch.testing.assert_close(KDLoss()(student + offset, teacher - offset),
                               KDLoss()(student, teacher))


def test_reductions_divide_as_their_names_say():
    student, teacher = pair(4, 5, 2, 3)
    whole = KDLoss(reduction='none')(student, teacher)
    assert whole.shape == student.shape
    for reduction, count in (('sum', 1), ('batchmean', 4), ('mean', 120)):
        torch.testing.assert_close(
            KDLoss(reduction=reduction)(student, teacher),
            whole.sum() / count)


def test_weight_and_temperature_scale_the_divergence():
    student, teacher = pair(4, 5)
    torch.testing.assert_close(
        KDLoss(tau=4.0, loss_weight=3.0)(student, teacher),
        3 * 16 * softened_kl(student, teacher, 4.0).sum() / 4)


def test_a_high_temperature_gives_the_difference_of_logits():
    student, teacher = pair(4, 5, dtype=torch.double)
    student, teacher = (
        x - x.mean(1, keepdim=True) for x in (student, teacher))
    student.requires_grad_()
    grad, = torch.autograd.grad(KDLoss(tau=1e4)(student, teacher), student)
    torch.testing.assert_close(
        grad, (student - teacher).detach() / 20, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('detach', [True, False])
def test_the_teacher_gets_a_gradient_only_on_request(detach):
    student, teacher = pair(4, 5).requires_grad_().unbind()
    grads = torch.autograd.grad(
        KDLoss(teacher_detach=detach)(student, teacher), (student, teacher),
        allow_unused=True)
    assert grads[0].any()
    assert (grads[1] is None) == detach


def test_a_batch_of_one_is_fine():
    student, teacher = pair(1, 5)
    torch.testing.assert_close(
        KDLoss()(student, teacher),
        F.kl_div(
            student.log_softmax(1), teacher.softmax(1), reduction='batchmean'))


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_neither_overflows_nor_stays_half(dtype, activation):
    student, teacher = pair(64, 100) * 10
    loss = KDLoss(reduction='sum', activation=activation)
    expected = loss(student, teacher)
    rounded = loss(student.to(dtype), teacher.to(dtype))
    with torch.autocast('cpu', dtype=dtype):
        mixed = loss(student, teacher)
    assert rounded.dtype == mixed.dtype == torch.float32
    torch.testing.assert_close(rounded, expected, rtol=1e-2, atol=0)
    torch.testing.assert_close(mixed, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('student, teacher', [(1e4, 1.0), (1.0, 1e4),
                                              (1e4, 1e4), (0.0, 1e4)])
def test_extreme_logits_stay_finite(student, teacher, activation):
    logits = pair(4, 5)
    scaled = (student * logits[0]).requires_grad_()
    loss = KDLoss(activation=activation)(scaled, teacher * logits[1])
    loss.backward()
    assert loss.isfinite() and scaled.grad.isfinite().all()


@pytest.mark.parametrize('masked', [0.0, -math.inf])
def test_a_class_that_the_teacher_excludes_does_not_count(masked):
    student, teacher = pair(4, 5)
    teacher[:, 4] = -math.inf
    student[:, 4] += masked
    expected = F.kl_div(
        student.log_softmax(1)[:, :4],
        teacher[:, :4].softmax(1),
        reduction='batchmean')
    student.requires_grad_()
    loss = KDLoss()(student, teacher)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('masked', [0.0, -math.inf])
def test_by_the_sigmoid_a_class_may_be_excluded_for_certain(masked):
    student, teacher = pair(4, 5)
    teacher[:, 4] = -math.inf
    student[:, 4] += masked
    student.requires_grad_()
    loss = sigmoid(reduction='none')(student, teacher)
    loss.sum().backward()
    torch.testing.assert_close(loss[:, 4],
                               -F.logsigmoid(-student[:, 4]).detach())
    assert loss.isfinite().all() and student.grad.isfinite().all()


def test_error_names_both_shapes_and_the_remedy():
    with pytest.raises(
            ValueError, match=r'\(2, 3\).*\(2, 5\).*the same classes'):
        KDLoss()(torch.zeros(2, 3), torch.zeros(2, 5))


@pytest.mark.parametrize('tau', [0.0, -1.0])
def test_rejects_a_temperature_that_is_not_positive(tau):
    with pytest.raises(ValueError, match=f'tau must be positive, got {tau}'):
        KDLoss(tau=tau)


def test_rejects_an_unknown_reduction():
    with pytest.raises(ValueError, match="reduction must be.*got 'average'"):
        KDLoss(reduction='average')


def test_rejects_an_activation_or_an_axis_by_name():
    with pytest.raises(ValueError, match="activation must be.*got 'relu'"):
        KDLoss(activation='relu')
    with pytest.raises(ValueError, match='class_axis must not be 0'):
        KDLoss(class_axis=0)
    with pytest.raises(ValueError, match='class_axis is that of the softmax'):
        sigmoid(class_axis=1)


def warnings_of(loss, tap, use_sigmoid, monkeypatch):
    """What two steps of a model log whose head has its own class loss."""
    own = torch.nn.Module()
    own.use_sigmoid = use_sigmoid
    model = torch.nn.ModuleDict(
        dict(head=torch.nn.ModuleDict(
            dict(fc=torch.nn.Linear(3, 5), loss_cls=own)),
             neck=torch.nn.Identity()))  # yapf: disable
    slot = Slot('loss_x', loss, ['student', 'teacher'], dict(student=tap))
    logits = torch.zeros(2, 5)
    logged = []
    monkeypatch.setattr(kd, 'print_log', lambda text, **_: logged.append(text))
    for _ in range(2):
        slot.run(dict(student=logits, teacher=logits, student_model=model))
    return logged


@pytest.mark.parametrize('tap', ['head', 'head[0]', 'head.fc'])
def test_says_once_that_the_model_trains_sigmoids(tap, monkeypatch):
    text, = warnings_of(KDLoss(), tap, True, monkeypatch)
    assert 'head.loss_cls (Module) trains sigmoids' in text
    assert "activation='sigmoid'" in text


def test_says_nothing_where_the_activation_fits(monkeypatch):
    for loss, tap, use_sigmoid in ((KDLoss(), 'head', False), (KDLoss(),
                                                               'neck', True),
                                   (KDLoss(), 'of_a_peer.fc',
                                    True), (sigmoid(), 'head', True)):
        assert not warnings_of(loss, tap, use_sigmoid, monkeypatch)
