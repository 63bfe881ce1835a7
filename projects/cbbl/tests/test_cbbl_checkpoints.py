import json
import statistics

import pytest
import torch
from cbbl import (TwoHotBBoxHead, TwoHotFCOSHead, TwoHotRetinaHead,
                  TwoHotRPNHead, UGSRoIHead)
from cbbl_models import CONFIGS, batch, build, read
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import load_state_dict


@pytest.fixture
def warned(monkeypatch):
    lines = []
    monkeypatch.setattr(
        MMLogger.get_current_instance(), 'handle',
        lambda r: r.levelname == 'WARNING' and lines.append(r.getMessage()))
    return lines


@pytest.mark.parametrize(
    'wide, plain, layers',
    [('cbbl_retinanet_mini_um', 'cbbl_retinanet_mini_l1',
      ['bbox_head.retina_reg']),
     ('cbbl_fcos_mini_um', 'cbbl_fcos_mini_giou', ['bbox_head.conv_reg']),
     ('cbbl_faster-rcnn_mini_um', 'cbbl_faster-rcnn_mini_l1',
      ['rpn_head.rpn_reg', 'roi_head.bbox_head.fc_reg'])])
def test_an_ordinary_detectors_box_layer_is_left_out_in_words(
        wide, plain, layers, warned):
    model, ordinary = build(wide), build(plain)
    load_state_dict(model, ordinary.state_dict(), logger='current')
    for layer in layers:
        text = f'Skipped {layer}.weight and {layer}.bias: '
        assert any(line.startswith(text) for line in warned)
    mine, theirs = model.state_dict(), ordinary.state_dict()
    different = {
        key.rpartition('.')[0]
        for key in mine
        if key not in theirs or not torch.equal(mine[key], theirs[key])
    }
    grids = {key.rpartition('.')[0] for key in mine if key.endswith('.grid')}
    assert different == {*layers, *grids}
    warned.clear()
    load_state_dict(model, model.state_dict(), logger='current')
    assert not warned


def test_a_checkpoint_rebuilds_its_head():
    model = build('cbbl_fcos_mini_um', **{'bbox_head.loss_bbox.beta': 0.3})
    cfg = Config(read('cbbl_fcos_mini_um').to_dict())
    cfg.model.bbox_head.loss_bbox.beta = 0.3
    stored = Config.fromstring(cfg.pretty_text, '.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        again = MODELS.build(stored.model)
    again.load_state_dict(model.state_dict())
    a, b = (
        m.eval().test_step(batch())[0].pred_instances for m in (model, again))
    assert torch.equal(a.bboxes, b.bboxes)
    with pytest.raises(ValueError, match='bbox_head.loss_bbox.grid'):
        build('cbbl_fcos_mini_um').load_state_dict(model.state_dict())


@pytest.mark.parametrize('name', [
    'cbbl_retinanet_r50_fpn_1x_coco', 'cbbl_faster-rcnn_r50_fpn_1x_coco',
    'cbbl_fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg_1x_coco',
    'cbbl_ugs_faster-rcnn_r50_fpn_1x_coco'
])
def test_full_size_configs_build(name):
    model = read(name).model.to_dict()
    # only heads differ from mmdet
    model['backbone'] = dict(
        type='ResNet', depth=50, base_channels=64, init_cfg=None)
    with torch.device('meta'), \
            DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config(dict(model=model)).model)
    if 'rcnn' in name:
        assert model.rpn_head.rpn_reg.out_channels == 3 * 4 * 11
        assert model.roi_head.bbox_head.fc_reg.out_features == 80 * 4 * 6
        assert isinstance(model.roi_head, UGSRoIHead) == ('ugs' in name)
    else:
        layer = 'conv_reg' if 'fcos' in name else 'retina_reg'
        num = 4 * 17 if 'fcos' in name else 9 * 4 * 11
        assert getattr(model.bbox_head, layer).out_channels == num


# errors

L1 = dict(type='mmdet.L1Loss')
GIOU = dict(type='mmdet.GIoULoss')
ANCHORS = dict(
    type='mmdet.AnchorGenerator', scales=[4], ratios=[1.0], strides=[8])
DELTAS = dict(type='mmdet.DeltaXYWHBBoxCoder')


@pytest.mark.parametrize('head, arguments', [
    (TwoHotRetinaHead, dict(num_classes=2, in_channels=8)),
    (TwoHotRPNHead,
     dict(in_channels=8, anchor_generator=ANCHORS, bbox_coder=DELTAS)),
    (TwoHotFCOSHead, dict(num_classes=2, in_channels=32)),
    (TwoHotBBoxHead, dict(num_classes=2, in_channels=8, fc_out_channels=8)),
])
@pytest.mark.parametrize('loss', [L1, GIOU])
def test_other_losses_are_refused(head, arguments, loss):
    with DefaultScope.overwrite_default_scope('mmdet'):
        head(**arguments)
        name = loss['type'].rpartition('.')[2]
        with pytest.raises(TypeError, match=f'TwoHotLocal.*{name}'):
            head(**arguments, loss_bbox=loss)
        if head is not TwoHotFCOSHead:
            with pytest.raises(ValueError, match='reg_decoded_bbox=True'):
                head(**arguments, reg_decoded_bbox=True)


def test_fcos_needs_distances_in_strides(warned):
    options = dict(num_classes=2, in_channels=32, strides=(8, 16, 32, 64, 128))
    two_sided = dict(type='mmcompress.TwoHotLocalizationLoss')
    short = dict(two_sided, one_sided=True, alpha=4.0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        with pytest.raises(ValueError, match='norm_on_bbox=False'):
            TwoHotFCOSHead(**options, norm_on_bbox=False)
        with pytest.raises(ValueError, match='one_sided=True'):
            TwoHotFCOSHead(**options, loss_bbox=two_sided)
        TwoHotFCOSHead(**options)
        assert not warned
        TwoHotFCOSHead(**options, loss_bbox=short)
    assert 'up to 8 strides' in warned[0] and 'alpha is 4' in warned[0]


def test_two_stage_perturbation_needs_a_two_hot_head():
    with pytest.raises(TypeError, match='UGSRoIHead needs.*TwoHotBBoxHead'):
        build('cbbl_faster-rcnn_mini_l1',
              **{'roi_head.type': 'mmcompress.UGSRoIHead'})


def test_a_region_head_needs_boxes():
    with pytest.raises(ValueError, match='with_reg'):
        build('cbbl_faster-rcnn_mini_um',
              **{'roi_head.bbox_head.with_reg': False})


def test_the_readme_has_what_was_measured():
    project = CONFIGS.parent
    records = json.loads((project / 'results' / 'mini.json').read_text())
    lines = (project / 'README.md').read_text().splitlines()
    assert {r['epochs'] for r in records} == {2}
    for config in {r['config'] for r in records}:
        runs = [r for r in records if r['config'] == config]
        columns = zip(
            *([r[key] for key in ('AP', 'AP50', 'AP75', 'APs', 'APm')]
              for r in runs))
        cells = ' | '.join(
            f'{statistics.mean(column):.1f} ± {statistics.stdev(column):.1f}'
            for column in columns)
        assert any(f'| {cells} |' in line for line in lines), (config, cells)
