"""A step of DRD on each of mmdet's detectors with queries."""
import pytest
import torch
from distill.query_models import (DETECTORS, build, detector, distill, step,
                                  taps)

QUICK = ('detr', 'dino')
every_detector = pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in DETECTORS
])


@every_detector
def test_a_teacher_with_more_queries_and_classes(name):
    model = build(
        distill(detector(name), detector(name, 7, 4), taps(name), taps(name)))
    seen = {}
    loss = model.distill.loss_drd
    select = loss.select

    def selected(boxes, others, gt):
        keep, match = select(boxes, others, gt)
        seen.setdefault('queries', set()).add((len(boxes), len(others)))
        seen['kept'] = seen.get('kept', 0) + int(keep.sum())
        return keep, match

    loss.select = selected
    # so that some overlap, without training
    loss.tau = 0.0
    total, logged = model.parse_losses(step(model, (2, 0)))
    assert seen['queries'] == {(5, 7)}
    assert (logged['loss_drd'] > 0) == (seen['kept'] > 0)
    total.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key
    # another step, in which the teacher stops early, of images without boxes
    assert model.parse_losses(step(model, (0, 0)))[1]['loss_drd'] == 0


@every_detector
def test_a_copy_of_the_teacher_learns_nothing(name):
    """What both tap are the same queries, denoising left out."""
    cfg = detector(name)
    for part in (cfg.encoder, cfg.decoder):
        for sublayer in part.layer_cfg.values():
            for key in sublayer:
                if 'drop' in key:
                    sublayer[key] = 0.0
    model = build(distill(cfg, cfg, taps(name), taps(name)))
    model.distill.prepare()
    model.distill.teacher.model.load_state_dict(model.state_dict(), False)
    for module in model.modules():
        if isinstance(module, (torch.nn.Dropout, torch.nn.BatchNorm2d)):
            module.eval()
    model.distill.loss_drd.tau = 0.0
    losses = step(model)
    assert losses['loss_drd'] < 1e-4
    other = build(distill(cfg, cfg, taps(name), taps(name)))
    other.distill.loss_drd.tau = 0.0
    assert step(other)['loss_drd'] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize('name', [n for n in DETECTORS if n != 'detr'])
def test_features_before_the_projection(name):
    given = taps(name, '@input')
    model = build(distill(detector(name), detector(name, 7), given, given))
    model.distill.loss_drd.tau = 0.0
    assert step(model)['loss_drd'].isfinite()


def test_the_projection_of_plain_detr_has_no_tap():
    given = taps('detr') | dict(
        features='decoder.layers.1.cross_attn.attn.out_proj@input')
    model = build(distill(detector('detr'), detector('detr'), given, given))
    with pytest.raises(RuntimeError, match='out_proj of the .* was not call'):
        step(model)
