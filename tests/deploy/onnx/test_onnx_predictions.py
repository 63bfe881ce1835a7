"""Predictions of whole models, in PyTorch and on onnxruntime."""
from pathlib import Path

import predicting
import pytest
import torch
from test_onnx_models import STEP

from mmcompress.deploy.onnx import (FilePredictor, NoPostprocess, Session,
                                    WholeNetwork, compare, compare_predictions,
                                    export)
from mmcompress.deploy.onnx.deformable import without_deformable_operators
from mmcompress.deploy.onnx.postprocess import made_up

FLIP = list(range(17))
# the others of the table in docs/user_guide/onnx.md are slow
FAST = ('faster_rcnn', 'gfl', 'yolox', 'vitpose')
DETECTORS = ('retinanet', 'faster_rcnn', 'cascade_rcnn', 'rtmdet', 'fcos',
             'gfl', 'atss', 'yolox', 'detr', 'conditional_detr', 'dab_detr',
             'deformable_detr', 'dino')
LABELS = ('resnet', 'mobilenet_v2', 'deit', 'swin', 'pspnet', 'segformer',
          'upernet_swin')
POSES = ('rtmpose', 'vitpose', 'heatmap')
ALL = DETECTORS + LABELS + POSES
QUANTIZED = ('retinanet', 'faster_rcnn', 'rtmdet', 'detr', 'resnet', 'deit',
             'swin', 'pspnet', 'segformer', 'rtmpose')

# as the guide calls them
TITLES = dict(
    retinanet='RetinaNet',
    faster_rcnn='Faster R-CNN',
    cascade_rcnn='Cascade R-CNN',
    rtmdet='RTMDet',
    fcos='FCOS',
    gfl='GFL',
    atss='ATSS',
    yolox='YOLOX',
    detr='DETR',
    conditional_detr='Conditional DETR',
    dab_detr='DAB-DETR',
    deformable_detr='Deformable DETR',
    dino='DINO',
    resnet='ResNet',
    mobilenet_v2='MobileNetV2',
    deit='DeiT',
    swin='Swin',
    pspnet='PSPNet',
    segformer='SegFormer',
    upernet_swin='UPerNet',
    rtmpose='RTMPose',
    vitpose='ViTPose (UDP)',
    heatmap='heatmaps of MSRA')
GUIDE = Path(__file__).parents[3] / 'docs' / 'user_guide' / 'onnx.md'


def marked(names):
    """Those that take long are slow."""
    return [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in names
    ]


@pytest.mark.parametrize('name', marked(ALL))
@torch.no_grad()
def test_the_network_predicts_what_the_model_does(name):
    with predicting.scope(name):
        model = predicting.build(name)
        size = predicting.size_of(name, model)
        network = WholeNetwork(without_deformable_operators(model), size, FLIP)
        batches = made_up(network, model, 2)
        if network.pads:
            # what is beside the image is cut off
            smaller = [side - 5 for side in size]
            batches += made_up(network, model, 1, smaller)
        found = compare_predictions(
            FilePredictor(network, model, network), model, batches)
    assert found.expected == found.found == found.equal > 0
    assert (found.position or 0) < 1e-3 and (found.score or 0) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize('name', ALL)
@torch.no_grad()
def test_a_float_file_predicts_what_the_model_does(name):
    pytest.importorskip('onnxruntime')
    with predicting.scope(name):
        model = predicting.build(name)
        exported = export(
            model,
            predicting.size_of(name, model),
            postprocess=True,
            flip_indices=FLIP)
        network = exported.network
        predictor = FilePredictor(network, model, Session(exported.proto))
        found = compare_predictions(predictor, model,
                                    made_up(network, model, 2))
    assert found.expected > 0 and found.near > 0.99 * found.expected
    # untrained, in which rounding grows from layer to layer
    if name not in ('fcos', 'dab_detr', 'dino'):
        assert found.share > 0.99
        assert (found.position or 0) < 0.01 and (found.score or 0) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize('name', QUANTIZED)
@torch.no_grad()
def test_a_quantized_file_predicts_what_the_model_does(name):
    pytest.importorskip('onnxruntime')
    with predicting.scope(name):
        model = predicting.build(name, [STEP])
        exported = export(
            model,
            predicting.size_of(name, model),
            postprocess=True,
            flip_indices=FLIP)
        network = exported.network
        predictor = FilePredictor(network, model, Session(exported.proto))
        batches = made_up(network, model, 1)
        found = compare_predictions(predictor, model, batches)
        images = [model.data_preprocessor(batches[0], False)['inputs']]
        agreement = compare(exported, images)
    assert exported.found.integer
    assert found.expected > 0
    # nets without training, in which flips grow from layer to layer
    assert agreement.nearly > 0.95
    # DETR's five queries score alike, so a flip makes another class the first
    if name != 'detr':
        assert found.matched > 0.5 * found.expected


def test_the_guide_lists_what_is_tried():
    table = GUIDE.read_text('utf-8').partition('## Models')[2]
    rows = [[cell.strip() for cell in line.strip('| ').split('|')]
            for line in table.splitlines()
            if line.startswith('|') and '--' not in line]
    listed = {
        model: predictions.partition(',')[0]
        for _, models, _, predictions in (row for row in rows if len(row) == 4)
        for model in models.split(', ')
    }
    for name in ALL:
        expected = 'both' if name in QUANTIZED else 'float'
        assert listed[TITLES[name]] == expected, name
    assert listed['Mask R-CNN'] == 'no: `roi_head.mask_head`'


@pytest.mark.parametrize(
    'name, words', [('tood', r'bbox_head \(TOODHead\)'),
                    ('mask_rcnn', r'roi_head.mask_head \(FCNMaskHead\)')])
@torch.no_grad()
def test_what_is_not_known_is_refused_by_name(name, words):
    with predicting.scope(name):
        model = predicting.build(name)
        with pytest.raises(NoPostprocess, match=words):
            WholeNetwork(model, (128, 160))


@torch.no_grad()
def test_suppression_of_another_kind_is_refused():
    with predicting.scope('faster_rcnn'):
        model = predicting.build('faster_rcnn')
        model.roi_head.test_cfg.nms = dict(type='soft_nms', iou_threshold=0.5)
        with pytest.raises(
                NoPostprocess, match=r"roi_head .*type 'soft_nms' is none of"):
            WholeNetwork(model, (64, 64))


@torch.no_grad()
def test_flipping_needs_to_know_the_keypoints():
    with predicting.scope('rtmpose'):
        model = predicting.build('rtmpose')
        size = predicting.size_of('rtmpose', model)
        with pytest.raises(NoPostprocess, match='flip_test=False'):
            WholeNetwork(model, size)
