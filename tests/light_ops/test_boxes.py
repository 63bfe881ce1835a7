import pytest
import torch
from operators import needs_compiled, on_both

from mmcompress.light_ops import ext

pytestmark = needs_compiled


def random_boxes(n, seed=0, grid=None):
    """Boxes and scores; with a grid, many are equal or overlap exactly."""
    g = torch.Generator().manual_seed(seed)
    xy = torch.rand(n, 2, generator=g) * 60
    boxes = torch.cat([xy, xy + torch.rand(n, 2, generator=g) * 40], 1)
    scores = torch.rand(n, generator=g)
    if grid:
        boxes = (boxes / grid).round() * grid
        scores = (scores * 5).round() / 5
    return boxes, scores


def nms(*args, **kwargs):
    from mmcv.ops import nms
    return nms(*args, **kwargs)


@pytest.mark.parametrize('n', [0, 1, 2, 127, 128, 129, 700])
@pytest.mark.parametrize('grid', [None, 10])
@pytest.mark.parametrize('offset', [0, 1])
def test_nms_keeps_the_same_boxes(n, grid, offset):
    boxes, scores = random_boxes(n, n, grid)
    for threshold in (0.0, 0.3, 1 / 3, 0.5, 0.7, 1.0):
        compiled, ours = on_both('nms',
                                 lambda: nms(boxes, scores, threshold, offset))
        assert torch.equal(compiled[1], ours[1])
        assert torch.equal(compiled[0], ours[0])


def test_nms_at_overlaps_that_equal_the_threshold():
    # IoU 1/2 and 1/3 exactly
    boxes = torch.tensor([[0, 0, 4, 4], [0, 0, 4, 2], [2, 0, 6, 4.]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    for threshold in (0.5, 1 / 3, 0.3):
        compiled, ours = on_both('nms', lambda: nms(boxes, scores, threshold))
        assert torch.equal(compiled[1], ours[1])


def test_nms_of_degenerate_and_equal_boxes():
    boxes = torch.tensor([[3, 3, 3, 3.], [5, 5, 2, 2]]).repeat(4, 1)
    scores = torch.full((8, ), 0.5)
    compiled, ours = on_both('nms', lambda: nms(boxes, scores, 0.5))
    assert torch.equal(compiled[1], ours[1])


def test_nms_with_a_score_threshold_and_a_maximum():
    boxes, scores = random_boxes(200, 3)
    compiled, ours = on_both(
        'nms',
        lambda: nms(boxes, scores, 0.5, score_threshold=0.3, max_num=20))
    assert torch.equal(compiled[1], ours[1]) and len(ours[1]) == 20


@pytest.mark.parametrize('class_agnostic', [False, True])
@pytest.mark.parametrize('split', [10000, 50])
@pytest.mark.parametrize('kind', ['nms', 'soft_nms'])
def test_batched_nms_keeps_the_same_boxes(class_agnostic, split, kind):
    from mmcv.ops import batched_nms
    boxes, scores = random_boxes(150, 4, grid=5)
    classes = torch.arange(150) % 3
    cfg = dict(type=kind, iou_threshold=0.4, split_thr=split)
    cfg.update(dict(max_num=60) if kind == 'nms' else dict(min_score=0.05))
    compiled, ours = on_both(
        'nms',
        lambda: batched_nms(boxes, scores, classes, cfg, class_agnostic))
    assert torch.equal(compiled[1], ours[1])
    torch.testing.assert_close(compiled[0], ours[0])


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('n', [0, 1, 2, 60])
@pytest.mark.parametrize('grid', [None, 10])
@pytest.mark.parametrize('offset', [0, 1])
def test_soft_nms_gives_the_same(method, n, grid, offset):
    from mmcv.ops import soft_nms
    boxes, scores = random_boxes(n, n, grid)
    for min_score in (0.0, 1e-3, 0.3):
        compiled, ours = on_both(
            'nms', lambda: soft_nms(
                boxes,
                scores,
                0.3,
                min_score=min_score,
                method=method,
                offset=offset))
        assert torch.equal(compiled[1], ours[1])
        torch.testing.assert_close(
            compiled[0], ours[0], rtol=2e-7, atol=0, equal_nan=True)


@pytest.mark.parametrize('grid', [None, 10])
def test_nms_match_gives_the_same_groups(grid):
    from mmcv.ops import nms_match
    boxes, scores = random_boxes(120, 5, grid)
    dets = torch.cat([boxes, scores[:, None]], 1)
    compiled, ours = on_both('nms', lambda: nms_match(dets, 0.4))
    assert [g.tolist() for g in compiled] == [g.tolist() for g in ours]
    assert any(len(g) > 1 for g in ours)


@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('aligned', [False, True])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('dtype', [torch.float, torch.double])
def test_bbox_overlaps_are_the_same(mode, aligned, offset, dtype):
    from mmcv.ops import bbox_overlaps
    first = random_boxes(30, 6)[0].to(dtype)
    second = random_boxes(30 if aligned else 17, 7)[0].to(dtype)
    compiled, ours = on_both(
        'bbox', lambda: bbox_overlaps(first, second, mode, aligned, offset))
    assert torch.equal(compiled, ours) and bool((ours > 0).any())


def test_nms_takes_double_precision():
    # where the compiled operator refuses
    boxes, scores = random_boxes(40, 8)
    assert torch.equal(
        ext.nms(boxes.double(), scores.double(), 0.5, 0),
        ext.nms(boxes, scores, 0.5, 0))
