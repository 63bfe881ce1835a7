import pytest
import torch
import torch.nn.functional as F
from diswot import (ChannelSemanticLoss, Distances, RelationDistanceLoss,
                    Scoring, channel_semantic_distance, fc_gradient,
                    kendall_tau, relation_distance, semantic_distance)
from golden import assert_golden, golden

from mmcompress.distill.distiller import Slot


def maps(*shape, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    kwargs.setdefault('dtype', torch.double)
    return torch.randn(2, *shape, generator=generator, **kwargs)


@golden('diswot')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_fc_gradient_is_what_autograd_computes():
    pooled = maps(6, 4)[0]
    weight = maps(5, 4, seed=1)[0].requires_grad_()
    bias = maps(5, seed=2)[0]
    labels = torch.tensor([0, 4, 2, 2, 1, 0])
    logits = F.linear(pooled, weight, bias)
    expected, = torch.autograd.grad(F.cross_entropy(logits, labels), weight)
    for kind in (torch.int64, torch.int32):
        found = fc_gradient(pooled, logits.detach(), labels.to(kind))
        torch.testing.assert_close(found, expected)


def test_semantic_distance_is_that_of_the_written_out_matrices():
    student, teacher = maps(5, 7)
    # no class, one channel, and rows that are shorter than the epsilon
    student[1] = 0
    teacher[2, 3] = 0
    student[3] *= 1e-7
    torch.testing.assert_close(
        semantic_distance(student, teacher),
        channel_semantic_distance(student[..., None], teacher[..., None]))


def test_semantic_distance_has_the_closed_form():
    student, teacher = maps(5, 7)
    agreement = (student.sign() * teacher.sign()).mean(1)
    expected = 2 * (1 - agreement * F.cosine_similarity(student, teacher))
    torch.testing.assert_close(
        semantic_distance(student, teacher), expected.mean())


@pytest.mark.parametrize(
    'distance',
    [semantic_distance, channel_semantic_distance, relation_distance])
def test_distances_are_symmetric_and_zero_only_for_equal_ones(distance):
    a, b = maps(5, 7)
    assert distance(a, a).item() == pytest.approx(0, abs=1e-12)
    assert distance(a, b) > 1e-3
    torch.testing.assert_close(distance(a, b), distance(b, a))


def test_scale_of_a_gradient_does_not_matter():
    student, teacher = maps(5, 7)
    torch.testing.assert_close(
        semantic_distance(30 * student, teacher / 7),
        semantic_distance(student, teacher))


def test_relation_distance_ignores_order_of_images_and_rotations():
    student, teacher = maps(6, 3, 2, 2)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    rotation = torch.linalg.qr(maps(12, 12, seed=1)[0])[0]
    expected = relation_distance(student, teacher)
    torch.testing.assert_close(
        relation_distance(student[order], teacher[order]), expected)
    torch.testing.assert_close(
        relation_distance(student.flatten(1) @ rotation, teacher), expected)
    assert relation_distance(student[order], teacher) != expected


@pytest.mark.parametrize('loss', [RelationDistanceLoss, ChannelSemanticLoss])
def test_gradient_of_a_loss_is_the_derivative(loss):
    student, teacher = maps(3, 2, 2, 2)
    assert torch.autograd.gradcheck(
        loss(2.0), (student.requires_grad_(), teacher))


def test_the_relation_loss_takes_other_channels_and_sizes():
    student, teacher = maps(4, 3, 4, 4)[0], maps(4, 5, 2, 2)[0]
    assert RelationDistanceLoss()(student, teacher) > 0


def test_the_semantic_loss_adapts_channels():
    student = maps(4, 3, 4, 4, dtype=torch.float32)[0]
    teacher = maps(4, 5, 2, 2, dtype=torch.float32)[0]
    loss = ChannelSemanticLoss(student_channels=3, teacher_channels=5)
    loss(student, teacher).backward()
    assert loss.adapter.weight.grad.any()
    with pytest.raises(ValueError, match='differ in channels'):
        ChannelSemanticLoss()(student, teacher)


@pytest.mark.parametrize('loss', [RelationDistanceLoss, ChannelSemanticLoss])
def test_half_precision_neither_overflows_nor_stays_half(loss):
    student, teacher = maps(4, 8, 6, 6, dtype=torch.float32) * 300
    value = loss()(student.half(), teacher.half())
    assert value.dtype == torch.float32
    torch.testing.assert_close(
        value, loss()(student, teacher), rtol=1e-2, atol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize('loss', [RelationDistanceLoss, ChannelSemanticLoss])
def test_autocast_gives_the_loss_of_single_precision(loss, dtype):
    student, teacher = maps(4, 8, 6, 6, dtype=torch.float32) * 300
    with torch.autocast('cpu', dtype):
        value = loss()(student.to(dtype), teacher.to(dtype))
    assert value.dtype == torch.float32
    torch.testing.assert_close(
        value, loss()(student, teacher), rtol=1e-2, atol=0)


@pytest.mark.parametrize('loss', [RelationDistanceLoss, ChannelSemanticLoss])
def test_features_of_zeros_and_no_images_stay_finite(loss):
    teacher = maps(3, 4, 2, 2)[0]
    student = torch.zeros_like(teacher, requires_grad=True)
    loss()(student, teacher).backward()
    assert student.grad.isfinite().all()
    none = torch.zeros(0, 4, 2, 2, requires_grad=True)
    value = loss()(none, none.detach())
    value.backward()
    assert value == 0


@pytest.mark.parametrize('loss', [RelationDistanceLoss, ChannelSemanticLoss])
def test_layers_of_a_decoder_are_not_taken_for_images(loss):
    student, teacher = maps(3, 2, 4, 5)
    taps = dict(student='decoder', teacher='decoder')
    slot = Slot('loss_a', loss(), ['student', 'teacher'], taps)
    with pytest.raises(ValueError, match='second axis'):
        slot.run(
            dict(student=student, teacher=teacher, data_samples=[None, None]))


def test_one_image_is_told_to_add_nothing():
    student, teacher = maps(1, 4, 2, 2)
    with pytest.warns(UserWarning, match='larger batches'):
        assert RelationDistanceLoss()(student.requires_grad_(), teacher) == 0


def test_errors_name_what_differs():
    with pytest.raises(ValueError, match=r'\(3, 4\).*\(2, 4\)'):
        RelationDistanceLoss()(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match='equal classes'):
        semantic_distance(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(ValueError, match='0 to 4'):
        fc_gradient(torch.zeros(2, 3), torch.zeros(2, 5), torch.tensor([0, 5]))
    with pytest.raises(TypeError, match='one tensor'):
        RelationDistanceLoss()([torch.zeros(3, 4)], torch.zeros(3, 4))


def test_the_score_is_minus_the_weighted_sum():
    found = Scoring(2.0, 10.0).scores([Distances(0.1, 0.5)])
    assert found == pytest.approx([-2.0])


def test_a_rank_sum_lets_both_distances_count():
    candidates = [
        Distances(semantic=0.10, relation=3e-4),
        Distances(semantic=0.11, relation=1e-4),
        Distances(semantic=0.50, relation=2e-4)
    ]
    plain, ranks = (
        Scoring(combine=c).scores(candidates) for c in ('sum', 'rank_sum'))
    assert max(plain) == plain[0]
    assert ranks == [-4, -3, -5]


def test_without_a_weight_an_undefined_distance_is_not_asked_for():
    candidates = [Distances(0.1), Distances(0.2)]
    assert Scoring(w_semantic=0).scores(candidates) == [-0.1, -0.2]
    with pytest.raises(ValueError, match='w_semantic=0'):
        Scoring().scores(candidates)
    with pytest.raises(ValueError, match='one is above'):
        Scoring(0, 0)


def test_kendall_tau_counts_pairs():
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
