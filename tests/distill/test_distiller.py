import copy
import pickle
import re

import pytest
import torch
from distill.models import batch, build, distill, retinanet
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_state_dict

from mmcompress.distill import Distiller, DistillLoss
from mmcompress.registry import MODELS as OUR_MODELS


def losses_of(model, data):
    losses = model(**data, mode='loss')
    return model.parse_losses(losses)


def test_is_the_student_itself():
    plain, model = build(retinanet()), build(distill())
    assert type(model) is type(plain)
    assert isinstance(model.distill, Distiller)
    keys = [k for k in model.state_dict() if not k.startswith('distill.')]
    assert keys == list(plain.state_dict())
    own = set(model.state_dict()) - set(keys)
    assert own == {
        f'distill.loss_tiny.adapter.{k}'
        for k in ('weight', 'bias')
    }


def test_the_student_begins_as_it_would_without_a_teacher():
    plain, model = build(retinanet()), build(distill())
    for net in (plain, model):
        torch.manual_seed(1)
        net.init_weights()
    state = model.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key


def test_adds_its_losses_to_the_students():
    model, plain = build(distill()), build(retinanet())
    plain.load_state_dict({
        k: v
        for k, v in model.state_dict().items() if 'distill' not in k
    })
    model.train()
    plain.train()
    data = batch(model)
    with torch.no_grad():
        ours = model(**data, mode='loss')
        theirs = plain(**data, mode='loss')
    assert len(ours.pop('loss_tiny')) == 5
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, msg=key)


def test_prediction_needs_no_teacher():
    model = build(
        distill(teacher=dict(cfg='nowhere.py', checkpoint='nothing.pth')))
    model.eval()
    assert len(model(**batch(model), mode='predict')) == 2
    assert isinstance(model(**batch(model), mode='tensor'), tuple)


def test_the_teacher_is_outside_of_everything():
    model = build(distill(student=retinanet(channels=16)))
    model.init_weights()
    teacher = model.distill.teacher.model
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    inside = {id(m) for m in model.modules()}
    assert not inside & {id(m) for m in teacher.modules()}
    assert id(model) in inside and sum(m is model
                                       for m in model.modules()) == 1
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for seed in range(3):
        model.train()
        loss, _ = losses_of(model, batch(model))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not teacher.training
    assert all(not m.training for m in teacher.modules())
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_every_trainable_parameter_gets_a_gradient():
    model = build(distill())
    model.init_weights()
    losses_of(model.train(), batch(model))[0].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert not without


def test_the_teacher_follows_the_student_and_its_copies():
    model = build(distill())
    model.init_weights()
    twin = copy.deepcopy(model).double()
    data = batch(model)
    both = dict(data, inputs=data['inputs'].double())
    for net, given in ((twin, both), (model, data), (twin, both)):
        net(**given, mode='loss')
        weight = net.distill.teacher.model.backbone.conv1.weight
        assert weight.dtype == given['inputs'].dtype


def test_a_copy_is_bound_to_the_copied_student_and_shares_the_teacher():
    model = build(distill())
    model.init_weights()
    twin = copy.deepcopy(model)
    assert twin.distill.student is twin
    assert twin.loss.__self__ is twin.distill
    assert twin.distill.teacher is model.distill.teacher
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert model.backbone.conv1.weight.any()
    data = batch(model)
    assert losses_of(model, data)[0] != losses_of(twin, data)[0]


def test_a_pickle_leaves_the_teacher_out_and_builds_it_again(tmp_path):
    cfg = distill(teacher=dict(cfg=retinanet(), checkpoint=None,
                               allow_random=True))  # yapf: disable
    model = build(cfg)
    model.init_weights()
    teacher = tmp_path / 'teacher.pth'
    torch.save(model.distill.teacher.model.state_dict(), teacher)
    model.distill.teacher.checkpoint = str(teacher)
    text = pickle.dumps(model)
    # the student's weights once, and not the teacher's, which are as many
    assert len(text) < 2 * sum(v.nbytes for v in model.state_dict().values())
    twin = pickle.loads(text)
    assert twin.distill.student is twin
    assert twin.distill.teacher.model is None
    data = batch(model)
    model.eval(), twin.eval()
    from distill.models import detection_scope
    with torch.no_grad(), detection_scope():
        torch.testing.assert_close(
            losses_of(twin, data)[0],
            losses_of(model, data)[0])


@pytest.mark.parametrize('update_buffers', [False, True])
def test_ema_copies_leave_the_teacher_out(update_buffers):
    model = build(distill())
    model.init_weights()
    ema = ExponentialMovingAverage(
        model, momentum=0.5, update_buffers=update_buffers)
    assert ema.module.distill.teacher is model.distill.teacher
    with torch.no_grad():
        model.backbone.conv1.weight.add_(1)
    ema.update_parameters(model)
    assert not any('teacher' in key for key in ema.state_dict())


def test_self_distillation_needs_no_teacher():
    cfg = distill(
        losses=dict(
            loss_self=dict(type='mmcompress.TinySelfLoss', student='neck[0]')))
    cfg['teacher'] = None
    model = build(cfg)
    model.init_weights()
    assert model(**batch(model), mode='loss')['loss_self'] > 0


