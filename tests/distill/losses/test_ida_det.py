import math

import pytest
import torch
from golden import assert_golden, golden
from mmengine.config import ConfigDict

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import IDaDetLoss
from mmcompress.distill.losses.ida_det import (confident_boxes, entropy_loss,
                                               paint, project,
                                               region_discrepancy, select)

SIZES = [(12, 18), (6, 9)]
METAS = [
    dict(img_shape=(90, 140), batch_input_shape=(96, 144)),
    dict(img_shape=(96, 128), batch_input_shape=(96, 144))
]
# far from each other, and from the middle between two cells
BOXES = torch.tensor([[8.6, 9, 49, 41, 0.99], [65, 9, 121, 41, 0.98],
                      [9, 57, 41, 89, 0.97], [73, 49, 129, 89, 0.96]])
NONE = torch.zeros(0, 5)


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def features(num_images=2, sizes=SIZES, seed=0, channels=3):
    return [
        randn(num_images, channels, *size, seed=10 * seed + i)
        for i, size in enumerate(sizes)
    ]


def loss_of(**kwargs):
    torch.manual_seed(0)
    return IDaDetLoss(**dict(dict(channels=3, num_levels=2), **kwargs))


def scene():
    """Arguments of ``loss_from_proposals`` for two images."""
    student, teacher = features(seed=1), features(seed=2)
    proposals_s = [BOXES[2:], BOXES[:2]]
    proposals_t = [BOXES[:2], BOXES[2:]]
    return student, teacher, proposals_s, proposals_t, METAS


def masks_of(loss, student, teacher, proposals_s, proposals_t, metas):
    boxes = loss.boxes(proposals_s, proposals_t)
    return loss.masks(student, teacher, boxes, metas)[0]


@golden('ida_det')
def test_matches_the_official_numbers(case):
    if case.kind == 'packed_block':
        pytest.skip('there is no packed inference')
    assert_golden(case)


# ---- Boxes ------------------------------------------------------------------


def test_only_higher_scores_are_confident():
    boxes = torch.tensor([[0, 0, 9, 9, 0.85], [20, 20, 30, 30, 0.86]],
                         dtype=torch.double)
    assert torch.equal(confident_boxes(boxes, 0.85, 0.1), boxes[1:])


def test_overlapping_boxes_are_dropped_and_the_best_comes_first():
    boxes = torch.tensor([[0, 0, 10, 10, 0.9], [0, 0, 10, 9, 0.95],
                          [30, 0, 40, 10, 0.99]])
    assert torch.equal(confident_boxes(boxes, 0.85, 0.1), boxes[[2, 1]])


def test_no_confident_box_is_no_error():
    assert confident_boxes(NONE, 0.85, 0.1).shape == (0, 5)
    assert confident_boxes(BOXES, 0.999, 0.1).shape == (0, 5)


def test_the_networks_boxes_are_not_suppressed_jointly():
    loss = loss_of()
    boxes, = loss.boxes([BOXES], [BOXES])
    assert torch.equal(boxes, torch.cat((BOXES, BOXES)))


def test_projection_of_the_padded_image_is_the_whole_map():
    box = torch.tensor([[0.0, 0, 144, 96]])
    assert project(box, (12, 18), (96, 144)).tolist() == [[0, 12, 0, 18]]


def test_projection_rounds_half_to_even_and_stays_inside():
    box = torch.tensor([[4.0, 12, 200, 300]])
    assert project(box, (12, 18), (96, 144)).tolist() == [[2, 12, 0, 18]]


# ---- Discrepancy and selection ----------------------------------------------


def test_discrepancy_follows_the_definition():
    student, teacher = randn(3, 5, 6, seed=1), randn(3, 5, 6, seed=2)
    actual = region_discrepancy(student, teacher, torch.tensor([[1, 4, 2, 6]]))
    spreads = []
    for feature in (student, teacher):
        p = feature[:, 1:4, 2:6].flatten(1).softmax(-1)
        spreads.append(1 / (144 * p.var(-1) + 1e-6))
    expected = (spreads[0] - spreads[1]).abs().sum() / 12
    torch.testing.assert_close(actual, expected.reshape(1))


