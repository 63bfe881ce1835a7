import socket
from types import SimpleNamespace

import pytest
import torch
from distill.loss_inputs import AWAY, BOXES, NONE, detected, queries, randn
from golden import assert_golden, golden
from torch import nn

from mmcompress.compat import close_process_group
from mmcompress.distill.losses import DRDLoss
from mmcompress.distill.losses.boxes import normalised, pairwise_giou
from mmcompress.distill.losses.q_detr import (foreground_queries,
                                              matching_queries)

ADAPTED = dict(student_channels=4, teacher_channels=6)
# for test_every_loss.py
EVERY_LOSS = dict(
    drd=dict(name='DRDLoss', inputs='QUERIES', kwargs=ADAPTED),
    drd_image=dict(
        name='DRDLoss',
        inputs='QUERIES',
        kwargs=dict(reduction='image_fro', **ADAPTED)))
REDUCTIONS = pytest.mark.parametrize('reduction', ['query', 'image_fro'])


@golden('q_detr')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def detector(num_queries=4, attention=None, **others):
    """As far as the loss looks at one."""
    model = nn.Module()
    model.num_queries = num_queries
    model.decoder = nn.ModuleDict(
        dict(cross_attn=nn.ModuleDict(attention or {})))
    for name, value in others.items():
        setattr(model, name, value)
    return model


def test_giou_of_boxes_that_touch_lie_apart_or_are_a_point():
    whole, point = [.5, .5, 1, 1], [.5, .5, 0, -1]
    left, right = [.25, .5, .5, 1], [.75, .5, .5, 1]
    boxes = torch.tensor([whole, left, right, point])
    giou = pairwise_giou(boxes, boxes)
    torch.testing.assert_close(giou, giou.T)
    torch.testing.assert_close(giou.diag()[:3], torch.ones(3))
    assert giou[0, 1] == 0.5 and giou[1, 2] == 0
    # 3 of 4 parts of the hull are outside of both
    apart = torch.tensor([[.125, .5, .25, 1], [.875, .5, .25, 1]])
    assert pairwise_giou(*apart.split(1)).item() == -0.5
    assert giou[0, 3].abs() < 1e-6


def test_boxes_are_normalised_by_the_image_without_padding():
    boxes = torch.tensor([[10., 8, 50, 40]])
    actual, = normalised([boxes], [(64, 80)])
    torch.testing.assert_close(actual, torch.tensor([[.375, .375, .5, .5]]))


def test_a_query_counts_beside_the_best_of_any_object():
    gt = torch.tensor([[.25, .5, .5, 1], [.75, .5, .5, 1]])
    boxes = torch.tensor([[.25, .5, .5, 1], [.25, .5, .5, .6],
                          [.25, .5, .5, .5], [.75, .5, .5, .1]])
    keep, best = foreground_queries(boxes, gt, 0.6)
    # 0.6 of the best is not more than that; 0.1 is the best of the second
    torch.testing.assert_close(best, torch.tensor([1, .1]))
    assert keep.tolist() == [True, False, False, True]
    assert foreground_queries(boxes, gt, 0.59)[0].tolist() == [
        True, True, False, True]  # yapf: disable


def test_an_object_that_no_query_overlaps_keeps_none():
    gt, far = torch.tensor([[.1, .1, .1, .1]]), torch.tensor([AWAY[1]])
    keep, best = foreground_queries(far, gt, 0.6)
    assert best < 0 and not keep.any()
    assert not foreground_queries(far, NONE, 0.6)[0].any()


def test_the_first_of_equal_queries_is_matched():
    boxes = torch.tensor(AWAY)
    assert matching_queries(boxes, boxes.repeat(2, 1), 2, 5).tolist() == [0, 1]
    # nearer in L1, but it overlaps less
    others = torch.tensor([[.125, .125, .3, .3], [.2, .125, .125, .125]])
    assert matching_queries(boxes[:1], others, 2, 0).tolist() == [1]
    assert matching_queries(boxes[:1], others, 0, 5).tolist() == [1]


@REDUCTIONS
def test_is_zero_if_the_student_is_the_teacher(reduction):
    both = queries(4, 1, *AWAY)
    both['features'].requires_grad_()
    loss = DRDLoss(reduction=reduction)(both, both, BOXES)
    assert loss == 0
    loss.backward()
    assert not both['features'].grad.any()


@REDUCTIONS
def test_the_order_of_the_teachers_queries_is_free(reduction):
    student, teacher = queries(4, 1), queries(4, 2, *AWAY)
    loss = DRDLoss(reduction=reduction)
    shuffled = {k: v[:, [3, 1, 0, 2]] for k, v in teacher.items()}
    torch.testing.assert_close(
        loss(student, teacher, BOXES), loss(student, shuffled, BOXES))


@REDUCTIONS
def test_only_queries_on_objects_learn(reduction):
    student, teacher = queries(4, 1, *AWAY), queries(4, 2)
    for side in (student, teacher):
        for x in side.values():
            x.requires_grad_()
    DRDLoss(reduction=reduction)(student, teacher, BOXES).backward()
    moved = student['features'].grad.any(2)
    assert moved.tolist() == [[True, True, False, False]] * 2
    assert student['boxes'].grad is None
    assert teacher['features'].grad is None


