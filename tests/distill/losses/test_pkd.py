import pytest
import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import PKDLoss


def maps(*shape, **kwargs):
    generator = torch.Generator().manual_seed(0)
    kwargs.setdefault('dtype', torch.double)
    return torch.randn(2, *shape, generator=generator, **kwargs)


@golden('pkd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_gradient_is_the_derivative():
    student, teacher = maps(2, 2, 3, 2)
    assert torch.autograd.gradcheck(
        PKDLoss(2.0), (student.requires_grad_(), teacher))


def test_is_one_minus_the_correlation():
    student, teacher = maps(3, 1, 5, 5)
    stacked = torch.stack([student.flatten(), teacher.flatten()])
    count = student.numel()
    expected = (1 - torch.corrcoef(stacked)[0, 1]) * (count - 1) / count
    torch.testing.assert_close(
        PKDLoss()(student, teacher), expected, rtol=1e-5, atol=0)


def test_scale_and_offset_of_a_channel_do_not_matter():
    student, teacher = maps(2, 3, 5, 5)
    scale = torch.tensor([0.5, 3, 40.]).double().view(-1, 1, 1)
    torch.testing.assert_close(
        PKDLoss()(scale * student - 7, teacher),
        PKDLoss()(student, teacher),
        rtol=1e-5,
        atol=0)
    opposite = PKDLoss()(-teacher, teacher)
    assert opposite.item() == pytest.approx(2 * 49 / 50, rel=1e-5)


def test_either_side_can_be_resized():
    student, teacher = maps(2, 3, 4, 6)
    large = maps(2, 3, 8, 12)[1]
    assert PKDLoss()(student, large).isfinite()
    assert PKDLoss(resize_stu=False)(student, large).isfinite()
    # equal heights, too
    wide = maps(2, 3, 4, 12)[1]
    assert PKDLoss()(student, wide) != PKDLoss()(student, teacher)


def test_one_value_has_no_deviation():
    student, teacher = maps(3, 1, 1)
    student = student[None].requires_grad_()
    with pytest.warns(UserWarning, match='no deviation'):
        loss = PKDLoss()(student, teacher[None])
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_one_value_that_is_resized_stays_finite():
    student, teacher = maps(3, 1, 1)[0], maps(3, 4, 4)[1]
    student = student[None].requires_grad_()
    loss = PKDLoss()(student, teacher[None])
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


@pytest.mark.filterwarnings('ignore:.*no deviation')
@pytest.mark.parametrize('shape', [(1, 3, 1, 1), (2, 3, 4, 4)])
def test_constant_maps_stay_finite(shape):
    student = torch.full(shape, 5.0, requires_grad=True)
    loss = PKDLoss()(student, torch.ones(shape))
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize('scale', [1e-4, 1e4])
@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_gives_nearly_the_same_loss(dtype, scale):
    student, teacher = (scale * maps(2, 3, 8, 8)).to(dtype)
    loss = PKDLoss()(student, teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss, PKDLoss()(student.float(), teacher.float()), rtol=1e-2, atol=0)


def test_the_adapter_learns():
    student, teacher = maps(2, 3, 4, 4, dtype=torch.float32)
    loss = PKDLoss(student_channels=3, teacher_channels=5)
    loss(student, maps(2, 5, 4, 4, dtype=torch.float32)[1]).backward()
    assert loss.adapter.weight.grad.any()


def test_errors_name_what_differs():
    with pytest.raises(ValueError, match=r'\(2, 3, 4, 4\).*\(2, 5, 4, 4\)'):
        PKDLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))
    with pytest.raises(ValueError, match='give both student_channels'):
        PKDLoss(student_channels=3)
