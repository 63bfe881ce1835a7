import pytest
import torch
from cbbl import label_entropy, two_hot
from cbbl_models import batch, build, losses_of, read, step
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

PATHS = {
    'cbbl_retinanet_mini_um': {'bbox_clamped'},
    'cbbl_retinanet_mini_ugs': {'bbox_clamped', 'loss_bbox_ur'},
    'cbbl_fcos_mini_match': {'bbox_clamped'},
    'cbbl_faster-rcnn_mini_um': {'rpn_bbox_clamped', 'rcnn_bbox_clamped'},
    'cbbl_faster-rcnn_mini_ugs':
    {'loss_rpn_bbox_ur', 'loss_bbox_ur', 'rpn_bbox_clamped'},
}


@pytest.mark.parametrize('name', PATHS)
def test_trains_and_predicts(name):
    model = build(name)
    data = batch()
    logs = step(model, data)
    assert PATHS[name] <= set(logs)
    # what is logged beside the losses is not minimised
    losses = sum(v for k, v in logs.items() if 'loss' in k and k != 'loss')
    torch.testing.assert_close(logs['loss'], losses)
    loss = model.parse_losses(losses_of(model, data))[0]
    assert loss < logs['loss']
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    results = model.eval().test_step(data)
    boxes = results[0].pred_instances.bboxes
    assert boxes.shape[1:] == (4, ) and boxes.isfinite().all()


def test_fcos_perturbs_too():
    model = build('cbbl_fcos_mini_um', **{'bbox_head.ugs': dict(gamma=1.0)})
    losses = losses_of(model, batch())
    # UM grows, the loss of which it is a part need not
    ratio = losses['loss_bbox_ur'] / losses['loss_bbox']
    assert ratio != 1 and 0.9 < ratio < 1.1


@pytest.mark.parametrize('name', [n for n in PATHS if 'ugs' not in n])
def test_without_objects_the_box_loss_is_0_with_a_gradient(name):
    model = build(name)
    losses = losses_of(model, batch(boxes=()))
    model.parse_losses(losses)[0].backward()
    for key, value in losses.items():
        if 'bbox' in key:
            values = value if isinstance(value, list) else [value]
            assert all(v == 0 for v in values), key
    assert all(p.grad is not None and p.grad.isfinite().all()
               for p in model.parameters())


@pytest.mark.parametrize('name', [n for n in PATHS if 'ugs' in n])
def test_without_objects_the_perturbed_loss_is_0(name):
    losses = losses_of(build(name), batch(boxes=()))
    assert [losses[k] for k in losses
            if k.endswith('_ur')] == [0] * (2 if 'rcnn' in name else 1)


def test_a_cascade_refines_boxes():
    cfg = Config(read('cbbl_faster-rcnn_mini_um').to_dict())
    roi_head = cfg.model.roi_head
    stds = ([.1, .1, .2, .2], [.05, .05, .1, .1])
    heads = [
        dict(
            roi_head.bbox_head,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=s))
        for s in stds
    ]
    cfg.model.update(
        type='CascadeRCNN',
        roi_head=dict(
            roi_head,
            type='CascadeRoIHead',
            num_stages=2,
            stage_loss_weights=[1, 0.5],
            bbox_head=heads))
    cfg.model.train_cfg.rcnn = [cfg.model.train_cfg.rcnn] * 2
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    logs = step(model, batch())
    assert logs['s1.loss_bbox'] > 0 and 's1.rcnn_bbox_clamped' in logs
    model.eval().test_step(batch())


# heads see the numbers that heads of mmdet see


def logits_of(loss, coordinates):
    """Logits that mean these coordinates."""
    _, label = two_hot(coordinates, loss.grid)
    return label.clamp(min=1e-30).log()


def wide_map(loss, deltas):
    """Logits of a map of coordinates, shape (N, K, H, W)."""
    return logits_of(loss, deltas).movedim(-1, 2).flatten(1, 2)


def dense_pair(wide, plain):
    heads = build(wide).bbox_head, build(plain).bbox_head
    generator = torch.Generator().manual_seed(1)
    num = heads[0].num_base_priors
    maps = [(torch.randn(2, 10 * num, *size, generator=generator),
             torch.rand(2, 4 * num, *size, generator=generator))
            for size in ((8, 12), (4, 6), (2, 3))]
    return *heads, [m[0] for m in maps], [m[1] for m in maps]


@pytest.mark.parametrize('with_nms', [True, False])
def test_retina_boxes_are_those_of_the_decoded_deltas(with_nms):
    wide, plain, scores, deltas = dense_pair('cbbl_retinanet_mini_um',
                                             'cbbl_retinanet_mini_l1')
    metas = [dict(img_shape=(64, 96), scale_factor=(2., 2.))] * 2
    options = dict(batch_img_metas=metas, rescale=True, with_nms=with_nms)
    expected = plain.predict_by_feat(scores, deltas, **options)
    logits = [wide_map(wide.loss_bbox, d) for d in deltas]
    for a, b in zip(wide.predict_by_feat(scores, logits, **options), expected):
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=1e-4, atol=1e-3)
        assert torch.equal(a.scores, b.scores)


