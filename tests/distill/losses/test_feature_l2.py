import pytest
import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import FeatureL2Loss
from mmcompress.distill.losses.feature_l2 import unit_norm


def pair(*shape, **kwargs):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *shape, generator=generator, **kwargs)


def plain(**kwargs):
    return FeatureL2Loss(normalize=False, **kwargs)


# their files are those of kd
@pytest.mark.parametrize(
    'case', [c for c in golden('kd').args[1] if c.hyper['type'] == 'L2Loss'],
    ids=lambda case: case.name)
def test_matches_the_official_numbers(case):
    assert_golden(case)


@pytest.mark.parametrize('options', [
    dict(),
    dict(normalize=False),
    dict(dist=True, mult=2.0),
    dict(div_element=True),
], ids=str)  # yapf: disable
def test_gradient_is_the_derivative(options):
    student, teacher = pair(2, 2, 2, 3, dtype=torch.double)
    assert torch.autograd.gradcheck(
        FeatureL2Loss(**options), (student.requires_grad_(), teacher))


def test_is_the_sum_of_squares_divided_by_the_batch():
    student, teacher = pair(3, 2, 4, 4)
    squares = (student - teacher).square().sum()
    torch.testing.assert_close(plain()(student, teacher), squares / 3)
    torch.testing.assert_close(
        plain(div_element=True)(student, teacher), squares / 96)
    torch.testing.assert_close(
        plain(dist=True, loss_weight=2.0)(student, teacher),
        2 * squares.sqrt())


@pytest.mark.parametrize('options', [
    dict(),
    dict(normalize=False),
    dict(dist=True),
], ids=str)  # yapf: disable
def test_is_zero_when_the_student_equals_the_teacher(options):
    student, _ = pair(2, 3, 4, 5).requires_grad_()
    loss = FeatureL2Loss(**options)(student, student.detach())
    grad, = torch.autograd.grad(loss, student)
    assert loss == 0
    assert grad.isfinite().all() and not grad.any()


def test_a_normalized_feature_has_the_given_norm():
    feature, _ = pair(3, 2, 4, 4)
    flat = unit_norm(feature, mult=2.5)
    assert flat.shape == (3, 32)
    torch.testing.assert_close(flat.norm(dim=1), torch.full((3, ), 2.5))
    torch.testing.assert_close(flat[1], unit_norm(feature[1:2], 2.5)[0])


def test_normalized_it_ignores_each_samples_scale():
    student, teacher = pair(2, 3, 4, 5)
    scale = torch.tensor([0.5, 20]).view(2, 1, 1, 1)
    torch.testing.assert_close(FeatureL2Loss()(student * scale, teacher),
                               FeatureL2Loss()(student, teacher))
    assert plain()(student * scale, teacher) > plain()(student, teacher)


def test_the_norm_scales_both_sides():
    student, teacher = pair(2, 3, 4, 5)
    torch.testing.assert_close(
        FeatureL2Loss(mult=3.0)(student, teacher),
        9 * FeatureL2Loss()(student, teacher))


def test_a_feature_of_zeros_is_no_nan():
    student, teacher = pair(2, 3, 4, 5)
    student = torch.zeros_like(student).requires_grad_()
    loss = FeatureL2Loss()(student, teacher)
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(1.0))
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_neither_overflows_nor_stays_half(dtype):
    # the sum of squares is far beyond 65504
    student, teacher = pair(1, 2, 64, 64) * 100
    for loss in (FeatureL2Loss(), plain()):
        expected = loss(student, teacher)
        rounded = loss(student.to(dtype), teacher.to(dtype))
        with torch.autocast('cpu', dtype=dtype):
            mixed = loss(student, teacher)
        assert rounded.dtype == mixed.dtype == torch.float32
        torch.testing.assert_close(rounded, expected, rtol=1e-2, atol=0)
        torch.testing.assert_close(mixed, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize('loss', [FeatureL2Loss(), plain(), plain(dist=True)])
def test_extreme_maps_stay_finite(loss):
    maps = pair(2, 3, 4, 4)
    for scales in ((1e4, 1.0), (1.0, 1e4), (1e4, 1e4), (1e-20, 1.0)):
        student = (scales[0] * maps[0]).requires_grad_()
        value = loss(student, scales[1] * maps[1])
        value.backward()
        assert value.isfinite() and student.grad.isfinite().all(), scales


def test_the_adapter_is_a_regressor_of_positive_features():
    loss = plain(student_channels=3, teacher_channels=5)
    conv = loss.adapter[0]
    assert conv.weight.shape == (5, 3, 1, 1) and conv.bias is None
    student, teacher = pair(2, 3, 4, 4)[0], pair(2, 5, 4, 4)[1]
    assert loss.adapter(student).min() == 0
    loss(student, teacher).backward()
    assert all(p.grad.any() for p in loss.parameters())
    assert len(list(loss.parameters())) == 3
    assert not list(FeatureL2Loss().parameters())


def test_one_number_has_nothing_but_its_sign():
    with pytest.raises(ValueError, match='is its sign.*normalize=False'):
        FeatureL2Loss()(*pair(4, 1))
    assert plain()(*pair(4, 1)) > 0


def test_an_adapter_does_not_normalize_a_single_value():
    loss = FeatureL2Loss(student_channels=3, teacher_channels=5)
    student = torch.ones(1, 3, 1, 1, requires_grad=True)
    teacher = torch.ones(1, 5, 1, 1)
    with pytest.warns(UserWarning, match='cannot normalize one 1x1 map'):
        nothing = loss(student, teacher)
    nothing.backward()
    assert nothing == 0 and not student.grad.any()
    assert all(not p.grad.any() for p in loss.parameters())
    assert loss.eval()(student, teacher) > 0


def test_error_names_both_shapes_and_the_remedy():
    with pytest.raises(
            ValueError,
            match=r'\(2, 3, 4, 4\).*\(2, 5, 4, 4\).*teacher_channels'):
        FeatureL2Loss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))


@pytest.mark.parametrize('name', ['student_channels', 'teacher_channels'])
def test_rejects_one_number_of_channels(name):
    with pytest.raises(ValueError, match='give both student_channels and'):
        FeatureL2Loss(**{name: 4})