def test_schedule_scales_the_loss():
    spec = dict(type='mmcompress.TinyLoss', student='neck', teacher='neck')
    half = dict(type='mmcompress.PiecewiseLinear', points=[(0, 0.5), (1, 1)])
    model = build(
        distill(losses=dict(loss_a=spec, loss_b=dict(spec, schedule=half))))
    model.distill.loss_b.load_state_dict(model.distill.loss_a.state_dict())
    model.init_weights()
    losses = model(**batch(model), mode='loss')
    torch.testing.assert_close(
        torch.stack(losses['loss_b']), 0.5 * torch.stack(losses['loss_a']))


def test_logs_gradients_when_asked():
    model = build(distill())
    model.init_weights()
    model.distill.log_gradients = True
    losses = model(**batch(model), mode='loss')
    assert {'gradient.cls@tiny', 'gradient.bbox@tiny',
            'gradient.tiny@tiny'} <= set(losses)
    total, logged = model.parse_losses(losses)
    terms = [v for k, v in logged.items() if 'loss' in k and k != 'loss']
    torch.testing.assert_close(total, sum(terms))
    total.backward()


def test_several_levels_need_equal_numbers_of_levels():
    model = build(
        distill(
            losses=dict(
                loss_tiny=dict(
                    type='mmcompress.TinyLoss',
                    student='neck[0:2]',
                    teacher='neck'))))
    with pytest.raises(
            ValueError, match=r"loss_tiny.*'student': 2, 'teacher': 5"):
        model(**batch(model), mode='loss')


def test_nothing_is_kept_of_a_step():
    model = build(distill())
    data = batch(model)
    model(**data, mode='loss')
    assert not any('forward' in vars(m) for m in model.modules())
    kept = [
        v for obj in (model.distill, model.distill.teacher, model.distill.taps)
        for v in vars(obj).values() if isinstance(v, torch.Tensor)
    ]
    assert not kept


@OUR_MODELS.register_module()
class TinyStatisticsLoss(DistillLoss):
    """Returns a dict: a loss and a statistic."""

    def forward(self, student):
        return dict(loss=student.abs().mean(), size=student.detach().norm())


@pytest.mark.parametrize('tap, num', [('neck[0]', 1), ('neck', 5)])
def test_statistics_are_logged_and_not_added(tap, num):
    spec = dict(type='mmcompress.TinyStatisticsLoss', student=tap)
    cfg = distill(losses=dict(loss_my_loss=spec))
    cfg['teacher'] = None
    model = build(cfg)
    losses = model(**batch(model), mode='loss')
    value = losses['loss_my_loss']
    assert len(value if isinstance(value, list) else [value]) == num
    key, = [k for k in losses if k.endswith('.size')]
    assert 'loss' not in key
    total, logged = model.parse_losses(losses)
    terms = [v for k, v in logged.items() if 'loss' in k and k != 'loss']
    torch.testing.assert_close(total, sum(terms))


def test_a_step_does_not_inherit_over_loaded_weights():
    model = build(distill(init_student=['bbox_head']))
    loaded = build(retinanet(), seed=7)
    load_state_dict(model, loaded.state_dict())
    model(**batch(model), mode='loss')
    assert torch.equal(model.bbox_head.retina_cls.weight,
                       loaded.bbox_head.retina_cls.weight)


def test_runs_in_a_compiled_training_step():
    """Uncompiled: what is recorded changes from call to call."""
    model = build(distill())
    data = batch(model)
    expected = losses_of(model.eval(), data)[0]
    model.forward = torch.compile(model.forward, backend='eager')
    actual = losses_of(model, data)[0]
    torch.testing.assert_close(actual, expected)


def test_a_teacher_that_only_initialises_does_not_run(monkeypatch):
    cfg = distill(
        init_student=['neck'],
        losses=dict(
            loss_self=dict(type='mmcompress.TinySelfLoss', student='neck[0]')))
    model = build(cfg)
    model.init_weights()
    monkeypatch.setattr(model.distill.teacher.model, 'forward', None)
    model(**batch(model), mode='loss')


@pytest.mark.parametrize('stop_early', [True, False])
@pytest.mark.parametrize('tap', [
    'backbone.bn1', 'backbone.relu', 'backbone.relu@input',
    'backbone.layer3.0.bn1', 'backbone.layer4.1.bn2',
    ['backbone.bn1', 'backbone.layer1.0.bn2'], 'bbox_head.reg_convs.0.conv'
])  # yapf: disable
def test_a_twin_is_equal_at_every_tap_in_every_step(tmp_path, tap, stop_early):
    """Some outputs are overwritten by an activation; the teacher stops."""
    plain = build(retinanet())
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias)
    torch.save(plain.state_dict(), tmp_path / 'twin.pth')
    loss = dict(type='mmcompress.FeatureL2Loss', student=tap, teacher=tap)
    teacher = dict(
        cfg=retinanet(),
        checkpoint=str(tmp_path / 'twin.pth'),
        stop_early=stop_early)
    model = build(distill(teacher=teacher, losses=dict(loss_x=loss)))
    load_state_dict(model, plain.state_dict())
    data = batch(model.eval())
    for _ in range(3):
        loss = model(**data, mode='loss')['loss_x']
        assert not torch.stack(loss if isinstance(loss, list) else [loss]
                               ).any()  # yapf: disable