def test_fcos_boxes_are_those_of_the_decoded_distances():
    wide, plain, scores, distances = dense_pair('cbbl_fcos_mini_um',
                                                'cbbl_fcos_mini_giou')
    metas = [dict(img_shape=(64, 96))] * 2
    centerness = [s[:, :1] for s in scores]
    pixels = [d * s for d, s in zip(distances, plain.strides)]
    expected = plain.predict_by_feat(
        scores, pixels, centerness, batch_img_metas=metas)
    logits = [wide_map(wide.loss_bbox, d) for d in distances]
    actual = wide.predict_by_feat(
        scores, logits, centerness, batch_img_metas=metas)
    for a, b in zip(actual, expected):
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=1e-4, atol=1e-3)


def test_proposals_are_those_of_the_decoded_deltas():
    wide = build('cbbl_faster-rcnn_mini_um').rpn_head
    plain = build('cbbl_faster-rcnn_mini_l1').rpn_head
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    scores = [torch.randn(1, 2, *s) for s in sizes]
    deltas = [torch.rand(1, 8, *s) for s in sizes]
    metas = [dict(img_shape=(64, 96))]
    expected, = plain.predict_by_feat(scores, deltas, batch_img_metas=metas)
    logits = [wide_map(wide.loss_bbox, d).requires_grad_() for d in deltas]
    actual, = wide.predict_by_feat(scores, logits, batch_img_metas=metas)
    torch.testing.assert_close(
        actual.bboxes, expected.bboxes, rtol=1e-4, atol=1e-3)
    assert not actual.bboxes.requires_grad


def roi_pair(agnostic):
    heads = []
    for name in ('cbbl_faster-rcnn_mini_um', 'cbbl_faster-rcnn_mini_l1'):
        cfg = read(name).model.roi_head.bbox_head.to_dict()
        with DefaultScope.overwrite_default_scope('mmdet'):
            heads.append(MODELS.build(dict(cfg, reg_class_agnostic=agnostic)))
    return heads


