"""G2SD's stages: two masked autoencoders, then a classifier."""
import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from distill.mae_models import build, classifier, generic, images, specific
from mmengine.config import Config
from mmengine.registry import HOOKS, DefaultScope
from mmpretrain.structures import DataSample

from mmcompress.cache import cached_teacher
from mmcompress.distill.shared_draws import SharedDraws
from mmcompress.model.config import build_model

CONFIGS = Path(__file__).parents[2] / 'configs'


def masks_of(model, seed=None):
    """Masks of student and teacher in a step, and the losses."""
    seen = {}
    loss = model.distill.loss_g2sd
    handle = loss.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    losses = model.loss(images())
    handle.remove()
    return seen['student']['mask'], seen['teacher']['mask'], losses


def test_teacher_and_student_see_the_same_patches_new_in_each_step():
    model = build(generic())
    steps = []
    for _ in range(3):
        student, teacher, _ = masks_of(model)
        assert torch.equal(student, teacher)
        # int(16 * 0.25) stay visible, in each image others
        assert (student.sum(1) == 12).all()
        assert not torch.equal(student[0], student[1])
        steps.append(student)
    assert not torch.equal(steps[0], steps[1])
    assert not torch.equal(steps[1], steps[2])


def test_the_seed_of_a_step_decides_its_mask():
    model = build(generic())
    model.distill.draws.draw_seed = lambda: 7
    mask, _, _ = masks_of(model)
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(7))
    assert torch.equal(mask, (noise.argsort(1).argsort(1) >= 4).float())


def test_steps_draw_once_from_the_training_whatever_the_models_draw():
    model = build(generic())
    torch.manual_seed(3)
    model.loss(images())
    drawn = torch.rand(1)
    torch.manual_seed(3)
    torch.randint(2**62, ())
    assert drawn == torch.rand(1)


def test_methods_are_put_back_after_an_error():
    model = build(generic())
    with pytest.raises(RuntimeError):
        model.loss(images()[:, :2])
    assert 'random_masking' not in vars(model.backbone)
    assert 'random_masking' not in vars(model.distill.teacher.model.backbone)


def test_without_sharing_it_refuses_to_train():
    cfg = generic()
    del cfg['shared_draws']
    model = build(cfg)
    # each with its own generator, as after a layer with dropout
    model.backbone.patch_embed.register_forward_hook(
        lambda *_: torch.rand(1) and None)
    with pytest.raises(ValueError, match='saw different patches'):
        model.loss(images())
    cfg = generic()
    cfg['teacher']['cfg']['backbone']['mask_ratio'] = 0.5
    with pytest.raises(ValueError, match='same mask_ratio'):
        build(cfg).loss(images())


def test_what_cannot_be_shared_is_refused():
    cfg = generic()
    cfg['shared_draws'] = 'backbone.mask'
    with pytest.raises(KeyError, match='student.*no method .backbone.mask'):
        build(cfg)
    cfg['shared_draws'] = dict(
        student='backbone.random_masking', teacher='head.masking_id')
    with pytest.raises(KeyError, match='teacher.*head.masking_id'):
        build(cfg)
    with pytest.raises(ValueError, match='student and teacher'):
        SharedDraws(dict(student='backbone.random_masking'))
    cfg = generic()
    with pytest.raises(ValueError, match='one forward'):
        build(dict(cfg, head_only=True))
    with pytest.raises(ValueError, match='no key `teacher`'):
        build(dict(cfg, teacher=None))


@pytest.mark.parametrize('supervise_all', [True, False])
def test_every_parameter_of_the_student_learns(supervise_all):
    model = build(generic(supervise_all))
    model.train()
    total, _ = model.parse_losses(model.loss(images()))
    total.backward()
    learning = {k: p for k, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.any()
               for p in learning.values()), {
                   k
                   for k, p in learning.items() if p.grad is None
               }
    fixed = dict(model.named_parameters()).keys() - learning.keys()
    assert fixed == {'backbone.pos_embed', 'neck.decoder_pos_embed'}


def test_the_teacher_stops_after_the_block_and_stays_as_it_is():
    model = build(generic())
    teacher = model.distill.teacher.model
    before = copy.deepcopy(teacher.state_dict())
    model.distill.draws.draw_seed = lambda: 1
    # the first forward of a teacher runs to its end
    expected = model.loss(images())['loss_g2sd']
    for block in (teacher.neck.decoder_blocks[2], teacher.neck.decoder_pred):
        block.forward = None
    loss = model.loss(images())['loss_g2sd']
    assert loss == expected
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(
        torch.equal(value, before[key])
        for key, value in teacher.state_dict().items())