# ---- the teacher stops after the last tapped module ------------------------


def teacher_calls(model, path):
    calls = []
    module = model.distill.teacher.model.get_submodule(path)
    original = module.forward

    def counting(*args):
        calls.append(1)
        return original(*args)

    module.forward = counting
    return calls


def test_the_teacher_stops_after_the_last_tap():
    model = build(distill())
    model.init_weights()
    head = teacher_calls(model, 'bbox_head.retina_cls')
    data = batch(model)
    model(**data, mode='loss')
    assert len(head) == 5
    model(**data, mode='loss')
    assert len(head) == 5


def test_a_shared_head_is_not_cut_too_early():
    tap = 'bbox_head.retina_cls'
    model = build(
        distill(
            losses=dict(
                loss_tiny=dict(
                    type='mmcompress.TinyLoss',
                    channels=3,
                    student=tap,
                    teacher=tap))))
    data = batch(model)
    first = model(**data, mode='loss')['loss_tiny']
    second = model(**data, mode='loss')['loss_tiny']
    assert len(first) == len(second) == 5
    assert model.distill.teacher._num_calls == {tap: 5}


def test_other_numbers_of_calls_run_to_the_end_with_a_warning(caplog):
    model = build(distill())
    data = batch(model)
    model(**data, mode='loss')
    model.distill.teacher._num_calls = {'neck': 2}
    assert len(model(**data, mode='loss')['loss_tiny']) == 5
    assert model.distill.teacher._num_calls == {'neck': 1}


def test_the_teachers_loss_is_never_computed(monkeypatch):
    model = build(distill())
    model.init_weights()
    teacher = model.distill.teacher.model
    monkeypatch.setattr(teacher, 'loss', None)
    model(**batch(model), mode='loss')


# ---- errors ----------------------------------------------------------------


def test_keys_of_a_base_config_that_were_not_deleted():
    cfg = distill()
    cfg['backbone'] = dict(type='ResNet')
    with pytest.raises(TypeError, match='backbone.*_delete_=True'):
        build(cfg)


def test_a_misspelt_tap_names_the_nearest_path():
    spec = dict(type='mmcompress.TinyLoss', student='nek', teacher='neck')
    with pytest.raises(KeyError, match="no module 'nek'.*closest: neck"):
        build(distill(losses=dict(loss_tiny=spec)))


def test_a_misspelt_tap_of_the_teacher_fails_before_the_first_step():
    spec = dict(type='mmcompress.TinyLoss', student='neck', teacher='nec')
    model = build(distill(losses=dict(loss_tiny=spec)))
    with pytest.raises(KeyError, match="teacher.*no module 'nec'.*neck"):
        model.init_weights()


@pytest.mark.parametrize('losses, message', [
    (dict(tiny=dict(type='mmcompress.TinyLoss', student='neck',
                    teacher='neck')), 'call it loss_tiny'),
    (dict(loss_tiny=dict(type='mmcompress.TinyLoss', student='neck')),
     'TinyLoss needs a tap `teacher`'),
    (dict(loss_self=dict(type='mmcompress.TinySelfLoss', student='neck',
                         teacher='neck')), 'does not look at the teacher'),
])  # yapf: disable
def test_taps_must_be_what_the_loss_looks_at(losses, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(dict(distill(), losses=losses))


def test_a_name_that_the_students_losses_have():
    spec = dict(type='mmcompress.TinyLoss', student='neck', teacher='neck')
    model = build(distill(losses=dict(loss_cls=spec)))
    with pytest.raises(ValueError, match=r"have \['loss_cls'\]; rename"):
        model(**batch(model), mode='loss')


def test_a_tap_of_a_teacher_needs_a_teacher():
    cfg = distill()
    cfg['teacher'] = None
    with pytest.raises(ValueError, match='no key `teacher`'):
        build(cfg)


def test_a_foreign_checkpoint_is_refused():
    model = build(distill())
    with pytest.raises(RuntimeError, match='no key of the checkpoint.*x.y'):
        load_state_dict(model, {'x.y': torch.zeros(1)})


def test_a_plain_checkpoint_loads():
    model, plain = build(distill()), build(retinanet(), seed=1)
    load_state_dict(model, plain.state_dict())
    assert torch.equal(model.backbone.conv1.weight,
                       plain.backbone.conv1.weight)
    own = {
        k: v
        for k, v in model.state_dict().items() if not k.startswith('distill.')
    }
    plain.load_state_dict(own, strict=True)


@pytest.mark.parametrize('losses', [None, [dict(type='mmcompress.FGDLoss')]])
def test_losses_have_names(losses):
    with pytest.raises(TypeError, match='losses must be a dict of names'):
        build(dict(distill(), losses=losses))
