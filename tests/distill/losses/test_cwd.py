import math

import pytest
import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import CWDLoss
from mmcompress.distill.losses.cwd import channel_wise_kl


def pair(*shape, **kwargs):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *shape, generator=generator, **kwargs)


@golden('cwd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_gradient_is_the_derivative():
    student, teacher = pair(1, 2, 2, 3, dtype=torch.double)
    assert torch.autograd.gradcheck(
        CWDLoss(tau=2.0), (student.requires_grad_(), teacher))


def test_the_divergence_is_that_of_each_channel():
    student, teacher = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    teacher[0, 1, 0, 1] = math.log(3)
    # (1/4, 3/4) against (1/2, 1/2)
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    torch.testing.assert_close(
        channel_wise_kl(student, teacher, 1.0), torch.tensor([[0, expected]]))


def test_is_zero_when_the_student_equals_the_teacher():
    student, _ = pair(2, 3, 4, 5).requires_grad_()
    loss = CWDLoss(tau=2.0)(student, student.detach())
    grad, = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0)
    assert grad.abs().max() < 1e-7


def test_ignores_a_constant_added_to_a_channel():
    student, teacher = pair(2, 3, 4, 4, dtype=torch.double)
    offset = torch.arange(6.0).view(2, 3, 1, 1)
    torch.testing.assert_close(CWDLoss()(student + offset, teacher),
                               CWDLoss()(student, teacher))


def test_looks_at_where_a_channel_responds():
    student, teacher = pair(2, 3, 4, 4)
    assert CWDLoss()(student, teacher) != CWDLoss()(student.flip(-1), teacher)


def test_maps_of_one_pixel_have_nothing_to_say():
    student, teacher = pair(2, 3, 1, 1)
    student.requires_grad_()
    with pytest.warns(UserWarning, match='maps of one position'):
        loss = CWDLoss()(student, teacher)
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_a_batch_is_the_mean_of_its_images():
    student, teacher = pair(2, 3, 4, 4)
    parts = [CWDLoss()(s[None], t[None]) for s, t in zip(student, teacher)]
    torch.testing.assert_close(CWDLoss()(student, teacher), sum(parts) / 2)


def test_memory_format_makes_no_difference():
    student, teacher = pair(2, 3, 4, 4)
    torch.testing.assert_close(
        CWDLoss()(student, teacher),
        CWDLoss()(student.to(memory_format=torch.channels_last), teacher))


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_neither_overflows_nor_stays_half(dtype):
    student, teacher = pair(1, 2, 64, 64) * 100
    loss = CWDLoss()(student.to(dtype), teacher.to(dtype))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss, CWDLoss()(student, teacher), rtol=1e-2, atol=0)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_autocast_gives_nearly_the_same_loss(dtype):
    student, teacher = pair(1, 2, 16, 16) * 10
    torch.manual_seed(0)
    for loss in (CWDLoss(), CWDLoss(student_channels=2, teacher_channels=2)):
        expected = loss(student, teacher)
        with torch.autocast('cpu', dtype=dtype):
            actual = loss(student, teacher)
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize('student, teacher', [(1e4, 1.0), (1.0, 1e4),
                                              (1e4, 1e4), (0.0, 1e4)])
def test_extreme_maps_stay_finite(student, teacher):
    maps = pair(2, 3, 4, 4)
    scaled = (student * maps[0]).requires_grad_()
    loss = CWDLoss()(scaled, teacher * maps[1])
    loss.backward()
    assert loss.isfinite() and scaled.grad.isfinite().all()


def test_the_adapter_learns():
    loss = CWDLoss(student_channels=3, teacher_channels=5)
    loss(torch.ones(2, 3, 4, 4).cumsum(-1), pair(2, 5, 4, 4)[0]).backward()
    assert loss.adapter.weight.shape == (5, 3, 1, 1)
    assert loss.adapter.weight.grad.any()
    assert not list(CWDLoss().parameters())


def test_error_names_both_shapes_and_the_remedy():
    with pytest.raises(
            ValueError,
            match=r'\(2, 3, 4, 4\).*\(2, 5, 4, 4\).*teacher_channels'):
        CWDLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))


def test_an_adapter_is_for_features_and_not_for_logits():
    with pytest.raises(ValueError, match='logits can only .* same classes'):
        CWDLoss()(torch.zeros(1, 150, 4, 4), torch.zeros(1, 200, 4, 4))


@pytest.mark.parametrize('shape, hint', [
    ((2, 17, 8), "tap what yields a map, such as 'backbone.0.'"),
    ((2, 8), 'before the pooling'),
])
def test_tokens_and_vectors_are_no_maps(shape, hint):
    given = torch.zeros(shape)
    with pytest.raises(ValueError, match=f'must be maps .*{hint}'):
        CWDLoss()(given, given)


def test_an_adapter_must_fit():
    loss = CWDLoss(student_channels=3, teacher_channels=5)
    with pytest.raises(ValueError, match=r'was made for \(3, 5\) channels'):
        loss(torch.zeros(2, 4, 4, 4), torch.zeros(2, 5, 4, 4))


def test_roi_features_of_other_rois_do_not_correspond():
    with pytest.raises(ValueError, match='number of images or RoIs'):
        CWDLoss()(torch.zeros(7, 3, 4, 4), torch.zeros(9, 3, 4, 4))


@pytest.mark.parametrize('tau', [0.0, -1.0])
def test_rejects_a_temperature_that_is_not_positive(tau):
    with pytest.raises(ValueError, match=f'tau must be positive, got {tau}'):
        CWDLoss(tau=tau)


@pytest.mark.parametrize('name', ['student_channels', 'teacher_channels'])
def test_rejects_one_number_of_channels(name):
    with pytest.raises(ValueError, match='give both student_channels and'):
        CWDLoss(**{name: 4})
