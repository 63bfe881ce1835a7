import pytest
import torch
import torch.nn as nn
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import DWPoseFeatureLoss, DWPoseLogitLoss


def noise(*shape, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, **kwargs)


def logits(num=2, points=3, bins=(8, 12), **kwargs):
    """Of student and teacher, each along x and along y."""
    return [[
        noise(num, points, b, seed=2 * side + axis, **kwargs)
        for axis, b in enumerate(bins)
    ] for side in range(2)]


@golden('dwpose')
def test_matches_the_official_numbers(case):
    assert_golden(case)


# ---- Features ---------------------------------------------------------------


def test_adapts_channels_only_where_they_differ():
    assert not list(DWPoseFeatureLoss(6, 6).parameters())
    loss = DWPoseFeatureLoss(6, 10)
    assert set(loss.state_dict()) == {'align.weight', 'align.bias'}
    assert loss.align.weight.shape == (10, 6, 1, 1)


def test_feature_loss_is_a_sum_divided_by_the_images_only():
    student, teacher = noise(2, 4, 6, 3, 5)
    loss = DWPoseFeatureLoss(6, 6, alpha_fea=0.5)
    expected = 0.5 * (student - teacher).square().sum() / 4
    torch.testing.assert_close(loss(student, teacher), expected)
    twice = [x.repeat(2, 1, 1, 1) for x in (student, teacher)]
    torch.testing.assert_close(loss(*twice), expected)


def test_gradient_of_the_feature_loss_is_the_derivative():
    loss = DWPoseFeatureLoss(3, 2).double()
    student = noise(2, 3, 2, 2, dtype=torch.double)
    teacher = noise(2, 2, 2, 2, seed=1, dtype=torch.double)
    assert torch.autograd.gradcheck(loss, (student.requires_grad_(), teacher))


@pytest.mark.parametrize('student, teacher, what', [
    ((2, 6, 4, 4), (2, 10, 4, 4), r'\(6, 8\) channels'),
    ((2, 6, 4, 4), (2, 8, 2, 2), 'height or width'),
    ((2, 5, 4, 4), (2, 8, 4, 4), r'\(6, 8\) channels'),
    ((2, 6, 4, 4), (3, 8, 4, 4), 'number of images'),
])
def test_features_that_do_not_fit_are_named(student, teacher, what):
    with pytest.raises(ValueError, match=what):
        DWPoseFeatureLoss(6, 8)(torch.zeros(student), torch.zeros(teacher))


def test_feature_loss_does_not_overflow_in_half_precision():
    student = torch.full((1, 4, 8, 8), 200.0)
    teacher = torch.zeros_like(student)
    loss = DWPoseFeatureLoss(4, 4)
    torch.testing.assert_close(
        loss(student.half(), teacher.half()), loss(student, teacher))


# ---- Logits -----------------------------------------------------------------


def test_logit_loss_is_the_mean_divergence_added_up_over_axes():
    student, teacher = logits()
    expected = 0
    for s, t in zip(student, teacher):
        p_s, p_t = (5 * s).softmax(-1), (5 * t).softmax(-1)
        expected += (p_t * (p_t / p_s).log()).sum(-1).mean()
    torch.testing.assert_close(
        DWPoseLogitLoss(0.3, beta=5.0)(student, teacher), 0.3 * expected)


def test_gradient_of_the_logit_loss_is_the_derivative():
    (x, y), teacher = logits(dtype=torch.double)
    assert torch.autograd.gradcheck(
        lambda x, y: DWPoseLogitLoss(beta=2.0)([x, y], teacher),
        (x.requires_grad_(), y.requires_grad_()))


def test_nothing_is_left_to_learn_at_the_teachers_distribution():
    _, teacher = logits(dtype=torch.double)
    # a constant per keypoint is no difference
    shift = torch.arange(3.0)[:, None]
    student = [(t + shift).requires_grad_() for t in teacher]
    loss = DWPoseLogitLoss(beta=10.0)(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert all(s.grad.abs().max() < 1e-12 for s in student)


def test_teacher_gets_no_gradient():
    student, teacher = logits(requires_grad=True)
    DWPoseLogitLoss(beta=10.0)(student, teacher).backward()
    assert all(s.grad.any() for s in student)
    assert all(t.grad is None for t in teacher)


def test_repeating_the_batch_changes_nothing():
    student, teacher = logits()
    loss = DWPoseLogitLoss(beta=10.0)
    twice = [[x.repeat(2, 1, 1) for x in xs] for xs in (student, teacher)]
    torch.testing.assert_close(loss(*twice), loss(student, teacher))


def test_a_batch_of_one_is_fine():
    student, teacher = logits(num=1)
    assert DWPoseLogitLoss(beta=10.0)(student, teacher) > 0


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_neither_overflows_nor_stays_half(dtype):
    student, teacher = [[x.to(dtype) for x in xs] for xs in logits()]
    loss = DWPoseLogitLoss(beta=10.0)
    exact = loss(*[[x.float() for x in xs] for xs in (student, teacher)])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = loss(student, teacher)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, exact)
    torch.testing.assert_close(loss(student, teacher), exact)


@pytest.mark.parametrize('student, teacher', [(1e4, 1.0), (1.0, 1e4),
                                              (1e4, 1e4), (0.0, 0.0)])
def test_extreme_logits_stay_finite(student, teacher):
    values = logits()
    scaled = [(student * x).requires_grad_() for x in values[0]]
    loss = DWPoseLogitLoss(beta=10.0)(scaled, [teacher * x for x in values[1]])
    loss.backward()
    assert loss.isfinite() and all(x.grad.isfinite().all() for x in scaled)


def test_beta_is_that_of_the_students_head():
    student, teacher = logits()
    model = nn.Module()
    model.head = nn.Module()
    model.head.loss_module = nn.Module()
    model.head.loss_module.beta = 4.0
    torch.testing.assert_close(DWPoseLogitLoss()(student, teacher, model),
                               DWPoseLogitLoss(beta=4.0)(student, teacher))
    with pytest.raises(ValueError, match='give `beta`'):
        DWPoseLogitLoss()(student, teacher, nn.Module())


def test_beta_must_be_positive():
    with pytest.raises(ValueError, match='beta must be positive, got 0'):
        DWPoseLogitLoss(beta=0)


@pytest.mark.parametrize(
    'student, teacher',
    [
        ([(2, 3, 8), (2, 3, 12)], [(2, 3, 8), (2, 3, 16)]),
        ([(2, 3, 8), (2, 3, 12)], [(2, 4, 8), (2, 4, 12)]),
        ([(2, 8), (2, 12)], [(2, 8), (2, 12)]),
        ([(2, 3, 8)], [(2, 3, 8)]),
        # other keypoints along x than along y
        ([(2, 3, 8), (2, 4, 12)], [(2, 3, 8), (2, 4, 12)]),
    ])
def test_logits_that_do_not_fit_are_named(student, teacher):
    given = [[torch.zeros(shape) for shape in shapes]
             for shapes in (student, teacher)]
    with pytest.raises(ValueError, match='simcc_split_ratio'):
        DWPoseLogitLoss(beta=10.0)(*given)