@pytest.mark.parametrize('variant, expected', [('fixed', -1), ('official', 0)])
def test_narrow_crops_have_no_discrepancy(variant, expected):
    regions = torch.tensor([[2, 3, 0, 5], [0, 5, 1, 2], [3, 3, 3, 3]])
    values = region_discrepancy(
        randn(3, 6, 6), randn(3, 6, 6, seed=1), regions, variant)
    assert values.tolist() == [expected] * 3


def test_constant_channels_have_a_finite_discrepancy():
    regions = torch.tensor([[0, 4, 0, 4]])
    zeros = torch.zeros(2, 4, 4)
    assert region_discrepancy(zeros, zeros, regions).item() == 0
    assert region_discrepancy(zeros, randn(2, 4, 4), regions).isfinite().all()


def test_discrepancy_is_computed_in_single_precision():
    student, teacher = 50 * randn(3, 16, 16), 50 * randn(3, 16, 16, seed=1)
    regions = torch.tensor([[0, 16, 0, 16]])
    half = region_discrepancy(student.half(), teacher.half(), regions)
    assert half.dtype == torch.float32
    torch.testing.assert_close(
        half,
        region_discrepancy(student.half().float(),
                           teacher.half().float(), regions))


@pytest.mark.parametrize('values, gamma, expected', [
    ([3, 1, 2, 5, 4], 0.6, [3, 4, 0]),
    ([3, -1, -1, 5, -1], 0.6, [3]),
    ([3, -1, 2, 5], 1.0, [3, 0, 2]),
    ([1, 1, 1, 1, 1], 0.4, [0, 1]),
    ([7], 0.1, [0]),
    ([-1, -1], 0.6, []),
    ([], 0.6, []),
])
def test_selects_the_largest_valid_ones(values, gamma, expected):
    values = torch.tensor(values, dtype=torch.float32)
    assert select(values, gamma).tolist() == expected


def test_official_selects_what_has_no_value_and_nan_first():
    values = torch.tensor([0.0, 3, math.nan, 1])
    assert set(select(values, 0.5, 'official').tolist()) == {1, 2}
    assert len(select(torch.zeros(3), 0.6, 'official')) == 2
    assert len(select(torch.zeros(0), 0.6, 'official')) == 0


# ---- Mask -------------------------------------------------------------------


def test_mask_is_the_union_of_the_boxes():
    regions = torch.tensor([[0, 2, 0, 3], [1, 4, 2, 5]])
    expected = torch.zeros(5, 6, dtype=torch.bool)
    expected[:2, :3] = expected[1:4, 2:5] = True
    assert torch.equal(paint(regions, (5, 6)), expected)


def test_official_mask_has_full_rows():
    mask = paint(torch.tensor([[0, 1, 2, 4]]), (5, 6), 'official')
    assert mask.tolist() == [[row in (0, 2, 3)] * 6 for row in range(5)]


def test_gamma_of_one_selects_every_valid_box():
    loss = loss_of(gamma=1.0)
    masks = masks_of(loss, *scene())
    for mask in masks:
        for painted in mask:
            regions = project(BOXES, painted.shape, (96, 144))
            assert torch.equal(painted, paint(regions, painted.shape))


def test_mask_does_not_depend_on_whose_proposal_it_is():
    student, teacher, proposals_s, proposals_t, metas = scene()
    loss = loss_of()
    for a, b in zip(
            masks_of(loss, student, teacher, proposals_s, proposals_t, metas),
            masks_of(loss, student, teacher, proposals_t, proposals_s, metas)):
        assert torch.equal(a, b)


def mirrored(arguments):
    student, teacher, *proposals, metas = arguments
    width = metas[0]['batch_input_shape'][1]
    proposals = [[
        torch.cat((width - p[:, [2]], p[:, [1]], width - p[:, [0]], p[:, 3:]),
                  1) for p in side
    ] for side in proposals]
    return ([f.flip(-1) for f in student], [f.flip(-1) for f in teacher],
            *proposals, metas)


