import pytest
import torch
from distill.loss_inputs import randn
from golden import assert_golden, golden

from mmcompress.distill.losses import RankDistillLoss
from mmcompress.distill.losses.bi_vit import all_pairs, attention, random_pairs

# for test_every_loss.py
EVERY_LOSS = dict(
    rank=dict(
        name='RankDistillLoss',
        inputs='QKV',
        kwargs=dict(num_heads=2, theta=0.1)),
    rank_some_pairs=dict(
        name='RankDistillLoss', inputs='ATTENTION', kwargs=dict(num_pairs=5)),
    rank_queries=dict(
        name='RankDistillLoss', inputs='HEADS', kwargs=dict(theta='1/N')))


@golden('bi_vit')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def rows(*values):
    return torch.tensor([[values]])


def rank(student, teacher, **kwargs):
    return RankDistillLoss(**kwargs)([student], [teacher])


TEACHER = rows([.1, .2, .7])


def test_only_the_order_of_the_teacher_counts():
    student = rows([.2, .3, .5])
    assert rank(student, TEACHER) == 0
    wrong = rows([.2, .5, .3])
    # of three pairs one is the wrong way round
    torch.testing.assert_close(rank(wrong, TEACHER), torch.tensor(.2 / 3))
    for change in (torch.exp, lambda x: 10 * x, lambda x: x**3):
        torch.testing.assert_close(
            rank(wrong, change(TEACHER)), rank(wrong, TEACHER))


def test_a_margin_is_asked_for_in_the_teachers_order():
    student = rows([.2, .3, .5])
    # the first pair lacks 0.05, the others are further apart
    torch.testing.assert_close(
        rank(student, TEACHER, theta=.15), torch.tensor(.05 / 3))
    torch.testing.assert_close(
        rank(student, TEACHER, theta='1/N'),
        rank(student, TEACHER, theta=1 / 3))


def test_ties_of_the_teacher_are_free_and_those_of_the_student_are_not():
    ties = rows([.25, .25, .5])
    assert rank(rows([.1, .4, .5]), ties, theta=.05) == 0
    # two pairs of three lack all of the margin
    torch.testing.assert_close(
        rank(rows([1 / 3] * 3), ties, theta=.3), torch.tensor(.2))


def test_a_single_column_costs_nothing():
    student = torch.ones(2, 3, 4, 1, requires_grad=True)
    loss = rank(student, torch.rand(2, 3, 4, 1), theta=.1)
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_gradients_agree_with_differences():
    student = randn(2, 3, 5, seed=1).double().softmax(-1).requires_grad_()
    teacher = randn(2, 3, 5, seed=2).double().softmax(-1).requires_grad_()
    for theta in (0.0, '1/N'):
        torch.autograd.gradcheck(
            lambda x: rank(x, teacher.detach(), theta=theta), student)
    rank(student, teacher).backward()
    assert teacher.grad is None


def test_attention_is_computed_as_mmpretrain_does():
    from mmpretrain.models.utils import MultiheadAttention
    from mmpretrain.models.utils.attention import \
        scaled_dot_product_attention as stock
    seen = []

    def product(q, k, v, **kwargs):
        seen.append((attention(q, k) @ v, stock(q, k, v, **kwargs)))
        return seen[0][1]

    layer = MultiheadAttention(6, 2)
    layer.scaled_dot_product_attention = product
    layer(torch.randn(2, 5, 6))
    torch.testing.assert_close(*seen[0])


def test_qkv_and_softmax_and_normalised_queries_may_meet():
    q, k = randn(3, 5, 4, seed=1), randn(3, 5, 4, seed=2)
    qkv = torch.stack([q, k, k]).permute(1, 3, 0, 2, 4).flatten(2)
    teacher = randn(3, 5, 5, seed=3).softmax(-1)
    loss = RankDistillLoss(num_heads=3)
    expected = loss([attention(q, k)], [teacher])
    assert expected > 0
    for student in (qkv, [qkv], dict(q=q, k=[k])):
        torch.testing.assert_close(loss(student, [teacher]), expected)
    torch.testing.assert_close(
        loss([qkv, attention(q, k)], [teacher] * 2), 2 * expected)


def test_pairs_are_of_different_columns_and_all_come_up():
    torch.manual_seed(0)
    first, second = random_pairs(torch.zeros(2, 3, 4, 5), 200)
    assert first.shape == second.shape == (4, 200)
    assert (first != second).all() and not first[0].equal(first[1])
    assert len({*zip(first[0].tolist(), second[0].tolist())}) == 5 * 4
    pairs = {*zip(*(x.tolist() for x in all_pairs(5, torch.device('cpu'))))}
    assert len(pairs) == 10 and all(i < j for i, j in pairs)


def test_random_pairs_stand_for_all_of_them():
    torch.manual_seed(0)
    student = randn(3, 20, 20, seed=1).softmax(-1)
    teacher = randn(3, 20, 20, seed=2).softmax(-1)
    exact = rank(student, teacher, num_pairs=None)
    some = [rank(student, teacher, num_pairs=64) for _ in range(50)]
    draws = torch.stack(some)
    assert draws.std() > 0
    assert (draws.mean() - exact).abs() < 3 * draws.std() / 50**0.5
    # no more pairs than there are
    assert rank(student, teacher, num_pairs=190) == exact


def test_draws_repeat_with_the_seed_and_can_be_injected():
    student = randn(3, 7, 20, seed=1).softmax(-1)
    teacher = randn(3, 7, 20, seed=2).softmax(-1)
    loss = RankDistillLoss(num_pairs=4)

    def drawn(seed):
        torch.manual_seed(seed)
        return loss([student], [teacher])

    assert drawn(1) == drawn(1) != drawn(2)
    loss.draw_pairs = lambda *_: (torch.tensor([0]), torch.tensor([1]))
    order = (teacher[..., 0] - teacher[..., 1]).sign()
    margin = student[..., 0] - student[..., 1]
    expected = (-order * margin).clamp(min=0).mean()
    torch.testing.assert_close(loss([student], [teacher]), expected)


def test_errors_say_what_is_wrong():
    rows = randn(3, 5, 5, seed=1)
    for wrong in (-0.1, '1/n'):
        with pytest.raises(ValueError, match=f"'1/N' or .*{wrong}"):
            RankDistillLoss(theta=wrong)
    with pytest.raises(ValueError, match='num_pairs .*got 0'):
        RankDistillLoss(num_pairs=0)
    with pytest.raises(ValueError, match=r'layer 0 .*\(2, 3, 5\) in the stu'):
        rank(rows, rows[:, :2])
    with pytest.raises(ValueError, match='differ in length: .*5.* and .*4'):
        rank(rows, rows[..., :4])
    with pytest.raises(ValueError, match='2 layers of the student and 1'):
        RankDistillLoss()([rows, rows], [rows])
    with pytest.raises(ValueError, match='layer 0 of the teacher .*num_heads'):
        rank(rows, rows[:, 0])
