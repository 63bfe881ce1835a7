from copy import deepcopy

import pytest
import torch
from distill.test_feature_autoencoder import batch_of, build, classifier
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses import KDLoss
from mmcompress.distill.mutual_distiller import opposite


def mutual(peer=None, **losses):
    return dict(
        type='mmcompress.MutualDistill',
        student=classifier(),
        peer=peer or classifier(16),
        losses=losses or dict(
            loss_kd=dict(
                type='mmcompress.KDLoss', student='head.fc',
                teacher='head.fc'),
            loss_ie=dict(
                type='mmcompress.IEKDLoss',
                student='backbone.layer2',
                teacher='backbone.layer2',
                student_channels=16,
                teacher_channels=32,
                factor_channels=6)))


@pytest.fixture(autouse=True)
def classification():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def test_both_learn_and_every_parameter_gets_a_gradient():
    model = build(mutual()).train()
    model.init_weights()
    loss, logged = model.parse_losses(model(**batch_of(model), mode='loss'))
    assert logged.keys() == {
        'loss', 'peer_loss', 'loss_kd', 'loss_kd_peer',
        *(f'loss_ie{who}.loss_{part}' for who in ('', '_peer')
          for part in ('inh', 'exp', 'rec'))
    }
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert 'distill.peer.head.fc.weight' in model.state_dict()


def test_a_loss_works_in_both_directions_and_trains_one_side():
    model = build(mutual()).train()
    batch = batch_of(model)
    losses = model(**batch, mode='loss')
    scores = model.head.fc, model.distill.peer.head.fc
    logits = [
        fc(m.extract_feat(batch['inputs'])[-1])
        for m, fc in zip((model, model.distill.peer), scores)
    ]
    kd = KDLoss()
    torch.testing.assert_close(losses['loss_kd'], kd(*logits))
    torch.testing.assert_close(losses['loss_kd_peer'], kd(*logits[::-1]))
    for name, trained, other in (('loss_kd', *scores), ('loss_kd_peer',
                                                        *scores[::-1])):
        gradients = torch.autograd.grad(
            losses[name], [trained.weight, other.weight],
            retain_graph=True,
            allow_unused=True)
        assert gradients[0].any() and gradients[1] is None


def test_a_student_that_changes_its_input_leaves_the_peers(monkeypatch):
    model = build(mutual()).train()
    seen = []
    for backbone in (model.backbone, model.distill.peer.backbone):

        def forward(x, forward=backbone.forward):
            seen.append(x.clone())
            return forward(x.mul_(2))

        monkeypatch.setattr(backbone, 'forward', forward)
    model(**batch_of(model), mode='loss')
    assert torch.equal(*seen)


def test_equal_models_start_with_different_weights():
    model = build(
        mutual(peer=classifier(), loss_kd=mutual()['losses']['loss_kd']))
    model.init_weights()
    peer = model.distill.peer.state_dict()
    assert not model.state_dict()['head.fc.weight'].equal(
        peer['head.fc.weight'])


def test_what_comes_in_pairs_changes_places():
    cfg = dict(
        type='x',
        student='a',
        teacher='b',
        student_dims=1,
        teacher_dims=2,
        teacher_detach=True)
    assert opposite(cfg) == dict(
        type='x',
        student='b',
        teacher='a',
        student_dims=2,
        teacher_dims=1,
        teacher_detach=True)
    assert opposite(opposite(cfg)) == cfg


def test_the_student_alone_loads_the_checkpoint():
    model = build(mutual())
    alone = build(classifier(), seed=1)
    keys = alone.load_state_dict(model.state_dict(), strict=False)
    assert not keys.missing_keys
    assert all(k.startswith('distill.') for k in keys.unexpected_keys)


def test_a_copy_has_its_own_models():
    model = build(mutual()).train()
    copy = deepcopy(model)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert model.distill.peer.head.fc.weight.any()
    assert copy.distill.student is copy
    losses = copy(**batch_of(copy), mode='loss')
    torch.testing.assert_close(losses['peer_loss'], torch.tensor(4.).log())


def test_errors_say_what_is_wrong():
    kd = mutual()['losses']['loss_kd']
    with pytest.raises(KeyError, match='the peer .*head.cf'):
        build(mutual(loss_kd={**kd, 'teacher': 'head.cf'}))
    with pytest.raises(KeyError, match='the student .*head.cf'):
        build(mutual(loss_kd={**kd, 'student': 'head.cf'}))
    with pytest.raises(TypeError, match='looks at whole models'):
        build(
            mutual(
                loss_ida=dict(
                    type='mmcompress.IDaDetLoss',
                    student='neck',
                    teacher='neck')))


def test_a_loss_looks_at_the_models_that_it_compares(monkeypatch):
    seen = []
    for side in ('', '_teacher'):
        monkeypatch.setattr(
            KDLoss,
            f'look_at{side}_tap',
            lambda _, model, path, side=side: seen.append((side, model, path)))
    model = build(mutual()).train()
    for _ in range(2):
        model(**batch_of(model), mode='loss')
    assert seen == [('', model, 'head.fc'),
                    ('_teacher', model.distill.peer, 'head.fc'),
                    ('', model.distill.peer, 'head.fc'),
                    ('_teacher', model, 'head.fc')]
