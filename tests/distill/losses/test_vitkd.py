import pytest
import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import ViTKDLoss
from mmcompress.distill.losses.vitkd import dropped_tokens

DIMS = dict(student_dims=4, teacher_dims=6)


def vitkd(**kwargs):
    torch.manual_seed(0)
    return ViTKDLoss(**{**DIMS, 'alpha_vitkd': 1.0, 'beta_vitkd': 1.0,
                        **kwargs})  # yapf: disable


def tokens(dims, length=17, dtype=torch.float32, num_low=2):
    generator = torch.Generator().manual_seed(dims)
    low = torch.randn(num_low, 2, length, dims, generator=generator)
    high = torch.randn(2, length, dims, generator=generator)
    return dict(low=list(low.to(dtype)), high=high.to(dtype))


@golden('vitkd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_masks_drop_their_share_of_each_image():
    torch.manual_seed(0)
    dropped = dropped_tokens(torch.rand(3, 25), 0.3)
    # int(25 * 0.7) are kept
    assert dropped.sum(1).tolist() == [8, 8, 8]
    assert not dropped[0].equal(dropped[1])
    assert dropped_tokens(torch.rand(1, 9), 1.0).all()
    noise = torch.tensor([[.5, .1, .9, .2]])
    assert dropped_tokens(noise, 0.5).tolist() == [[True, False, True, False]]


def test_extra_tokens_play_no_part():
    student, teacher = tokens(4), tokens(6)
    loss = vitkd()
    noise = torch.rand(2, 16)
    loss.draw_noise = lambda _: noise
    before = loss(student, teacher)
    for tapped in (student, teacher):
        for x in (*tapped['low'], tapped['high']):
            x[:, 0] = 100
    assert loss(student, teacher) == before


def test_students_may_have_a_distillation_token():
    student, teacher = tokens(4, length=18), tokens(6)
    vitkd(student_extra_tokens=2)(student, teacher)
    with pytest.raises(ValueError, match='student_extra_tokens'):
        vitkd()(student, teacher)


def test_only_dropped_tokens_are_generated():
    student, teacher = tokens(4), tokens(6)
    loss = vitkd()
    noise = torch.rand(2, 16)
    loss.draw_noise = lambda _: noise
    before = loss(student, teacher)
    kept = ~dropped_tokens(noise, 0.5)
    teacher['high'][:, 1:][kept] += 10
    assert loss(student, teacher)['loss_gen'] == before['loss_gen']
    # and from the kept ones only
    student['high'][:, 1:][~kept] += 10
    assert loss(student, teacher)['loss_gen'] == before['loss_gen']
    student['high'][:, 1:][kept] += 10
    assert loss(student, teacher)['loss_gen'] != before['loss_gen']


def test_every_parameter_learns():
    loss = vitkd()
    sum(loss(tokens(4), tokens(6)).values()).backward()
    assert all(p.grad.any() for p in loss.parameters())
    same = vitkd(student_dims=6)
    assert {k.split('.')[0]
            for k, _ in same.named_parameters()
            } == {'mask_token', 'generation'}


def test_is_zero_when_the_student_equals_the_teacher():
    teacher = tokens(6)
    assert vitkd(student_dims=6)(teacher, teacher)['loss_lr'] == 0


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_autocast_gives_nearly_the_same_loss(dtype):
    student, teacher = tokens(4), tokens(6)
    loss = vitkd()
    noise = torch.rand(2, 16)
    loss.draw_noise = lambda _: noise
    expected = loss(student, teacher)
    with torch.autocast('cpu', dtype=dtype):
        actual = loss(tokens(4, dtype=dtype), tokens(6, dtype=dtype))
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=0)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match=r'in \(0, 1\], got 0'):
        vitkd(lambda_vitkd=0)
    with pytest.raises(ValueError, match='teacher_dims is 6.* 5'):
        vitkd()(tokens(4), tokens(5))
    with pytest.raises(ValueError, match='student.low yields 3'):
        vitkd()(tokens(4, num_low=3), tokens(6))
    with pytest.raises(ValueError, match='15 patches are not a square'):
        vitkd()(tokens(4, length=16), tokens(6, length=16))