def test_an_image_without_objects_adds_nothing():
    student, teacher = queries(4, 1), queries(4, 2)
    one = {k: v[:1] for k, v in student.items()}
    samples = [BOXES[0], *detected(NONE)]
    alone = DRDLoss()(one, teacher | {
        k: v[:1]
        for k, v in teacher.items()
    }, BOXES[:1])
    torch.testing.assert_close(DRDLoss()(student, teacher, samples), alone)
    both = DRDLoss(reduction='image_fro')
    torch.testing.assert_close(
        2 * both(student, teacher, samples),
        both(one, {
            k: v[:1]
            for k, v in teacher.items()
        }, BOXES[:1]))


def test_features_may_come_with_the_queries_first():
    student, teacher = queries(4, 1, *AWAY), queries(4, 2)
    expected = DRDLoss()(student, teacher, BOXES)

    def turned(side):
        return side | dict(features=side['features'].transpose(0, 1))

    # as many queries as images: the attention tells
    torch_like = detector(4, dict(attn=nn.MultiheadAttention(4, 1)))
    models = detector(), torch_like
    assert DRDLoss()(turned(student), teacher, BOXES) == expected
    assert DRDLoss()(student, turned(teacher), BOXES, *models) == expected
    assert DRDLoss()(student, teacher, BOXES, detector(), detector()) == \
        expected


def test_the_last_layers_boxes_and_queries_count():
    student, teacher = queries(4, 1), queries(4, 2)
    expected = DRDLoss()(student, teacher, BOXES)
    # noisy objects come first in training
    noisy = {k: torch.cat([v.flip(0), v], 1) for k, v in student.items()}
    noisy['boxes'] = torch.stack([noisy['boxes'].flip(1), noisy['boxes']])
    assert DRDLoss()(noisy, teacher, BOXES, detector(2),
                     detector(2)) == expected


def test_errors_say_what_is_wrong():
    both = queries(4, 1)
    for kwargs, message in ((dict(tau=1.5), 'tau .*1.5'),
                            (dict(reduction='mean'), "'image_fro', got 'mean"),
                            (dict(student_channels=4), 'give both')):
        with pytest.raises(ValueError, match=message):
            DRDLoss(**kwargs)
    with pytest.raises(ValueError, match='channels; student_channels and'):
        DRDLoss()(both, queries(6, 2), BOXES)
    with pytest.raises(ValueError, match=r'made for \(4, 6\) channels'):
        DRDLoss(**ADAPTED)(both, both, BOXES)
    with pytest.raises(ValueError, match='differ in images or queries'):
        DRDLoss()(both, both | dict(features=randn(3, 4, seed=0)), BOXES)
    with pytest.raises(ValueError, match='no num_queries'):
        DRDLoss()(both, both, BOXES, nn.Identity(), detector())
    with pytest.raises(ValueError, match='teacher .* has dense queries'):
        DRDLoss()(both, both, BOXES, detector(),
                  detector(dense_topk_ratio=1.5))
    with pytest.raises(TypeError, match='keys features, boxes; got a tuple'):
        DRDLoss()(both, (1, 2), BOXES)
    with pytest.raises(
            TypeError, match=r'one tensor as student.features.*\[0'):
        DRDLoss()(both | dict(features=[both['features']]), both, BOXES)
    with pytest.raises(ValueError, match='no gt_instances'):
        DRDLoss()(both, both,
                  [SimpleNamespace(metainfo=dict(img_shape=(1, 1)))] * 2)


def _gradient(samples, images):
    """Of the student's features, of so many images."""
    student, teacher = (
        {k: v[images].clone() for k, v in queries(4, seed, *AWAY).items()}
        for seed in (1, 2))  # yapf: disable
    student['features'].requires_grad_()
    DRDLoss()(student, teacher, samples[images]).backward()
    return student['features'].grad


# three queries count in the first image, one in the second
UNEQUAL = [*detected(torch.tensor([[10.0, 8, 50, 40], [40, 20, 90, 60],
                                   [6, 4, 18, 12]])),
           *detected(torch.tensor([[78.0, 0, 90, 16]]))]  # yapf: disable


def _gradient_in_a_process(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    grad = _gradient(UNEQUAL, slice(rank, rank + 1))
    torch.save(grad, f'{folder}/{rank}.pth')
    close_process_group()


@pytest.mark.slow
def test_two_processes_take_the_mean_over_all_queries(tmp_path):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    torch.multiprocessing.spawn(
        _gradient_in_a_process, (port, str(tmp_path)), nprocs=2)
    # DDP halves each
    both = [torch.load(tmp_path / f'{rank}.pth') / 2 for rank in (0, 1)]
    torch.testing.assert_close(torch.cat(both), _gradient(UNEQUAL, slice(2)))
    assert [int(g.any(2).sum()) for g in both] == [3, 1]
