"""A step of DGD and of the ranking loss on transformers for images."""
import pytest
import torch
from distill.test_feature_autoencoder import batch_of
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.distill.losses.q_vit import similarity_distance

HEAD = dict(num_classes=5, cal_acc=False)


def vit(width=8, num_heads=2, kind='VisionTransformer', head=None):
    """Config of a DeiT with two layers."""
    return dict(
        type='mmpretrain.ImageClassifier',
        _scope_='mmpretrain',
        backbone=dict(
            type=kind,
            arch=dict(
                embed_dims=width,
                num_layers=2,
                num_heads=num_heads,
                feedforward_channels=8),
            img_size=16,
            patch_size=4),
        head=dict(
            type=head or 'VisionTransformerClsHead', in_channels=width,
            **HEAD))


def swin(width=8):
    """Config of a Swin with two stages of two blocks."""
    return dict(
        type='mmpretrain.ImageClassifier',
        _scope_='mmpretrain',
        backbone=dict(
            type='SwinTransformer',
            arch=dict(embed_dims=width, depths=[2, 2], num_heads=[2, 4]),
            img_size=32,
            patch_size=2,
            window_size=4,
            out_indices=(1, )),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', in_channels=2 * width, **HEAD))


VIT = [f'backbone.layers.{i}.attn.qkv' for i in (0, 1)]
SWIN = [
    f'backbone.stages.{i}.blocks.{j}.attn.w_msa.' for i in (0, 1)
    for j in (0, 1)
]
WINDOWS = [tap + 'qkv' for tap in SWIN]
# student, teacher, taps of DGD and of the ranking loss
PAIRS = dict(
    deit=(vit(), vit(16), VIT, VIT),
    swin=(swin(), swin(16), WINDOWS, [tap + 'softmax' for tap in SWIN]))


def build(student, teacher, **losses):
    """A student with a random teacher, in training mode."""
    torch.manual_seed(0)
    model = MODELS.build(
        ConfigDict(
            type='mmcompress.Distill',
            student=student,
            teacher=dict(cfg=dict(model=teacher), allow_random=True),
            losses=losses))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


def on(tap, kind, other=None, **kwargs):
    return dict(
        type=f'mmcompress.{kind}', student=tap, teacher=other or tap, **kwargs)


@pytest.fixture(autouse=True)
def classification():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.mark.parametrize('name', PAIRS)
def test_a_step_with_a_wider_teacher(name):
    student, teacher, qkv, attention = PAIRS[name]
    model = build(
        student,
        teacher,
        loss_dgd=on(qkv, 'DGDLoss'),
        loss_rank=on(attention, 'RankDistillLoss', num_pairs=20))
    batch = batch_of(model)
    for _ in range(2):
        losses = model(**batch, mode='loss')
    assert losses['loss_dgd'] > 0 and losses['loss_rank'] > 0
    last = model.get_submodule(qkv[-1])
    for key in ('loss_dgd', 'loss_rank'):
        grad, = torch.autograd.grad(
            losses[key], last.weight, retain_graph=True)
        # queries and keys learn, values don't
        q, k, v = grad.chunk(3)
        assert q.any() and k.any() and not v.any()
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_loss_is_of_the_queries_and_keys_that_attend():
    model = build(vit(), vit(16), loss_dgd=on(VIT, 'DGDLoss'))
    batch = batch_of(model)
    actual = model(**batch, mode='loss')['loss_dgd']
    seen = []
    for net in (model, model.distill.teacher.model):
        net.eval()
        layers = []
        for layer in net.backbone.layers:
            attn, stock = layer.attn, layer.attn.scaled_dot_product_attention
            attn.scaled_dot_product_attention = \
                lambda q, k, v, stock=stock, layers=layers, **kwargs: (
                    layers.append((q, k)), stock(q, k, v, **kwargs))[1]
        net(batch['inputs'])
        seen.append(layers)
    expected = sum(
        similarity_distance(s, t).mean(0).sum() for layers in zip(*seen)
        for s, t in zip(*layers))
    torch.testing.assert_close(actual, expected)


def test_heads_that_differ_are_refused():
    model = build(vit(), vit(8, 4), loss_dgd=on(VIT, 'DGDLoss'))
    with pytest.raises(
            ValueError,
            match=r'losses.loss_dgd .*\(4, 2, 17\) in '
            r'the student and \(4, 4, 17\) in'):
        model(**batch_of(model), mode='loss')


def test_the_distillation_token_is_taught_by_a_plain_model():
    """Half of it is the labels', half the teacher's; hard or soft."""
    student = vit(
        kind='DistilledVisionTransformer', head='mmcompress.QDeiTClsHead')
    student['head']['loss'] = dict(type='CrossEntropyLoss', loss_weight=0.5)
    tap = 'head.layers.head_dist'
    model = build(
        student,
        vit(16),
        loss_hard=on(tap, 'HardKDLoss', 'head', loss_weight=0.5),
        loss_soft=on(
            tap, 'KDLoss', 'head', tau=2.0, reduction='mean',
            loss_weight=0.5))  # yapf: disable
    batch = batch_of(model)
    losses = model(**batch, mode='loss')
    with torch.no_grad():
        own, taught = model.head.both(model.extract_feat(batch['inputs']))
        logits = model.distill.teacher.model(batch['inputs'])
    cross_entropy = torch.nn.functional.cross_entropy
    labels = torch.cat([s.gt_label for s in batch['data_samples']])
    torch.testing.assert_close(losses['loss'], cross_entropy(own, labels) / 2)
    torch.testing.assert_close(losses['loss_hard'],
                               cross_entropy(taught, logits.argmax(1)) / 2)
    p, q = ((x / 2).log_softmax(1) for x in (logits, taught))
    soft = (p.exp() * (p - q)).sum() * 4 / p.numel()
    torch.testing.assert_close(losses['loss_soft'], soft / 2)
    grads = torch.autograd.grad(
        losses['loss'], [layer.weight for layer in model.head.layers],
        allow_unused=True)
    assert grads[0].any() and grads[1] is None


def test_the_head_loads_and_predicts_what_mmpretrains_does():
    theirs, ours = (
        MODELS.build(vit(kind='DistilledVisionTransformer', head=head))
        for head in ('DeiTClsHead', 'mmcompress.QDeiTClsHead'))
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))
