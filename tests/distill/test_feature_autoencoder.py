"""Stage 1 of IE-KD, and how stage 2 finds what it trained."""
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.model.config import build_untrained
from mmcompress.model.inputs import made_up_batch


def classifier(width=8):
    return dict(
        type='mmpretrain.ImageClassifier',
        _scope_='mmpretrain',
        data_preprocessor=dict(
            type='ClsDataPreprocessor', mean=[127.0] * 3, std=[60.0] * 3),
        backbone=dict(
            type='ResNet_CIFAR',
            depth=18,
            stem_channels=width,
            base_channels=width,
            num_stages=2,
            strides=(2, 2),
            dilations=(1, 1),
            out_indices=(0, 1)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=4, in_channels=2 * width))


def first_stage(**kwargs):
    teacher = dict(cfg=classifier(16), checkpoint=None, allow_random=True)
    teacher.update(kwargs.pop('teacher', {}))
    return {
        **dict(
            type='mmcompress.FeatureAutoencoder',
            teacher=teacher,
            tap='backbone.layer2',
            channels=32,
            factor_channels=6),
        **kwargs
    }


def second_stage(checkpoint=None, **kwargs):
    return dict(
        type='mmcompress.Distill',
        student=classifier(),
        teacher=dict(
            cfg=first_stage(**kwargs),
            checkpoint=checkpoint,
            allow_random=True),
        losses=dict(
            loss_ie=dict(
                type='mmcompress.IEKDLoss',
                student='backbone.layer2',
                teacher='autoencoder.encoder',
                student_channels=16,
                factor_channels=6)))


def build(cfg, seed=0):
    torch.manual_seed(seed)
    return MODELS.build(ConfigDict(cfg))


def batch_of(model):
    torch.manual_seed(0)
    return made_up_batch(model, 'mmpretrain', (16, 16), num=4)


@pytest.fixture(autouse=True)
def classification():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def test_only_the_autoencoder_learns():
    model = build(first_stage()).train()
    model.init_weights()
    assert not any(m.training for m in model.network.modules())
    trained = {k for k, p in model.named_parameters() if p.requires_grad}
    assert {name.split('.')[0] for name in trained} == {'autoencoder'}
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    batch = batch_of(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    losses = []
    for _ in range(5):
        loss, _ = model.parse_losses(model(**batch, mode='loss'))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    assert all(model.get_parameter(name).grad.any() for name in trained)
    for key, value in model.network.state_dict().items():
        assert value.equal(before[key]), key


def test_predicts_as_the_teacher():
    model = build(first_stage()).eval()
    batch = batch_of(model)
    with torch.no_grad():
        scores, expected = [
            torch.stack(
                [sample.pred_score for sample in m(**batch, mode='predict')])
            for m in (model, model.network)
        ]
    assert scores.equal(expected)


def test_its_checkpoint_is_the_teacher_of_the_second_stage(tmp_path):
    first = build(first_stage(), seed=3).train()
    batch = batch_of(first)
    first(**batch, mode='loss')
    path = str(tmp_path / 'first.pth')
    torch.save(dict(state_dict=first.state_dict()), path)
    model = build(second_stage(path))
    model.init_weights()
    teacher = model.distill.teacher.model
    for key, value in first.state_dict().items():
        assert value.equal(teacher.state_dict()[key]), key
    loss, logged = model.parse_losses(model.train()(**batch, mode='loss'))
    assert {'loss_ie.loss_inh', 'loss_ie.loss_exp'} < {*logged}
    loss.backward()
    # DDP wants a gradient of all of them
    assert all(p.grad is not None for p in model.parameters())
    assert not any(k.startswith('network') for k in model.state_dict())
    # and no statistics are changed
    for key, value in first.state_dict().items():
        assert value.equal(teacher.state_dict()[key]), key


def test_a_missing_first_stage_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))
    with pytest.raises(FileNotFoundError, match='train the teacher once'):
        build(second_stage('cache://first')).init_weights()
    model = build(first_stage(teacher=dict(checkpoint='cache://teacher')))
    with pytest.raises(FileNotFoundError, match='teacher.pth does not exist'):
        model.init_weights()


def test_random_weights_are_its_teachers_too(monkeypatch, tmp_path):
    """As where its complexity is counted, or as a random teacher."""
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))
    teacher = dict(checkpoint='cache://none')
    built = build_untrained(Config(dict(model=first_stage(teacher=teacher))))
    assert all(p.isfinite().all() for p in built.parameters())
    build(second_stage(teacher=teacher)).init_weights()


def test_the_teachers_checkpoint_must_fit(tmp_path):
    path = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=build(classifier(8)).state_dict()), path)
    model = build(first_stage(teacher=dict(checkpoint=path)))
    with pytest.raises(RuntimeError, match='does not fit ImageClassifier'):
        model.init_weights()
    with pytest.raises(ValueError, match='allow_random'):
        build(first_stage(teacher=dict(allow_random=False)))


def test_the_teacher_stops_after_its_features_unless_more_is_tapped():
    cfg = second_stage()
    cfg['losses']['loss_kd'] = dict(
        type='mmcompress.KDLoss', student='head.fc', teacher='network.head.fc')
    model = build(cfg).train()
    with pytest.raises(RuntimeError, match="'network.head.fc'.* not called"):
        model(**batch_of(model), mode='loss')
    cfg['teacher']['cfg'] = first_stage(teacher=dict(stop_early=False))
    model = build(cfg).train()
    assert 'loss_kd' in model(**batch_of(model), mode='loss')


def test_several_levels():
    cfg = first_stage(tap='backbone', channels=16, num_levels=2)
    model = build(cfg)
    batch = batch_of(model)
    with pytest.raises(ValueError, match=r'channels are \(2, 16\)'):
        model(**batch, mode='loss')
    with pytest.raises(ValueError, match=r'channels are \(2, 32\)'):
        build(first_stage(num_levels=2))(**batch, mode='loss')
    with pytest.raises(ValueError, match=r'\(4, 4\).*must be maps'):
        build(first_stage(tap='head.fc', channels=4))(**batch, mode='loss')
    with pytest.raises(KeyError, match='layer9'):
        build(first_stage(tap='backbone.layer9'))


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_autocast_gives_nearly_the_same_loss(dtype):
    model = build(first_stage()).train()
    batch = batch_of(model)
    (expected, ) = model(**batch, mode='loss')['loss_rec']
    with torch.autocast('cpu', dtype=dtype):
        (actual, ) = model(**batch, mode='loss')['loss_rec']
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=0)
