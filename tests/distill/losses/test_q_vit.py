import pytest
import torch
from distill.loss_inputs import randn
from golden import assert_golden, golden
from torch import nn

from mmcompress.distill.losses import DGDLoss
from mmcompress.distill.losses.attention import heads_at, split_qkv
from mmcompress.distill.losses.q_vit import (similarity_distance,
                                             token_similarity)

# for test_every_loss.py
EVERY_LOSS = dict(
    dgd=dict(name='DGDLoss', inputs='QKV', kwargs=dict(num_heads=2)),
    dgd_rows=dict(name='DGDLoss', inputs='HEADS', kwargs=dict(norm='row')))
NORMS = pytest.mark.parametrize('norm', ['frobenius', 'row'])


@golden('q_vit')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def heads(width=4, seed=1):
    return randn(3, 5, width, seed=seed).double()


@NORMS
def test_similarities_have_norm_1_and_forget_the_scale(norm):
    x = heads()
    similarity = token_similarity(x, norm)
    axes = (-2, -1) if norm == 'frobenius' else -1
    size = torch.linalg.vector_norm(similarity, dim=axes)
    torch.testing.assert_close(size, torch.ones_like(size))
    torch.testing.assert_close(token_similarity(-3 * x, norm), similarity)
    # a row of zeros, or nothing but zeros
    x[0, 0, 2], x[0, 1] = 0, 0
    zeros = token_similarity(x.requires_grad_(), norm)
    assert not zeros[0, 0, 2].any() and not zeros[0, 1].any()
    zeros.sum().backward()
    assert x.grad.isfinite().all()


def test_rows_are_compared_by_the_frobenius_norm_too():
    s, t = heads(seed=1), heads(6, seed=2)

    def cosines(x):
        products = x @ x.mT
        return products / products.norm(dim=-1, keepdim=True)

    expected = (cosines(s) - cosines(t)).square().sum((-2, -1)).sqrt()
    torch.testing.assert_close(similarity_distance(s, t, 'row'), expected)


def test_eps_is_added_to_the_norms():
    x = heads()
    size = (x @ x.mT).square().sum((-2, -1), keepdim=True).sqrt()
    torch.testing.assert_close(
        token_similarity(x, eps=2.0), x @ x.mT / (size + 2))


@NORMS
def test_is_zero_for_the_teacher_in_another_scale_or_base(norm):
    q, k = heads(), heads(seed=2)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.double))[0]
    loss = DGDLoss(norm)
    teacher = dict(q=[5 * q @ turn], k=[k @ turn.mT])
    assert loss(dict(q=[q], k=[k]), dict(q=[q], k=[k])) == 0
    assert loss(dict(q=[q], k=[k]), teacher) < 1e-6


def test_is_a_sum_over_layers_and_heads_and_a_mean_over_images():
    q, k, other = heads(), heads(seed=2), heads(seed=3)
    expected = similarity_distance(q, k) + similarity_distance(k, other)
    student, teacher = dict(q=[q, q], k=[k, k]), dict(q=[k, k], k=[other] * 2)
    torch.testing.assert_close(
        DGDLoss(loss_weight=3.0)(student, teacher), 6 * expected.mean(0).sum())


def test_heads_are_split_as_in_mmpretrain():
    from mmpretrain.models.utils import MultiheadAttention
    attention, seen = MultiheadAttention(6, 2), []
    attention.scaled_dot_product_attention = lambda q, k, v, **_: (seen.extend(
        (q, k)), v)[1]
    x = torch.randn(2, 5, 6)
    attention(x)
    assert heads_at(attention, 'qkv') is None
    assert heads_at(nn.ModuleDict(dict(attn=attention)), 'attn.qkv') == 2
    for actual, expected in zip(split_qkv(attention.qkv(x), 2), seen):
        assert torch.equal(actual, expected)


def test_qkv_and_what_normalises_it_may_meet():
    qkv = randn(5, 24, seed=1)
    q, k = split_qkv(qkv, 2)
    teacher = [randn(5, 12, seed=2)]
    loss = DGDLoss(num_heads=2)
    expected = loss([qkv], teacher)
    assert expected > 0
    assert loss(dict(q=q, k=[k]), teacher) == expected
    # of one layer, without a list
    assert loss(qkv, teacher[0]) == expected


def attentions(*num_heads):
    layers = nn.ModuleList()
    for num in num_heads:
        layers.append(nn.ModuleDict(dict(qkv=nn.Identity())))
        layers[-1].num_heads = num
    return layers


def looked(student, teacher, **kwargs):
    """A loss that has seen models with so many heads in their layers."""
    loss = DGDLoss(**kwargs)
    for look, numbers in ((loss.look_at_tap, student),
                          (loss.look_at_teacher_tap, teacher)):
        for i in range(len(numbers)):
            look(attentions(*numbers), f'{i}.qkv')
    return loss


def test_layers_have_the_heads_of_their_attention():
    student = [randn(5, 24, seed=i) for i in (1, 2)]
    teacher = [randn(5, 48, seed=i) for i in (3, 4)]
    layers = [
        DGDLoss(num_heads=num)([s], [t])
        for num, s, t in zip((2, 4), student, teacher)
    ]
    torch.testing.assert_close(
        looked((2, 4), (2, 4))(student, teacher), sum(layers))
    # a layer that runs twice
    torch.testing.assert_close(
        looked((2, ), (2, 2))(student, teacher),
        DGDLoss(num_heads=2)(student, teacher))


def test_errors_say_what_is_wrong():
    qkv = [randn(5, 24, seed=1)]
    with pytest.raises(ValueError, match="'row', got 'l2'"):
        DGDLoss('l2')
    with pytest.raises(ValueError, match='eps .*-1'):
        DGDLoss(eps=-1)
    with pytest.raises(ValueError, match='num_heads must be positive, got 0'):
        DGDLoss(num_heads=0)
    with pytest.raises(
            ValueError,
            match='num_heads is 2, and 0.qkv of the '
            'teacher is of an attention with 4'):
        looked((2, ), (4, ), num_heads=2)
    with pytest.raises(ValueError, match='layer 0 of the student .*num_heads'):
        DGDLoss()(qkv, qkv)
    with pytest.raises(
            ValueError,
            match=r'layer 0 .*\(2, 2, 5\) in the stud'
            r'ent and \(2, 4, 5\) in'):
        looked((2, ), (4, ))(qkv, qkv)
    with pytest.raises(ValueError, match=r'\(2, 2, 4\) in the teacher'):
        DGDLoss(num_heads=2)(qkv, [qkv[0][:, 1:]])
    with pytest.raises(ValueError, match='1 layers of the student and 2 of'):
        DGDLoss(num_heads=2)(qkv, 2 * qkv)
    with pytest.raises(ValueError, match='not 3 times 5 heads wide'):
        DGDLoss(num_heads=5)(qkv, qkv)
    with pytest.raises(ValueError, match=r"\(2, 3, 5, 4\).* attention's qkv"):
        DGDLoss(num_heads=2)([heads().float()], qkv)
    with pytest.raises(ValueError, match='q .* and k .* must be alike'):
        DGDLoss()(dict(q=heads(), k=heads()[:, :2]), qkv)
    with pytest.raises(TypeError, match='keys q, k; got a dict'):
        DGDLoss()(dict(q=heads()), qkv)


def test_the_teacher_gets_no_gradient():
    student = [randn(5, 24, seed=1).requires_grad_()]
    teacher = [randn(5, 24, seed=2).requires_grad_()]
    DGDLoss(num_heads=2)(student, teacher).backward()
    assert student[0].grad.any() and teacher[0].grad is None
