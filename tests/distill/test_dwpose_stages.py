"""Both stages of DWPose: whole steps, and what a training leaves."""
import copy

import pytest
import torch
from distill.pose_models import (at_epoch, batch, build, first_stage, rtmpose,
                                 second_stage, sharpen)
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope

from mmcompress.distill.converters import convert_dwpose

METHODS = dict(
    loss_fea=dict(
        methods=[dict(type='FeaLoss', name='loss_fea', use_this=True)]),
    loss_logit=dict(
        methods=[dict(type='KDLoss', name='loss_logit', use_this=True)]))


def official(folder, student, teacher, two_dis=False):
    """mmpose's own distiller; it reads its models from files."""
    paths = {}
    for side, cfg in (('student', student), ('teacher', teacher)):
        paths[f'{side}_cfg'] = str(folder / f'{side}.py')
        Config(dict(model=cfg)).dump(paths[f'{side}_cfg'])
    methods = copy.deepcopy(METHODS)
    methods['loss_fea']['methods'][0].update(
        student_channels=student['head']['in_channels'],
        teacher_channels=teacher['head']['in_channels'])
    methods['loss_logit']['methods'][0].update(weight=1 if two_dis else 0.1)
    if two_dis:
        del methods['loss_fea']
    with DefaultScope.overwrite_default_scope('mmpose'):
        model = MODELS.build(
            ConfigDict(
                type='DWPoseDistiller',
                two_dis=two_dis,
                distill_cfg=list(methods.values()),
                data_preprocessor=student['data_preprocessor'],
                **paths))
    model.train()
    # the official teacher's BN would drift
    model.teacher.eval()
    return model.double()


def own_weights(model):
    """What a plain model loads of a checkpoint."""
    return {
        key: value.clone()
        for key, value in model.state_dict().items()
        if not key.startswith('distill.')
    }


