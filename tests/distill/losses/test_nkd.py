import pytest
import torch
from golden import assert_golden, golden
from golden.nkd import labelled

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import NKDLoss


def logits(n=4, c=6, **kwargs):
    generator = torch.Generator().manual_seed(0)
    kwargs.setdefault('dtype', torch.double)
    return torch.randn(2, n, c, generator=generator, **kwargs)


LABELS = labelled(torch.tensor([0, 5, 2, 2]))


@golden('nkd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_gradient_is_the_derivative():
    student, teacher = logits()

    def total(x):
        return sum(NKDLoss(temp=2.0)(x, teacher, LABELS).values())

    assert torch.autograd.gradcheck(total, student.requires_grad_())


@pytest.mark.parametrize('side', [0, 1])
def test_ignores_a_constant_added_to_an_image(side):
    pair = logits()
    shifted = pair.clone()
    shifted[side] += torch.arange(4.0)[:, None]
    torch.testing.assert_close(NKDLoss()(*shifted, LABELS),
                               NKDLoss()(*pair, LABELS))


def test_the_target_has_no_part_among_the_others():
    student, teacher = logits()
    labels = torch.tensor([0, 5, 2, 2])[:, None]
    moved = student.scatter_add(1, labels, torch.full((4, 1), 3.0).double())
    expected = NKDLoss()(student, teacher, LABELS)
    moved.requires_grad_()
    actual = NKDLoss()(moved, teacher, LABELS)
    torch.testing.assert_close(actual['loss_nontarget'],
                               expected['loss_nontarget'])
    assert not torch.isclose(actual['loss_target'], expected['loss_target'])
    grad, = torch.autograd.grad(actual['loss_nontarget'], moved)
    assert not grad.gather(1, labels).any()
    torch.testing.assert_close(grad.sum(1), torch.zeros(4).double())


def test_equal_logits_leave_the_entropy_of_the_others():
    student, _ = logits()
    student.requires_grad_()
    loss = NKDLoss(gamma=1.0)(student, student.detach(), LABELS)
    grad, = torch.autograd.grad(loss['loss_nontarget'], student)
    assert loss['loss_nontarget'] > 0
    assert grad.abs().max() < 1e-12


def test_one_hot_labels_equal_indices():
    one_hot = torch.eye(6).double()[[0, 5, 2, 2]]
    assert NKDLoss()(*logits(), labelled(one_hot)) == NKDLoss()(*logits(),
                                                                LABELS)


def test_two_classes_have_no_others():
    student, teacher = logits(c=2)
    student.requires_grad_()
    with pytest.warns(UserWarning, match='loss_nontarget is always 0'):
        loss = NKDLoss()(student, teacher,
                         labelled(torch.tensor([0, 1, 1, 0])))
    loss['loss_nontarget'].backward()
    assert loss['loss_nontarget'] == 0 and not student.grad.any()


@pytest.mark.parametrize('scale', [500, 1e4])
def test_extreme_logits_stay_finite(scale):
    student, teacher = scale * logits(dtype=torch.float32)
    student.requires_grad_()
    loss = sum(NKDLoss()(student, teacher, LABELS).values())
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_gives_nearly_the_same_loss(dtype):
    pair = logits(dtype=torch.float32).to(dtype)
    actual = sum(NKDLoss()(*pair, LABELS).values())
    assert actual.dtype == torch.float32
    expected = sum(NKDLoss()(*pair.float(), LABELS).values())
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=0)


def test_the_teacher_gets_no_gradient():
    student, teacher = logits().requires_grad_()
    loss = sum(NKDLoss()(student, teacher, LABELS).values())
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None, )


def test_error_names_both_shapes():
    with pytest.raises(ValueError, match=r'\(4, 6\).*\(4, 5\)'):
        NKDLoss()(torch.zeros(4, 6), torch.zeros(4, 5), LABELS)
    with pytest.raises(ValueError, match='2 or more classes'):
        NKDLoss()(torch.zeros(4, 1), torch.zeros(4, 1), LABELS)
    with pytest.raises(ValueError, match='temp must be positive, got 0'):
        NKDLoss(temp=0)
