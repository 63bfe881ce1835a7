import copy
import runpy
import sys

import numpy as np
import pytest
import torch
from integration.small_runs import ROOT, fgd, ida_det, write_config
from mmengine.config import Config
from PIL import Image

import mmcompress.compat  # noqa: F401
from mmcompress.datasets.rendered import ensure_mini_data
from mmcompress.visualization.features import (build_distilled, image_batch,
                                               tapped)
from mmcompress.visualization.masks import add_boxes, drawable, mask_panels

# each trains or draws whole detectors
pytestmark = [pytest.mark.slow, pytest.mark.gate]

MGD = dict(
    type='mmcompress.MGDLoss',
    student='neck',
    teacher='neck',
    student_channels=16,
    teacher_channels=16,
    num_levels=5)


def with_mgd(**kwargs):
    model = fgd()
    model['losses'] = dict(loss_mgd=dict(MGD, **kwargs))
    return model


def look(model, tmp_path, image=None):
    """Panels of a model's losses, and what they were made of."""
    cfg = Config.fromfile(write_config(tmp_path / 'config.py', model))
    torch.manual_seed(0)
    model = build_distilled(cfg)
    image = image or mini_image()
    batch = image_batch(cfg, model, image)
    title = add_boxes(cfg, model, batch, image, score_thr=0.3)
    torch.manual_seed(1)
    return model, batch, title, mask_panels(model, batch, drawable(model))


def mini_image(number=1):
    folder = ensure_mini_data(num_train=8, num_val=4)
    return str(folder / 'JPEGImages' / f'{number:06}.jpg')


def test_fgd_shows_what_its_loss_weighs(tmp_path):
    model, batch, title, panels = look(fgd(), tmp_path)
    loss = model.distill.loss_fgd
    sample, = batch['data_samples']
    boxes = sample.gt_instances.bboxes
    assert title == f'{len(boxes)} boxes, annotated' and len(boxes)
    # the mini images are 160 x 128, and the pipeline makes them 96 x 96
    assert boxes.max() > 60 and boxes[:, [0, 2]].max() <= 96
    seen = tapped(model, batch)
    with torch.no_grad():
        for level, row, student, teacher in zip(loss.levels,
                                                panels['loss_fgd'],
                                                seen['student']['loss_fgd'],
                                                seen['teacher']['loss_fgd']):
            foreground, background, spatial, channel = (
                panel.values for panel in row)
            assert channel.shape == (16, )
            assert ((foreground > 0) == (background == 0)).all()
            squares = ((student - teacher)[0].square() *
                       channel[:, None, None]).sum(0) * spatial
            terms = level(student, teacher, foreground[None], background[None])
            torch.testing.assert_close((squares * foreground).sum(),
                                       terms['foreground'])


@pytest.mark.parametrize('mask_type, shape', [('spatial', (12, 12)),
                                              ('channel', (16, ))])
def test_mgd_shows_the_losss_own_draw(mask_type, shape, tmp_path):
    model, _, _, panels = look(
        with_mgd(mask_type=mask_type, lambda_mgd=0.5), tmp_path)
    kept, generated, teacher = panels['loss_mgd'][0]
    assert kept.values.shape == shape
    assert set(kept.values.unique().tolist()) == {0, 1}
    assert generated.values.shape == teacher.values.shape == (12, 12)

    model.distill.loss_mgd.draw_mask = lambda feature, *_: torch.ones_like(
        feature[:, :1] if mask_type == 'spatial' else feature[..., :1, :1])
    cfg = Config.fromfile(tmp_path / 'config.py')
    batch = image_batch(cfg, model, mini_image())
    assert mask_panels(model, batch,
                       ['loss_mgd'])['loss_mgd'][0][0].values.all()


def test_ida_det_shows_what_its_loss_selects(tmp_path):
    model, batch, _, panels = look(ida_det(), tmp_path)
    seen = tapped(model, batch)
    result = model.distill.loss_ida(seen['student']['loss_ida'],
                                    seen['teacher']['loss_ida'],
                                    batch['data_samples'], model,
                                    model.distill.teacher.model)
    masks = [mask.values for _, mask in panels['loss_ida']]
    area = sum(m.mean() for m in masks) / len(masks)
    assert area > 0
    torch.testing.assert_close(area, result['mask_area'])
    for discrepancy, mask in panels['loss_ida']:
        # what is imitated was a candidate
        assert (discrepancy.values[mask.values > 0] > 0).all()


def test_the_teacher_finds_boxes_where_nobody_drew_them(tmp_path):
    path = tmp_path / 'image.png'
    noise = np.random.RandomState(0).randint(255, size=(60, 80, 3))
    Image.fromarray(noise.astype(np.uint8)).save(path)
    model = fgd()
    model['teacher'] = copy.deepcopy(model['teacher'])
    model['teacher']['cfg']['bbox_head'].update(
        init_cfg=dict(type='Normal', layer='Conv2d', std=0.5))
    _, batch, title, _ = look(model, tmp_path, str(path))
    boxes = batch['data_samples'][0].gt_instances.bboxes
    assert len(boxes) and title == f'{len(boxes)} boxes, predicted'


def test_losses_without_masks_are_refused(tmp_path):
    model = fgd()
    model['losses'] = dict(
        loss_pkd=dict(
            type='mmcompress.PKDLoss', student='neck', teacher='neck'))
    cfg = Config.fromfile(write_config(tmp_path / 'config.py', model))
    with pytest.raises(ValueError, match=r'loss_pkd \(PKDLoss\); .*MGDLoss'):
        drawable(build_distilled(cfg))
    cfg = Config.fromfile(write_config(tmp_path / 'config.py', fgd()))
    with pytest.raises(ValueError, match='masks of loss_x: .*loss_fgd'):
        drawable(build_distilled(cfg), 'loss_x')


def test_draws_every_image_and_loss(tmp_path, monkeypatch, capsys):
    model = fgd()
    one_level = dict(student='neck[0]', teacher='neck[0]', num_levels=1)
    model['losses']['loss_fgd'].update(one_level)
    model['losses']['loss_mgd'] = dict(MGD, **one_level)
    config = write_config(tmp_path / 'config.py', model)
    path = ROOT / 'tools' / 'visualization' / 'browse_masks.py'
    monkeypatch.setattr(sys, 'argv', [
        str(path),
        str(config),
        mini_image(), '--out-dir',
        str(tmp_path / 'out')
    ])
    runpy.run_path(str(path), run_name='__main__')
    assert capsys.readouterr().out.count('1 levels of loss_') == 2
    sizes = {p.name: Image.open(p).size for p in (tmp_path / 'out').iterdir()}
    assert sizes == {
        f'000001.loss_{name}.png': (360 * columns, 300)
        for name, columns in (('fgd', 5), ('mgd', 4))
    }