def transposed(arguments):
    student, teacher, *proposals, metas = arguments
    proposals = [[p[:, [1, 0, 3, 2, 4]] for p in side] for side in proposals]
    metas = [{key: size[::-1] for key, size in meta.items()} for meta in metas]
    return ([f.mT for f in student], [f.mT
                                      for f in teacher], *proposals, metas)


@pytest.mark.parametrize('change, back', [
    (mirrored, lambda mask: mask.flip(-1)),
    (transposed, lambda mask: mask.mT),
])
def test_mask_moves_with_the_image(change, back):
    loss = loss_of()
    masks = masks_of(loss, *scene())
    changed = masks_of(loss, *change(scene()))
    for a, b in zip(masks, changed):
        assert a.any() and not a.all()
        assert torch.equal(a, back(b))


# ---- Loss -------------------------------------------------------------------


@pytest.mark.parametrize('variant', ['fixed', 'official'])
def test_entropy_loss_has_the_right_gradient(variant):
    mask = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0)) > .5
    sigma = torch.full((1, 1, 1, 1), 1.5, dtype=torch.double)
    assert torch.autograd.gradcheck(
        lambda s, t, sigma: entropy_loss(s, t, mask, sigma, 0.1, variant),
        (randn(2, 3, 4, 5).double().requires_grad_(), randn(
            2, 3, 4, 5, seed=1).double(), sigma.requires_grad_()))


def test_is_zero_when_the_student_equals_the_teacher_and_sigma_is_one():
    feature = randn(2, 3, 4, 5)
    mask = torch.ones(2, 4, 5)
    assert entropy_loss(feature, feature, mask, torch.ones(1)).item() == 0


def test_gradient_of_sigma_vanishes_at_its_stationary_point():
    student, teacher = randn(2, 3, 4, 5), randn(2, 3, 4, 5, seed=1)
    mask = torch.zeros(2, 4, 5)
    mask[:, 1:3] = 1
    squares = (student - teacher)[:, :, 1:3].square().mean()
    sigma = (1000 * squares).sqrt().requires_grad_()
    entropy_loss(student, teacher, mask, sigma).backward()
    assert abs(sigma.grad.item()) < 1e-8


def test_gradient_reaches_one_cell_beyond_the_boxes_and_no_further():
    student, teacher, *rest = scene()
    loss = loss_of()
    for parameter in loss.adapters.parameters():
        parameter.data.normal_()
    masks = masks_of(loss, student, teacher, *rest)
    student = [s.requires_grad_() for s in student]
    loss.loss_from_proposals(student, teacher, *rest)['loss'].backward()
    for s, mask in zip(student, masks):
        reach = torch.nn.functional.max_pool2d(mask.float(), 3, 1, 1) > 0
        touched = s.grad.abs().sum(1) > 0
        assert touched[mask].all()
        assert not touched[~reach].any()
        assert not reach.all()


def test_more_elements_do_not_change_the_masked_mean():
    student, teacher = randn(1, 3, 4, 4), randn(1, 3, 4, 4, seed=1)
    mask = torch.ones(1, 4, 4)
    sigma = torch.tensor(2.0)
    pad = torch.nn.functional.pad
    torch.testing.assert_close(
        entropy_loss(
            pad(student, (0, 8)), pad(teacher, (0, 8), value=1),
            pad(mask, (0, 8)), sigma),
        entropy_loss(student, teacher, mask, sigma))


@pytest.mark.parametrize('proposals', [
    NONE,
    BOXES * torch.tensor([1, 1, 1, 1, 0.5]),
    torch.tensor([[1.0, 1, 3, 3, 0.9]])
], ids=['none', 'not confident', 'below two cells'])  # yapf: disable
def test_without_a_candidate_the_loss_is_zero_but_connected(proposals):
    loss = loss_of()
    student = [s.requires_grad_() for s in features(seed=1)]
    result = loss.loss_from_proposals(student, features(seed=2),
                                      [proposals] * 2, [NONE] * 2, METAS)
    result['loss'].backward()
    assert result['loss'].item() == 0
    assert result['num_boxes'].item() == result['mask_area'].item() == 0
    for tensor in (*student, *loss.parameters()):
        assert tensor.grad is not None and not tensor.grad.any()