def take_steps(model, num=3):
    """Train in a middle epoch, on other images in each step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9)
    history = []
    for step in range(num):
        estimator = getattr(model, 'student', model)
        with at_epoch(2, 5):
            losses = model(**batch(estimator, seed=step), mode='loss')
        total, logged = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append({k: float(v.detach()) for k, v in logged.items()})
    return history


def approx(history):
    return [pytest.approx(row, rel=1e-7) for row in history]


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9)


def keypoints(model, data):
    """Predictions, with flip test."""
    model.eval()
    with torch.no_grad():
        samples = model(**copy.deepcopy(data), mode='predict')
    return torch.stack([
        torch.as_tensor(sample.pred_instances.keypoints) for sample in samples
    ])


@pytest.mark.parametrize('with_neck', [False, True])
def test_both_stages_train_what_the_official_ones_transfer(
        with_neck, tmp_path):
    student = rtmpose(0.0625, with_neck)
    teacher = rtmpose(0.125, with_neck)
    ours = build(
        first_stage(
            student, teacher,
            'neck[-1]' if with_neck else 'backbone[-1]')).double().train()
    sharpen(ours.distill.teacher.model.double().head, 1)
    sharpen(ours.head, 2)
    theirs = official(tmp_path, student, teacher)
    theirs.student.load_state_dict(own_weights(ours))
    theirs.teacher.load_state_dict(ours.distill.teacher.model.state_dict())
    theirs.distill_losses.loss_fea.load_state_dict(
        ours.distill.loss_fea.state_dict())
    assert take_steps(ours) == approx(take_steps(theirs))
    transferred = convert_dwpose(dict(state_dict=theirs.state_dict()))
    assert_same(own_weights(ours), transferred['state_dict'])

    # the second stage continues from the file that the first one leaves
    torch.save(dict(state_dict=ours.state_dict()), tmp_path / 'first.pth')
    new = build(second_stage(student, tmp_path / 'first.pth')).double().train()
    sharpen(new.head, 3)
    theirs = official(tmp_path, student, student, two_dis=True)
    theirs.teacher.load_state_dict(new.distill.teacher.model.state_dict())
    theirs.student.head.load_state_dict(new.head.state_dict())
    logged = take_steps(new)
    # the official second stage logs no accuracy
    assert all(0 <= row.pop('acc_pose') <= 1 for row in logged)
    assert logged == approx(take_steps(theirs))
    transferred = convert_dwpose(
        dict(state_dict=theirs.state_dict()), two_dis=True)['state_dict']
    assert_same(own_weights(new), transferred)

    plain = build(student).double()
    plain.load_state_dict(own_weights(new), strict=True)
    data = batch(plain)
    torch.testing.assert_close(keypoints(plain, data), keypoints(new, data))
    torch.testing.assert_close(keypoints(theirs, data), keypoints(new, data))


def with_gradient(model):
    return {k for k, p in model.named_parameters() if p.grad is not None}


def step_losses(model, data, epoch=0):
    with at_epoch(epoch, 5):
        return model(**data, mode='loss')


def test_the_first_stage_trains_all_of_the_student_and_the_adapter():
    model = build(first_stage(rtmpose(), rtmpose(0.125))).train()
    take_steps(model, 1)
    parameters = dict(model.named_parameters())
    assert with_gradient(model) == set(parameters)
    assert {k for k in parameters if k.startswith('distill')} == {
        'distill.loss_fea.align.weight', 'distill.loss_fea.align.bias'
    }  # yapf: disable


@pytest.mark.parametrize('with_neck', [False, True])
def test_the_second_stage_trains_the_head_only(with_neck):
    model = build(second_stage(rtmpose(with_neck=with_neck))).train()
    before = copy.deepcopy(model.state_dict())
    teacher = model.distill.teacher.model
    taught_before = copy.deepcopy(teacher.state_dict())
    history = take_steps(model)

    heads = {k for k, _ in model.named_parameters() if k.startswith('head.')}
    assert with_gradient(model) == heads
    # nor do the statistics of batches leave a trace
    for key, value in model.state_dict().items():
        if not key.startswith('head.'):
            assert torch.equal(value, before[key]), key
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, taught_before[key]), key
    assert not teacher.training and not model.backbone.training
    assert model.head.training
    # the labels have no say
    assert set(history[0]) == {'loss', 'loss_logit', 'acc_pose'}


def test_copies_keep_their_own_backbone_frozen():
    model = build(second_stage(rtmpose()))
    twin = copy.deepcopy(model).train()
    assert not twin.backbone.training and twin.head.training
    assert model.distill.student is model
    assert twin.distill.student is twin


@pytest.fixture
def checkpoint(tmp_path):
    """What a first stage leaves."""
    model = build(first_stage(rtmpose(), rtmpose(0.125)), seed=3).train()
    take_steps(model, 1)
    sharpen(model.head)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'first.pth')
    return tmp_path / 'first.pth'


def test_the_second_stage_starts_from_the_first_with_a_new_head(checkpoint):
    first = torch.load(checkpoint)['state_dict']
    student = rtmpose()
    # pretrained weights are neither needed nor looked for
    student['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint='/nowhere.pth')
    model = build(second_stage(student, checkpoint))
    for key, value in model.state_dict().items():
        if not key.startswith('head.'):
            assert torch.equal(value, first[key]), key
    weight = model.head.cls_x.weight
    assert weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert first['head.cls_x.weight'].std() > 0.1


def test_the_head_may_start_from_the_old_one(checkpoint):
    model = build(second_stage(rtmpose(), checkpoint, init_student=['head']))
    assert torch.equal(
        model.head.cls_x.weight,
        torch.load(checkpoint)['state_dict']['head.cls_x.weight'])
    losses = step_losses(model.train(), batch(model))
    assert losses['loss_logit'].item() == pytest.approx(0, abs=1e-6)


def test_the_second_stage_runs_the_backbone_once(monkeypatch):
    model = build(second_stage(rtmpose())).train()
    calls = []
    for name, net in (('student', model), ('teacher',
                                           model.distill.teacher.model)):
        net.backbone.stem.register_forward_hook(
            lambda *_, name=name: calls.append(name))
    losses = step_losses(model, batch(model))
    assert calls == ['student']
    # the frozen part keeps nothing for a backward pass
    graph = [losses['loss_logit'].grad_fn]
    leaves = set()
    while graph:
        node = graph.pop()
        leaves.add(getattr(node, 'variable', None))
        graph += [parent for parent, _ in node.next_functions if parent]
    assert leaves - {None} == set(model.head.parameters())


def test_heads_that_change_their_input_see_the_same_features(monkeypatch):
    model = build(second_stage(rtmpose())).train()
    seen = []
    for head in (model.head, model.distill.teacher.model.head):

        def forward(features, forward=head.forward):
            seen.append(features[-1].clone())
            return forward((features[-1].mul_(2), ))

        monkeypatch.setattr(head, 'forward', forward)
    step_losses(model, batch(model))
    # the teacher's runs once more, as in training
    assert len(seen) == 3
    assert all(torch.equal(features, seen[0]) for features in seen)


@pytest.mark.parametrize('epoch, share', [(0, 1.0), (2, 0.6), (4, 0.2)])
def test_the_first_stage_fades_by_epochs(epoch, share):
    model = build(first_stage(rtmpose(), rtmpose(0.125))).eval()
    data = batch(model)
    whole, faded = step_losses(model, data), step_losses(model, data, epoch)
    torch.testing.assert_close(faded['loss_kpt'], whole['loss_kpt'])
    for name in ('loss_fea', 'loss_logit'):
        torch.testing.assert_close(faded[name], share * whole[name])


def test_the_second_stage_does_not_fade():
    model = build(second_stage(rtmpose())).train()
    data = batch(model)
    torch.testing.assert_close(
        step_losses(model, data)['loss_logit'],
        step_losses(model, data, 4)['loss_logit'])


def test_repeating_the_batch_doubles_the_labels_loss_only():
    model = build(first_stage(rtmpose(), rtmpose(0.125))).eval()
    data = batch(model)
    twice = dict(
        inputs=data['inputs'].repeat(2, 1, 1, 1),
        data_samples=data['data_samples'] * 2)
    once, twice = step_losses(model, data), step_losses(model, twice)
    torch.testing.assert_close(twice['loss_kpt'], 2 * once['loss_kpt'])
    for name in ('loss_fea', 'loss_logit'):
        torch.testing.assert_close(twice[name], once[name])


def test_keypoints_without_labels_teach():
    model = build(first_stage(rtmpose(), rtmpose(0.125))).train()
    sharpen(model.distill.teacher.model.head)
    data = batch(model)
    for sample in data['data_samples']:
        sample.gt_instance_labels.keypoint_weights.zero_()
    losses = step_losses(model, data)
    assert losses['loss_kpt'] == 0 and losses['loss_logit'] > 0
    model.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model.head.cls_x.weight.grad.any()


def test_a_batch_of_one_is_fine():
    model = build(first_stage(rtmpose(), rtmpose(0.125))).train()
    losses = step_losses(model, batch(model, num=1))
    assert model.parse_losses(losses)[0].isfinite()


@pytest.mark.parametrize(
    'cfg', [first_stage(rtmpose(), rtmpose(0.125)),
            second_stage(rtmpose())],
    ids=['first', 'second'])
def test_mixed_precision_equals_full_precision(cfg):
    model = build(cfg).eval()
    teacher = model.distill.teacher.model
    # mmpose's own initialisation gives features that float16 rounds to zero
    for module in teacher.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
    sharpen(teacher.head)
    data = batch(model)
    expected = step_losses(model, data)
    # mmpose's head turns its logits into numpy, which has no bfloat16
    with torch.autocast('cpu', dtype=torch.float16):
        mixed = step_losses(model, data)
    for name in cfg['losses']:
        torch.testing.assert_close(
            mixed[name], expected[name], rtol=1e-2, atol=1e-3)
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}


# ---- What is refused --------------------------------------------------------


def test_another_backbone_cannot_give_the_features():
    cfg = second_stage(rtmpose())
    cfg['teacher']['cfg'] = rtmpose(0.125)
    with pytest.raises(ValueError, match='backbone must be the one of'):
        build(cfg)


def test_another_preprocessing_is_refused():
    cfg = second_stage(rtmpose())
    cfg['teacher']['cfg'] = rtmpose()
    cfg['teacher']['cfg']['data_preprocessor']['mean'] = [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match='data_preprocessors'):
        build(cfg)


def test_a_head_alone_needs_a_teacher():
    cfg = second_stage(rtmpose())
    del cfg['teacher'], cfg['losses']['loss_logit']
    with pytest.raises(ValueError, match='no key `teacher`'):
        build(cfg)


def test_only_the_teachers_head_can_be_tapped():
    cfg = second_stage(rtmpose())
    cfg['losses']['loss_logit']['teacher'] = 'backbone'
    model = build(cfg).train()
    with pytest.raises(RuntimeError, match='backbone of the teacher was not'):
        step_losses(model, batch(model))


def test_a_teacher_that_is_not_finite_stops_the_run():
    model = build(second_stage(rtmpose())).train()
    model.distill.teacher.model.head.cls_x.weight.data.fill_(float('inf'))
    with pytest.raises(RuntimeError, match='loss_logit is not finite'):
        step_losses(model, batch(model))
