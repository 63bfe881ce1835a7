import pytest
import torch
from distill.loss_inputs import randn
from torch import nn

from mmcompress.distill.losses import AttentionReconLoss, TokenDistillLoss

MAPS = [randn(3, 5, 5, seed=i).softmax(-1) for i in (3, 4)]
APPROX = [randn(3, 4, 5, seed=i) for i in (1, 2)]
TOKENS = randn(5, 6, seed=1), randn(5, 6, seed=2)
LEFT = torch.tensor([[True, False, True, True], [False, True, True, True]])
CRITERIA = pytest.mark.parametrize('criterion', ['mse', 'kl'])

# for test_every_loss.py
EVERY_LOSS = dict(
    attention_recon=dict(
        name='AttentionReconLoss', inputs=dict(student=APPROX, teacher=MAPS)),
    token_distill=dict(
        name='TokenDistillLoss',
        inputs=dict(student=TOKENS[0], teacher=TOKENS[1])),
    token_distill_kl=dict(
        name='TokenDistillLoss',
        inputs=dict(
            student=dict(tokens=TOKENS[0], mask=LEFT), teacher=TOKENS[1]),
        kwargs=dict(criterion='kl')))


def test_reconstruction_is_a_sum_of_squares_over_a_mean_of_layers():
    total = sum((s - t[:, :, 1:]).square().sum() for s, t in zip(APPROX, MAPS))
    torch.testing.assert_close(
        AttentionReconLoss(loss_weight=3.0)(APPROX, MAPS), 3 * total / 2)


def test_the_sum_grows_with_the_batch_and_the_mean_does_not():
    twice = [[torch.cat([x, x]) for x in layers] for layers in (APPROX, MAPS)]
    for reduction, factor in (('sum', 2), ('mean_batch', 1)):
        loss = AttentionReconLoss(reduction)
        torch.testing.assert_close(loss(*twice), factor * loss(APPROX, MAPS))


def test_the_teachers_maps_are_computed_from_its_queries_and_keys():
    qkv = [randn(5, 3 * 12, seed=5), randn(5, 3 * 12, seed=6)]
    maps = []
    for x in qkv:
        q, k, _ = x.view(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
        maps.append((q @ k.mT / 2).softmax(-1))
    torch.testing.assert_close(
        AttentionReconLoss(num_heads=3)(APPROX, qkv),
        AttentionReconLoss()(APPROX, maps))


@CRITERIA
def test_tokens_of_the_class_and_pruned_ones_do_not_count(criterion):
    loss = TokenDistillLoss(criterion)
    expected = loss(dict(tokens=TOKENS[0], mask=LEFT), TOKENS[1])
    student = TOKENS[0].clone()
    student[:, 0] = torch.nan
    student[:, 1:][~LEFT] = 7
    assert loss(dict(tokens=student, mask=LEFT), TOKENS[1]) == expected
    assert expected != loss(*TOKENS)
    kept = [x[:, 1:][LEFT][None] for x in TOKENS]
    alone = TokenDistillLoss(criterion, num_extra_tokens=0)
    torch.testing.assert_close(alone(*kept), expected)


@CRITERIA
def test_without_tokens_it_is_zero_with_a_gradient(criterion):
    student = TOKENS[0].clone().requires_grad_()
    none = torch.zeros_like(LEFT)
    loss = TokenDistillLoss(criterion)(dict(tokens=student, mask=none),
                                       TOKENS[1])
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_errors_say_what_does_not_fit():
    with pytest.raises(ValueError, match="got 'mean'"):
        AttentionReconLoss('mean')
    with pytest.raises(ValueError, match="got 'l1'"):
        TokenDistillLoss('l1')
    with pytest.raises(ValueError, match='1 predictors .* and 2 attentions'):
        AttentionReconLoss()(APPROX[:1], MAPS)
    with pytest.raises(ValueError, match=r'layer 1 predicts \(2, 3, 4, 4\)'):
        AttentionReconLoss()([APPROX[0], APPROX[1][..., 1:]], MAPS)
    with pytest.raises(ValueError, match='must be tokens'):
        TokenDistillLoss()(TOKENS[0], TOKENS[1][:, 1:])
    with pytest.raises(ValueError, match='num_extra_tokens=2 right'):
        TokenDistillLoss(num_extra_tokens=2)(dict(tokens=TOKENS[0], mask=LEFT),
                                             TOKENS[1])


class Teacher(nn.Module):

    def __init__(self):
        super().__init__()
        self.attn = nn.Module()
        self.attn.num_heads = 3
        self.attn.qkv = nn.Linear(12, 36)


def test_the_number_of_heads_is_the_teachers():
    loss = AttentionReconLoss()
    loss.look_at_teacher_tap(Teacher(), 'attn.qkv')
    qkv = [randn(5, 36, seed=5)] * 2
    torch.testing.assert_close(
        loss(APPROX, qkv),
        AttentionReconLoss(num_heads=3)(APPROX, qkv))