def test_official_sigma_is_driven_by_empty_masks():
    loss = loss_of(variant='official')
    loss.loss_from_proposals(
        features(seed=1), features(seed=2), [NONE] * 2, [NONE] * 2,
        METAS)['loss'].backward()
    assert loss.sigma.grad.item() > 0.1


def test_one_box_in_one_of_two_images_is_imitated():
    result = loss_of().loss_from_proposals(
        features(seed=1), features(seed=2), [BOXES[:1], NONE], [NONE, NONE],
        METAS)
    assert result['loss'] > 0
    assert result['num_boxes'].item() == 0.5
    cells = [project(BOXES[:1], size, (96, 144))[0] for size in SIZES]
    areas = [(r2 - r1) * (c2 - c1) / (h * w)
             for (r1, r2, c1, c2), (h, w) in zip(cells, SIZES)]
    assert result['mask_area'].item() == pytest.approx(float(sum(areas)) / 4)


def test_a_batch_of_one_gives_that_images_masks():
    loss = loss_of()
    student, teacher, proposals_s, proposals_t, metas = scene()
    both = masks_of(loss, student, teacher, proposals_s, proposals_t, metas)
    alone = masks_of(loss, [s[1:] for s in student], [t[1:] for t in teacher],
                     proposals_s[1:], proposals_t[1:], metas[1:])
    for a, b in zip(alone, both):
        assert torch.equal(a, b[1:])


def test_training_on_the_loss_brings_the_features_closer():
    student, teacher, *rest = scene()
    student = [s.requires_grad_() for s in student]
    loss = loss_of(gamma=1.0)
    optimizer = torch.optim.Adam([*student, *loss.parameters()], lr=0.05)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss.loss_from_proposals(student, teacher, *rest)['loss']
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.2 * values[0]


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_is_computed_in_single_precision_under_autocast(dtype):
    student, teacher, *rest = scene()
    loss = loss_of()
    # squares of their differences overflow in half precision
    student, teacher = ([300 * f for f in side] for side in (student, teacher))
    expected = loss.loss_from_proposals(student, teacher, *rest)['loss']
    with torch.autocast('cpu', dtype):
        actual = loss.loss_from_proposals([s.to(dtype) for s in student],
                                          [t.to(dtype) for t in teacher],
                                          *rest)['loss']
    assert actual.dtype == torch.float32
    assert loss.sigma.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=2e-2, atol=0)


def test_adapters_start_near_zero():
    loss = IDaDetLoss(channels=16, num_levels=3)
    for adapter in loss.adapters:
        assert 0 < adapter.weight.abs().max() < 2e-4
        assert adapter.bias.abs().max() <= 1 / 12
    assert sum(p.numel() for p in loss.parameters()) == 3 * 16 * 145 + 1


def test_has_the_official_number_of_parameters():
    with torch.device('meta'):
        loss = IDaDetLoss()
    assert sum(p.numel() for p in loss.parameters()) == 2_950_401


# ---- With mmdet's detectors -------------------------------------------------


def detector_cfg(neck, rpn, **backbone):
    return ConfigDict(
        type='FasterRCNN',
        _scope_='mmdet',
        data_preprocessor=dict(
            type='DetDataPreprocessor', pad_size_divisor=32),
        backbone=backbone,
        neck=dict(
            type=neck, in_channels=[4, 8, 16, 32], out_channels=8, num_outs=5),
        rpn_head=dict(
            type=rpn,
            in_channels=8,
            feat_channels=8,
            anchor_generator=dict(
                type='AnchorGenerator',
                scales=[4],
                ratios=[1.0],
                strides=[4, 8, 16, 32, 64])),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(
                    type='RoIAlign', output_size=3, sampling_ratio=1),
                out_channels=8,
                featmap_strides=[4, 8, 16, 32]),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=8,
                fc_out_channels=16,
                roi_feat_size=3,
                num_classes=3,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder'))),
        train_cfg=dict(
            rpn=dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=0.7,
                    neg_iou_thr=0.3,
                    min_pos_iou=0.3),
                sampler=dict(
                    type='RandomSampler',
                    num=16,
                    pos_fraction=0.5,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=False),
                allowed_border=-1,
                pos_weight=-1),
            rpn_proposal=dict(
                nms_pre=50,
                max_per_img=20,
                nms=dict(type='nms', iou_threshold=0.7),
                min_bbox_size=0),
            rcnn=dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=0.5,
                    neg_iou_thr=0.5,
                    min_pos_iou=0.5),
                sampler=dict(
                    type='RandomSampler',
                    num=16,
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True),
                pos_weight=-1)),
        test_cfg=dict(
            rpn=dict(
                nms_pre=50,
                max_per_img=20,
                nms=dict(type='nms', iou_threshold=0.7),
                min_bbox_size=0),
            rcnn=dict(
                score_thr=0.05,
                nms=dict(type='nms', iou_threshold=0.5),
                max_per_img=10)))