@pytest.mark.parametrize('agnostic', [True, False])
def test_regions_are_those_of_the_decoded_deltas(agnostic):
    wide, plain = roi_pair(agnostic)
    deltas = torch.randn(7, 4 if agnostic else 40).clamp(-5, 5)
    logits = logits_of(wide.loss_bbox, deltas).flatten(1)
    assert logits.shape[1] == wide.fc_reg.out_features
    roi = torch.tensor([[0., 10, 10, 40, 50]]).repeat(7, 1)
    scores = torch.randn(7, 11)
    label = torch.arange(7)
    meta = dict(img_shape=(64, 96))
    cfg = read('cbbl_faster-rcnn_mini_l1').model.test_cfg.rcnn
    actual, expected = (head.predict_by_feat((roi, ), (scores, ), (x, ),
                                             [meta],
                                             rcnn_test_cfg=cfg)[0]
                        for head, x in ((wide, logits), (plain, deltas)))
    torch.testing.assert_close(
        actual.bboxes, expected.bboxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(
        wide.regress_by_class(roi[:, 1:], label, logits, meta),
        plain.regress_by_class(roi[:, 1:], label, deltas, meta),
        rtol=1e-4,
        atol=1e-3)


@pytest.mark.parametrize('agnostic', [True, False])
def test_the_labelled_class_of_a_region_is_trained(agnostic):
    wide, _ = roi_pair(agnostic)
    target = torch.randn(6, 4)
    labels = torch.tensor([3, 0, 9, 10, 10, 10])
    # others than the labelled one mean something else
    deltas = torch.full((6, 1 if agnostic else 10, 4), 4.0)
    for i in range(3):
        deltas[i, 0 if agnostic else labels[i]] = target[i]
    losses = wide.loss(
        torch.randn(6, 11),
        logits_of(wide.loss_bbox, deltas).flatten(1), None, labels,
        torch.ones(6), target, (labels < 10).float()[:, None].expand(6, 4))
    _, label = two_hot(target[:3], wide.loss_bbox.grid)
    expected = label_entropy(label).sum() * (1 + wide.loss_bbox.lambda_um) / 6
    torch.testing.assert_close(
        losses['loss_bbox'], expected, rtol=1e-5, atol=1e-6)


def instances(data):
    return ([s.gt_instances for s in data['data_samples']],
            [s.metainfo for s in data['data_samples']])


def test_retina_channels_are_anchor_coordinate_point():
    head, plain, scores, _ = dense_pair('cbbl_retinanet_mini_ce',
                                        'cbbl_retinanet_mini_l1')
    gt, metas = instances(batch())
    sizes = [s.shape[-2:] for s in scores]
    for meta in metas:
        meta['pad_shape'] = (64, 96)
    anchors, valid = plain.get_anchors(sizes, metas, device='cpu')
    _, _, targets, weights, avg_factor = plain.get_targets(
        anchors, valid, gt, metas)
    maps = [
        wide_map(head.loss_bbox,
                 t.view(2, *size, -1).permute(0, 3, 1, 2))
        for t, size in zip(targets, sizes)
    ]
    losses = head.loss_by_feat(scores, maps, gt, metas)
    assert losses['bbox_clamped'] == 0
    expected = sum(
        (label_entropy(two_hot(t, head.loss_bbox.grid)[1]) * w).sum()
        for t, w in zip(targets, weights)) / avg_factor
    assert expected > 0.1
    torch.testing.assert_close(sum(losses['loss_bbox']), expected)


def test_fcos_weighs_locations_by_centerness():
    head, plain, scores, _ = dense_pair('cbbl_fcos_mini_ce',
                                        'cbbl_fcos_mini_giou')
    gt, metas = instances(batch())
    sizes = [s.shape[-2:] for s in scores]
    points = plain.prior_generator.grid_priors(sizes, device='cpu')
    labels, distances = plain.get_targets(points, gt)
    maps = [
        wide_map(head.loss_bbox,
                 d.view(2, *size, 4).permute(0, 3, 1, 2))
        for d, size in zip(distances, sizes)
    ]
    centerness = [s[:, :1] for s in scores]
    losses = head.loss_by_feat(scores, maps, centerness, gt, metas)
    d = torch.cat(distances)[torch.cat(labels) < 10]
    weight = plain.centerness_target(d)
    entropies = label_entropy(two_hot(d, head.loss_bbox.grid)[1]).sum(-1)
    assert len(d) and weight.std() > 0
    torch.testing.assert_close(losses['loss_bbox'],
                               (entropies * weight).sum() / weight.sum())
    theirs = plain.loss_by_feat(scores,
                                [torch.cat([s[:, :4]]) for s in scores],
                                centerness, gt, metas)
    for key in ('loss_cls', 'loss_centerness'):
        torch.testing.assert_close(losses[key], theirs[key])


def test_the_second_pass_sees_levels_moved_by_rho():
    model = build('cbbl_retinanet_mini_ugs', **{'bbox_head.ugs.rho': 0.25})
    seen = []
    model.bbox_head.register_forward_pre_hook(
        lambda _, args: seen.append(args[0]))
    losses = losses_of(model, batch())
    first, second = seen
    # no object is assigned to the last level
    lengths = [(a - b).norm().item() for a, b in zip(first, second)]
    assert lengths == pytest.approx([0.25, 0.25, 0], rel=1e-3)
    ratio = losses['loss_bbox_ur'] / sum(losses['loss_bbox']) / 0.1
    assert ratio != 1 and 0.9 < ratio < 1.1


@pytest.mark.parametrize('boxes', [(), ((10, 12, 34, 44), )])
def test_the_second_stage_has_two_passes_also_without_objects(boxes):
    """Norms of several processes wait for each other in each of them."""
    model = build('cbbl_faster-rcnn_mini_ugs')
    passes = []
    model.roi_head.bbox_head.register_forward_pre_hook(
        lambda *_: passes.append(1))
    losses_of(model, batch(boxes))
    assert len(passes) == 2


def test_gamma_0_is_the_base_loss():
    plain = losses_of(build('cbbl_retinanet_mini_um'), batch())
    zero = losses_of(
        build('cbbl_retinanet_mini_ugs', **{'bbox_head.ugs.gamma': 0.0}),
        batch())
    assert plain.keys() == zero.keys()
    torch.testing.assert_close([plain[k] for k in plain],
                               [zero[k] for k in zero],
                               rtol=0,
                               atol=0)


def test_a_frozen_neck_can_be_perturbed():
    model = build('cbbl_retinanet_mini_ugs')
    for module in (model.backbone, model.neck):
        module.requires_grad_(False)
    logs = step(model, batch())
    assert logs['loss_bbox_ur'] > 0


def test_mixed_precision_gives_the_same_loss():
    model = build('cbbl_retinanet_mini_ugs').eval()
    data = batch()
    exact = losses_of(model, data)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = losses_of(model, data)
    for a, b in zip(exact['loss_bbox'], mixed['loss_bbox']):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=2e-2, atol=1e-3)
    model.parse_losses(mixed)[0].backward()
    assert model.bbox_head.retina_reg.weight.grad.isfinite().all()
