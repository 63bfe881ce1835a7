import pytest
import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import MGDLoss
from mmcompress.distill.losses.mgd import random_mask


def maps(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *shape, generator=generator, dtype=dtype)


def mgd(*args, **kwargs):
    torch.manual_seed(0)
    return MGDLoss(*(args or (4, 4)), alpha_mgd=1.0, **kwargs)


@golden('mgd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


@pytest.mark.parametrize('mask_type, shape', [('spatial', (8, 1, 30, 40)),
                                              ('channel', (8, 600, 1, 1))])
def test_masks_drop_their_share_of_each_image(mask_type, shape):
    torch.manual_seed(0)
    feature = torch.zeros(8, 600, 30, 40)
    mask = random_mask(feature, mask_type, 0.65)
    assert mask.shape == shape
    assert set(mask.unique().tolist()) == {0, 1}
    assert mask.mean((1, 2, 3)) == pytest.approx(
        torch.full((8, ), .35), abs=.1)
    assert not mask[0].equal(mask[1])
    assert random_mask(feature, mask_type, 0).all()
    assert not random_mask(feature, mask_type, 1).any()


@pytest.mark.parametrize('mask_type', ['spatial', 'channel'])
def test_what_is_dropped_gets_no_gradient(mask_type):
    student, teacher = maps(2, 4, 5, 6)
    student.requires_grad_()
    loss = mgd(mask_type=mask_type)
    mask = random_mask(student.detach(), mask_type, 0.5)
    loss.draw_mask = lambda *_: mask
    loss([student], [teacher])[0].backward()
    kept = mask.expand_as(student).bool()
    assert student.grad[kept].all() and not student.grad[~kept].any()


def test_without_a_student_only_biases_generate():
    student, teacher = maps(2, 4, 5, 5)
    loss = mgd(lambda_mgd=1.0)
    assert loss([student], [teacher]) == loss([10 * student], [teacher])


def test_learns_to_fill_in_what_is_missing():
    torch.manual_seed(0)
    smooth = torch.nn.AvgPool2d(7, 1)
    loss = mgd(8, 8, lambda_mgd=0.65)
    optimizer = torch.optim.Adam(loss.parameters(), 3e-3)
    for step in range(120):
        teacher = 7 * smooth(torch.randn(8, 8, 22, 22))
        student = teacher + 0.1 * torch.randn_like(teacher)
        value, = loss([student], [teacher])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    error = value * len(teacher) / teacher.square().sum()
    # a student that left zeros where it sees none would have 0.65
    assert error < 0.55


def test_each_level_has_its_own_block():
    levels = [maps(2, 3, size, size) for size in (8, 4)]
    loss = mgd(3, 3, num_levels=2)
    losses = loss([s for s, _ in levels], [t for _, t in levels])
    sum(losses).backward()
    grads = [p.grad for p in loss.parameters()]
    assert len(grads) == 8 and all(g.any() for g in grads)


def test_channels_are_adapted_where_they_differ():
    student, teacher = maps(1, 3, 4, 4)[0], maps(1, 5, 4, 4)[1]
    loss = mgd(3, 5)
    loss([student], [teacher])[0].backward()
    assert loss.levels[0].align.weight.grad.any()
    assert not list(mgd(3, 3).levels[0].align.parameters())


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_autocast_gives_nearly_the_same_loss(dtype):
    student, teacher = 100 * maps(1, 4, 64, 64)
    loss = mgd(lambda_mgd=0.0)
    expected, = loss([student], [teacher])
    with torch.autocast('cpu', dtype=dtype):
        actual, = loss([student.to(dtype)], [teacher.to(dtype)])
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=0)


def test_gradient_is_the_derivative():
    student, teacher = maps(1, 2, 3, 4, dtype=torch.double)
    loss = mgd(2, 2, lambda_mgd=0.0).double()
    assert torch.autograd.gradcheck(lambda s: loss([s], [teacher])[0],
                                    student.requires_grad_())


def test_errors_say_what_is_allowed():
    with pytest.raises(ValueError, match="'spatial' or 'channel', got 'all'"):
        mgd(mask_type='all')
    with pytest.raises(ValueError, match=r'lambda_mgd must be in \[0, 1\]'):
        mgd(lambda_mgd=1.5)
    student, teacher = maps(2, 4, 5, 5)
    with pytest.raises(ValueError, match=r'MGDLoss got .*1 levels.*\(4, 4\)'):
        mgd()([student, student], [teacher, teacher])
    with pytest.raises(ValueError, match='sizes must agree'):
        mgd()([student], [teacher[..., :4]])