def distilled(**kwargs):
    """A 1-bit student with a real-valued teacher, and a batch."""
    from mmdet.testing import demo_mm_inputs

    from mmcompress.registry import MODELS
    torch.manual_seed(0)
    taps = dict(neck='neck', rpn='rpn_head')
    model = MODELS.build(
        dict(
            type='mmcompress.Distill',
            student=detector_cfg(
                'mmcompress.IDaDetFPN',
                'mmcompress.IDaDetRPNHead',
                type='mmcompress.BiResNet',
                depth=18,
                base_channels=4),
            teacher=dict(
                cfg=dict(
                    model=detector_cfg(
                        'FPN',
                        'RPNHead',
                        type='ResNet',
                        depth=18,
                        base_channels=4,
                        stem_channels=4)),
                checkpoint=None,
                allow_random=True),
            losses=dict(
                loss_ida=dict(
                    type='mmcompress.IDaDetLoss',
                    student=taps,
                    teacher=taps,
                    **dict(dict(channels=8, score_thr=0.1), **kwargs)))))
    model.init_weights()
    batch = demo_mm_inputs(2, [[3, 64, 96], [3, 96, 64]], num_classes=3)
    return model, model.data_preprocessor(batch, True)


@pytest.mark.parametrize('variant', ['fixed', 'official'])
def test_a_distilled_detector_takes_a_step(variant):
    model, batch = distilled(variant=variant)
    losses = model(**batch, mode='loss')
    assert losses['loss_ida'].isfinite() and losses['loss_ida'] > 0
    assert losses['ida.num_boxes'] > 0
    assert 0 < losses['ida.mask_area'] <= 1
    losses['loss_ida'].backward()
    for name in ('backbone.layer4.3.conv.weight',
                 'neck.fpn_convs.0.conv.scale',
                 'distill.loss_ida.adapters.0.weight',
                 'distill.loss_ida.sigma'):
        assert model.get_parameter(name).grad.any(), name
    assert model.roi_head.bbox_head.fc_cls.weight.grad is None
    assert model.rpn_head.rpn_cls.weight.grad is None


def test_proposals_are_those_that_the_student_trains_on():
    from mmcompress.distill.losses.ida_det import predict_proposals
    model, batch = distilled()
    levels = model.extract_feat(batch['inputs'])
    samples = batch['data_samples']
    cfg = model.train_cfg.rpn_proposal
    _, expected = model.rpn_head.loss_and_predict(
        levels, samples, proposal_cfg=cfg)
    actual = predict_proposals(model, model.rpn_head(levels),
                               [s.metainfo for s in samples], cfg)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a[:, :4], e.bboxes.detach())
        torch.testing.assert_close(a[:, 4], e.scores.detach())


# ---- Errors -----------------------------------------------------------------


def test_error_names_both_shapes_and_the_remedy():
    student = features(seed=1, channels=4)
    with pytest.raises(
            ValueError, match=r'\(2, 4, 12, 18\).*\(2, 3, 12.*out_channels'):
        loss_of().loss_from_proposals(student, features(seed=2), [NONE] * 2,
                                      [NONE] * 2, METAS)


@pytest.mark.parametrize('wrong', [dict(gamma=0), dict(variant='paper')])
def test_rejects_hyperparameters_by_name(wrong):
    with pytest.raises(ValueError, match=list(wrong)[0]):
        IDaDetLoss(**wrong)
