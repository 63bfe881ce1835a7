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