def test_a_checkpoint_of_the_generic_stage_starts_the_specific_one(
        tmp_path, monkeypatch):
    from mmcompress.hooks import CacheTeacherHook
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))
    trained = build(generic())
    runner = type('Runner', (), {})()
    runner.model = trained
    runner.train_dataloader = type('Loader', (), dict(dataset=None))()
    runner.logger = type('Logger', (), dict(info=print))()
    CacheTeacherHook('encoder', part='backbone').after_train(runner)
    student = classifier()
    student['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint='cache://encoder')
    model = build(specific(student), seed=1)
    state = model.backbone.state_dict()
    for key, value in trained.backbone.state_dict().items():
        assert torch.equal(state[key], value), key
    assert state.keys() - trained.backbone.state_dict() == {'dist_token'}
    assert state['dist_token'].any()
    student['backbone']['init_cfg']['checkpoint'] = 'cache://none'
    with pytest.raises(FileNotFoundError, match="has the name 'none'"):
        build(specific(student))


def test_the_distillation_token_may_be_anywhere():
    """Behind the patches, or, as in DeiT, before them with position zero."""
    from mmpretrain.models import DistilledVisionTransformer
    ours = build(classifier()).backbone
    torch.nn.init.normal_(ours.cls_token)
    theirs = DistilledVisionTransformer(
        arch=ours.arch_settings, img_size=16, patch_size=4)
    state = ours.state_dict()
    position = state['pos_embed']
    state['pos_embed'] = torch.cat(
        [position[:, :1],
         torch.zeros_like(position[:, :1]), position[:, 1:]], 1)
    theirs.load_state_dict(state)
    ours.eval(), theirs.eval()
    for actual, expected in zip(ours(images())[-1], theirs(images())[-1]):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def labelled():
    return [DataSample().set_gt_label(i) for i in range(3)]


def test_a_specific_step_is_the_mean_of_labels_and_teacher():
    model = build(specific())
    for _, p in model.named_parameters():
        torch.nn.init.normal_(p, std=0.3)
    model.train()
    losses = model.loss(images(), labelled())
    features = model.extract_feat(images())
    cls_logits, dist_logits = model.head.both(features)
    target = torch.nn.functional.one_hot(torch.arange(3), 5) * 0.9 + 0.1 / 5
    labels = -(target * cls_logits.log_softmax(1)).sum(1).mean()
    taught = model.distill.teacher.model(images()).argmax(1)
    hard = torch.nn.functional.cross_entropy(dist_logits, taught)
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, (labels + hard) / 2)
    total.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_predictions_are_the_mean_of_both_logits():
    model = build(specific()).eval()
    with torch.no_grad():
        logits = model(images())
        both = model.head.both(model.extract_feat(images()))
        scores = model.predict(images(), labelled())[0].pred_score
    torch.testing.assert_close(logits, sum(both) / 2)
    torch.testing.assert_close(scores, logits.softmax(1)[0])


def test_layers_decay_as_in_the_plain_model():
    from distill.test_optimizer_groups import groups, layer_decay_of_mmpretrain
    plain = build(classifier())
    expected = groups(plain, layer_decay_of_mmpretrain(), 'mmpretrain')
    actual = groups(
        build(specific()), layer_decay_of_mmpretrain(), 'mmpretrain')
    assert actual == expected
    assert expected['backbone.cls_token']['lr_scale'] == 0.65**3
    assert expected['backbone.layers.0.ln1.weight']['lr_scale'] == 0.65**2
    for name in ('backbone.dist_token', 'backbone.ln1.weight',
                 'head.layers.head_dist.weight'):
        assert expected[name]['lr_scale'] == 1


def test_iterations_warm_up():
    from unittest import mock

    from mmengine.logging import MessageHub

    from mmcompress.distill.schedule import IterWarmup
    factor = IterWarmup(500)
    hub = MessageHub.get_current_instance()
    for done, expected in ((0, 0), (125, 0.25), (500, 1), (1000, 1)):
        with mock.patch.dict(hub.runtime_info, iter=done):
            assert factor(0.5) == expected
    with pytest.raises(ValueError, match='num_iters'):
        IterWarmup(0)


@pytest.mark.parametrize('student, lacking', [
    ('vit-tiny_vit-base_in1k', 'layers.3.ln1.weight'),
    ('mask-rcnn_vitdet-tiny_vitdet-base_coco', 'layers.11.attn.qkv.bias'),
    ('upernet_vit-tiny_vit-base_ade20k-512x512', 'layers.0.ln1.bias'),
])
def test_a_student_starts_from_all_of_an_encoder(student, lacking, tmp_path,
                                                 monkeypatch):
    monkeypatch.setenv('MMCOMPRESS_CACHE', str(tmp_path))
    autoencoder = build_model(
        Config.fromfile(CONFIGS /
                        'g2sd/g2sd_generic_vit-tiny_mae-base_in1k.py'))
    autoencoder.init_weights()
    encoder = autoencoder.backbone.state_dict()
    path = Path(cached_teacher('g2sd_generic_vit-tiny_mae-base'))
    path.parent.mkdir()

    def start() -> torch.nn.Module:
        torch.save(dict(state_dict=encoder), path)
        cfg = Config.fromfile(CONFIGS / f'g2sd/g2sd_specific_{student}.py')
        runner = SimpleNamespace(model=build_model(cfg))
        hook = HOOKS.build(cfg.default_hooks.pretrained)
        hook.before_run(runner)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            runner.model.init_weights()
        hook.before_train(runner)
        return runner.model.backbone

    assert torch.equal(start().state_dict()[lacking], encoder.pop(lacking))
    with pytest.raises(RuntimeError, match=f'missing in it: {lacking};'):
        start()
