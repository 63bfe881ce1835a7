import pytest
import torch
from golden import assert_golden, golden
from golden.nkd import labelled

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import TfNKDLoss, USKDLoss
from mmcompress.distill.losses.uskd import (rank_positions, soft_target,
                                            top_targets, zipf_labels)

CLASSES, CHANNELS = 6, 5
LABELS = labelled(torch.tensor([0, 5, 2, 2]))
MIXED = torch.tensor([[.7, 0, .3, 0, 0, 0], [0, .2, 0, 0, .8, 0],
                      [0, 0, 0, 1., 0, 0], [.5, .5, 0, 0, 0, 0]])


def inputs(dtype=torch.double, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(4, CHANNELS, 3, 3, generator=generator, dtype=dtype)
    logits = torch.randn(4, CLASSES, generator=generator, dtype=dtype)
    return dict(
        feature=scale * feature, logits=(scale * logits).requires_grad_())


def uskd(**kwargs):
    torch.manual_seed(0)
    return USKDLoss(CHANNELS, CLASSES, **kwargs)


@golden('uskd')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_targets_are_the_two_largest_shares():
    index, share = top_targets(MIXED)
    assert index.tolist() == [[0, 2], [4, 1], [3, 0], [0, 1]]
    torch.testing.assert_close(share[:, 1], torch.tensor([.3, .2, 0, .5]))


def test_soft_targets_are_the_labels_on_average():
    prob = torch.rand(5, 1)
    for power in (1, 2):
        weight = soft_target(prob, torch.ones(5, 1), power)
        torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    alone = soft_target(prob[:1], torch.ones(1, 1), 2)
    torch.testing.assert_close(alone, torch.ones(1, 1))


def test_equal_scores_keep_the_order_of_the_classes():
    positions = rank_positions(
        torch.zeros(2, 4), torch.zeros(2, 4), torch.tensor([[1], [3]]), 'prob')
    assert positions.tolist() == [[1, 2, 3, 4]] * 2


def test_soft_labels_follow_zipf():
    labels = zipf_labels(
        torch.tensor([[2, 1, 3]]), torch.tensor([[False, True, False]]))
    torch.testing.assert_close(labels, torch.tensor([[.6, 0, .4]]).double())


def test_terms_reach_what_they_are_about():
    loss, data = uskd().double(), inputs()
    data['feature'].requires_grad_()
    terms = loss(data, LABELS)
    both = [data['feature'], data['logits']]
    for name, reached in (('loss_target', [False, True]),
                          ('loss_nontarget', [False, True]), ('loss_weak',
                                                              [True, False])):
        grads = torch.autograd.grad(
            terms[name], both, retain_graph=True, allow_unused=True)
        assert [g is not None for g in grads] == reached, name


def test_gradient_is_the_derivative():
    loss, data = uskd().double(), inputs()
    # what is not differentiated stays as it is
    labels = loss.nontarget_labels(
        loss.fc(data['feature'].mean((2, 3))), data['logits'],
        torch.tensor([[0], [5], [2], [2]]),
        torch.ones(4, 1).double())
    loss.nontarget_labels = lambda *_: labels

    def others(logits):
        return loss(dict(data, logits=logits), LABELS)['loss_nontarget']

    def weak(feature):
        return loss(dict(data, feature=feature), LABELS)['loss_weak']

    assert torch.autograd.gradcheck(others, data['logits'])
    assert torch.autograd.gradcheck(weak, data['feature'].requires_grad_())


def test_features_are_pooled():
    loss, data = uskd().double(), inputs()
    tokens = data['feature'].flatten(2).mT
    expected = loss(data, LABELS)
    for feature in (tokens, tokens.mean(1)):
        torch.testing.assert_close(
            loss(dict(data, feature=feature), LABELS), expected)
    first = dict(data, feature=tokens[:, 0])
    loss.pool = 'cls'
    assert loss(dict(data, feature=tokens), LABELS) == loss(first, LABELS)


def test_a_target_without_share_may_stay_among_the_others():
    data = inputs()
    dropped = uskd().double()(data, labelled(MIXED.double()))
    kept = uskd(strict_targets=True).double()(data, labelled(MIXED.double()))
    assert dropped['loss_target'] == kept['loss_target']
    assert dropped['loss_nontarget'] != kept['loss_nontarget']
    # without such a target, nothing differs
    only = labelled(MIXED[:2].double())
    two = {k: v[:2] for k, v in data.items()}
    assert uskd().double()(two,
                           only) == uskd(strict_targets=True).double()(two,
                                                                       only)


@pytest.mark.parametrize(
    'target', [torch.tensor([0, 1, 1, 0]),
               torch.tensor([[.5, .5]] * 4)])
def test_two_classes_have_no_others(target):
    data = {k: v[:, :2] if k == 'logits' else v for k, v in inputs().items()}
    with pytest.warns(UserWarning, match='loss_nontarget is always 0'):
        of_two = USKDLoss(CHANNELS, 2).double()
    loss = of_two(data, labelled(target))
    assert loss['loss_nontarget'] == 0
    grad, = torch.autograd.grad(loss['loss_nontarget'], data['logits'])
    assert not grad.any()


@pytest.mark.parametrize('scale', [0.0, 1e4])
@pytest.mark.parametrize('labels', [LABELS, labelled(MIXED)])
def test_extremes_stay_finite(scale, labels):
    data = inputs(torch.float32, scale)
    for loss in (uskd(), uskd(rank_score='logprob')):
        total = sum(loss(data, labels).values())
        total += TfNKDLoss()(data['logits'], labels)
        grad, = torch.autograd.grad(total, data['logits'])
        assert total.isfinite() and grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_autocast_gives_nearly_the_same_loss(dtype):
    loss, data = uskd(mu=1.0), inputs(torch.float32)
    expected = loss(data, LABELS), TfNKDLoss()(data['logits'], LABELS)
    data = {k: v.to(dtype) for k, v in data.items()}
    with torch.autocast('cpu', dtype=dtype):
        actual = loss(data, LABELS), TfNKDLoss()(data['logits'], LABELS)
    torch.testing.assert_close(actual, expected, rtol=2e-2, atol=1e-3)


def test_errors_say_what_is_allowed():
    with pytest.raises(ValueError, match=r'5 channels \(channel\).* 7 and 6'):
        uskd()(dict(inputs(), feature=torch.zeros(4, 7)), LABELS)
    with pytest.raises(ValueError, match='num_classes must be at least 2'):
        USKDLoss(CHANNELS, 1)
    with pytest.raises(ValueError, match='features of 3 images.* of 4'):
        uskd()(dict(inputs(), feature=torch.zeros(3, 5)), LABELS)
    with pytest.raises(ValueError, match=r"pool='cls'.*\(4, 5, 2, 2\)"):
        uskd(pool='cls')(dict(inputs(), feature=torch.zeros(4, 5, 2, 2)),
                         LABELS)  # yapf: disable
    with pytest.raises(ValueError, match="'prob' or 'logprob', got 'p'"):
        uskd(rank_score='p')
    with pytest.raises(ValueError, match="'mean' or 'cls', got 'max'"):
        uskd(pool='max')
