"""Operators that the compiled mmcv has for GPUs only: against formulas."""
import importlib

import pytest
import torch
import torch.nn.functional as F
from operators import with_grads

from mmcompress.light_ops import ext


@pytest.fixture
def ours(monkeypatch):
    for name in ('focal_loss', 'multi_scale_deform_attn', 'roi_pool'):
        module = importlib.import_module(f'mmcv.ops.{name}')
        monkeypatch.setattr(module, 'ext_module', ext)


def logits(n=7, k=4, scale=3.0, dtype=torch.double):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, k, generator=g, dtype=dtype) * scale


def sigmoid_focal(x, target, gamma, alpha, weight=None):
    hot = F.one_hot(target, x.size(1) + 1)[:, :-1].to(x)
    p = x.sigmoid()
    right = p * hot + (1 - p) * (1 - hot)
    factor = alpha * hot + (1 - alpha) * (1 - hot)
    loss = -factor * (1 - right)**gamma * right.log()
    return loss if weight is None else loss * weight[target][:, None]


@pytest.mark.parametrize('gamma, alpha', [(2.0, 0.25), (1.5, 0.6), (0.0, 0.5)])
@pytest.mark.parametrize('reduction', ['none', 'sum', 'mean'])
def test_sigmoid_focal_loss(ours, gamma, alpha, reduction):
    from mmcv.ops import sigmoid_focal_loss

    # 4 is the background
    target = torch.tensor([0, 1, 2, 3, 4, 4, 0])

    def formula(x):
        loss = sigmoid_focal(x, target, gamma, alpha)
        return dict(
            none=loss, sum=loss.sum(), mean=loss.sum() / len(x))[reduction]

    found = with_grads(
        lambda x: sigmoid_focal_loss(x, target, gamma, alpha, None, reduction),
        logits())
    for actual, expected in zip(found, with_grads(formula, logits())):
        torch.testing.assert_close(actual, expected)


def test_sigmoid_focal_loss_with_weights_of_classes(ours):
    from mmcv.ops import sigmoid_focal_loss
    target = torch.tensor([0, 1, 2, 3, 3, 2, 0])
    weight = torch.tensor([1.0, 2.0, 0.5, 0.0], dtype=torch.double)
    found = with_grads(
        lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, weight, 'sum'),
        logits())
    expected = with_grads(
        lambda x: sigmoid_focal(x, target, 2.0, 0.25, weight).sum(), logits())
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match='weights for 4 classes'):
        sigmoid_focal_loss(logits(), target + 1, 2.0, 0.25, weight, 'sum')


def test_sigmoid_focal_loss_of_extreme_logits_and_of_nothing(ours):
    from mmcv.ops import sigmoid_focal_loss
    x = torch.tensor([[-200.0, 200.0, 0.0]])
    loss, grad = with_grads(
        lambda x: sigmoid_focal_loss(x, torch.tensor([0]), 2.0, 0.25, None,
                                     'none'), x)
    assert loss.isfinite().all() and grad.isfinite().all()
    empty = logits(0)
    target = torch.zeros(0, dtype=torch.long)
    loss, grad = with_grads(
        lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, None, 'sum'), empty)
    assert loss == 0 and grad.shape == (0, 4)


@pytest.mark.parametrize('gamma', [2.0, 1.0])
def test_softmax_focal_loss(ours, gamma):
    from mmcv.ops import softmax_focal_loss

    target = torch.tensor([0, 1, 2, 3, -1, 1, 0])
    weight = None

    def formula(x):
        log_p = x.log_softmax(1).gather(1, target.clamp(min=0)[:, None])[:, 0]
        loss = -0.25 * (1 - log_p.exp())**gamma * log_p
        return torch.where(target < 0, 0, loss).sum()

    found = with_grads(
        lambda x: softmax_focal_loss(x, target, gamma, 0.25, weight, 'sum'),
        logits())
    for a, b in zip(found, with_grads(formula, logits())):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('num_images', [1, 2])
def test_deformable_attention_equals_mmcvs_function(ours, num_images):
    module = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    shapes = torch.tensor([[5, 7], [3, 4], [1, 2]])
    starts = torch.tensor([0, 35, 47])
    g = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(shape, generator=g, dtype=torch.double)

    value = random(num_images, 49, 2, 3)
    # some points outside of the map
    locations = random(num_images, 6, 2, 3, 4, 2) * 1.6 - 0.3
    weights = random(num_images, 6, 2, 3, 4)
    found = with_grads(
        lambda v, p, w: module.MultiScaleDeformableAttnFunction.apply(
            v, shapes, starts, p, w, 64), value, locations, weights)
    expected = with_grads(
        lambda v, p, w: module.multi_scale_deformable_attn_pytorch(
            v, shapes, p, w), value, locations, weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def roi_pool_by_loops(x, rois, size, scale):
    """The largest cell of each bin, one after the other."""
    height, width = x.shape[2:]
    output = x.new_zeros(len(rois), x.size(1), *size)
    for r, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        x1, y1 = x1 * scale, y1 * scale
        x2, y2 = (x2 + 1) * scale, (y2 + 1) * scale
        if x2 <= x1 or y2 <= y1:
            continue
        for p in range(size[0]):
            for q in range(size[1]):
                low, high = [
                    torch.tensor([
                        begin + (i + step) * (end - begin) / n
                        for i, n, begin, end in ((p, size[0], y1, y2),
                                                 (q, size[1], x1, x2))
                    ]) for step in (0, 1)
                ]
                top, left = low.floor().int().clamp(min=0).tolist()
                bottom, right = high.ceil().int().clamp(min=0).tolist()
                cells = x[int(image), :, top:bottom, left:right].flatten(1)
                if cells.numel():
                    output[r, :, p, q] = cells.max(1)[0]
    return output


def test_roi_pool(ours):
    from mmcv.ops import roi_pool
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 9, 11, generator=g, dtype=torch.double)
    # inside, all, outside, malformed, a single cell
    rois = torch.tensor([[0, 3, 5, 30, 29], [1, 0, 0, 44, 36],
                         [0, -20, -20, 10, 10], [1, 60, 60, 80, 80],
                         [0, 20, 20, 10, 10], [1, 8, 8, 11, 11]]).double()
    found = with_grads(lambda t: roi_pool(t, rois, (3, 2), 0.25), x)
    expected = with_grads(lambda t: roi_pool_by_loops(t, rois, (3, 2), 0.25),
                          x)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)
    assert roi_pool(x, rois[:0], (3, 2), 0.25).shape == (0, 3, 3, 2)
