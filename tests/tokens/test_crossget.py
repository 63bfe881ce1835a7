"""CrossGET: cross tokens, their loss, what the step changes and refuses."""
import copy

import pytest
import torch
import torch.nn as nn
from golden import assert_golden, golden
from mmengine.registry import DefaultScope
from mmengine.runner.activation_checkpointing import \
    turn_on_activation_checkpointing
from tokens.models import build, images
from tokens.test_states import assert_same
from torch.utils.checkpoint import checkpoint

from mmcompress.registry import STEPS
from mmcompress.tokens import (CLIPRetrieval, CrossGET, MergingLayer, Tokens,
                               js_loss)
from mmcompress.tokens.cross_loss import repeated
from mmcompress.tokens.matching import (attention_graph, complete_graph,
                                        received_attention)

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
# a text's beginning, its end, and what is behind
TEXTS = torch.tensor([[18, 3, 7, 4, 9, 19, 0, 0], [18, 5, 5, 2, 6, 1, 8, 19]])


def crossget(**options) -> list[dict]:
    return [dict(type='CrossGET', **options)]


def clip(seed: int = 0, **options) -> CLIPRetrieval:
    """A small CLIP whose layers do something."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = CLIPRetrieval(
            vision_backbone=dict(
                type='VisionTransformer',
                arch=ARCH,
                img_size=32,
                patch_size=8,
                layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
                pre_norm=True),
            projection=dict(
                type='CLIPProjection', in_channels=16, out_channels=8),
            text_backbone=dict(
                type='CLIPTransformer', width=12, layers=3, heads=2),
            tokenizer=dict(type='AutoTokenizer', name_or_path='nowhere'),
            vocab_size=20,
            transformer_width=12,
            proj_dim=8,
            context_length=8,
            **options)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    return model


def reduced(seed: int = 0, js_weight: float = 0.5, **options) -> CLIPRetrieval:
    model = clip(seed, js_weight=js_weight)
    CrossGET(**options)(model)
    return model


def losses(model: CLIPRetrieval) -> dict:
    return model.train().losses(images(), TEXTS, torch.tensor([0, 1]))


@golden('crossget')
def test_equals_the_official_code(case):
    assert_golden(case)


# ---- The loss ---------------------------------------------------------------


def test_the_loss_of_cross_tokens_is_a_divergence():
    a, b = torch.randn(2, 6, 5, dtype=torch.float64)
    assert abs(js_loss(a, a)) < 1e-15
    assert js_loss(a, b) > 0
    torch.testing.assert_close(js_loss(a, b), js_loss(b, a))
    peaked = 1e3 * torch.eye(5)
    assert js_loss(peaked, peaked.flip(0)).isfinite()


def test_it_trains_the_offsets_and_nothing_else():
    model = reduced(vision=3, text=1)
    losses(model)['loss_js'].backward()
    for name, parameter in model.named_parameters():
        learns = parameter.grad is not None and bool(parameter.grad.any())
        assert learns == name.endswith('cross_token'), name


def test_its_share_of_the_loss():
    parts = [losses(reduced(vision=3, js_weight=w)) for w in (0, 0.25, 0.5)]
    assert list(parts[0]) == ['loss_ita']
    for part, weight in zip(parts[1:], (0.25, 0.5)):
        torch.testing.assert_close(part['loss_ita'],
                                   (1 - weight) * parts[0]['loss_ita'])
    torch.testing.assert_close(2 * parts[1]['loss_js'], parts[2]['loss_js'])


def test_all_offsets_learn_where_a_loss_depends_on_them():
    """Processes that wait for each other's gradients would wait for others."""
    for js_weight in (0, 0.5):
        model = reduced(vision=3, text=1, js_weight=js_weight)
        sum(losses(model).values()).backward()
        for name, parameter in model.named_parameters():
            assert parameter.requires_grad == (parameter.grad is not None), (
                name)


def test_a_shorter_tower_repeats_its_cross_tokens():
    crosses = tuple(torch.arange(2.))
    assert repeated(crosses, 2) == [0, 1]
    assert repeated(crosses, 5) == [0, 0, 1, 1, 1]


# ---- Images -----------------------------------------------------------------


@pytest.mark.parametrize('out_type', ['featmap', 'avg_featmap', 'cls_token'])
@pytest.mark.parametrize('name', ['clip', 'vit'])
def test_nobody_sees_the_cross_token(name, out_type):
    cfg = dict(out_type=out_type, out_indices=(0, 2, 3))
    dense = build(name, **cfg)
    model = build(name, crossget(vision=3), **cfg)
    with torch.no_grad():
        assert ([t.shape for t in model.backbone(images())
                 ] == [t.shape for t in dense.backbone(images())])


@pytest.mark.parametrize('vision, left', [(0, 17), (3, 5), ([50], 9)])
def test_raw_tokens_are_those_that_are_left(vision, left):
    model = build('vit', crossget(vision=vision))
    with torch.no_grad():
        assert model.backbone(images())[-1].shape == (2, left, 16)


def test_tokens_that_stay_are_alone_and_masses_are_kept():
    model = build('clip', crossget(vision=4))
    seen = []
    for layer in model.backbone.layers:
        layer.register_forward_hook(lambda m, args, out: seen.append(out))
    with torch.no_grad():
        model.backbone(images())
    assert [t.x.size(1) for t in seen] == [14, 10, 6, 4]
    for tokens in seen:
        assert tokens.shape[1] == 17
        assert (tokens.mass.sum(dim=1) == 18).all()
        assert (tokens.mass[:, [0, -1]] == 1).all()
        assert (tokens.group[:, 0] == 0).all()
        # what is left keeps its order
        first = torch.stack([(tokens.group == row).int().argmax(1)
                             for row in range(tokens.x.size(1) - 1)], 1)
        alone = tokens.mass[:, :-1, 0] == 1
        for places, single in zip(first, alone):
            assert (places[single].diff() > 0).all()


def test_class_tokens_are_the_same_in_training():
    model = build('clip', crossget(vision=3), out_type='cls_token')
    with torch.no_grad():
        evaluated, = model.backbone(images())
        model.train()
        trained, = model.backbone(images())
        (again, ), crosses = model.backbone(images(), with_crosses=True)
    assert torch.equal(evaluated, trained)
    assert torch.equal(evaluated, again)
    assert [c.shape for c in crosses] == [(2, 16)] * 4


@pytest.mark.parametrize('how', ['own', 'runner', 'outside'])
def test_checkpointing_changes_no_gradient(how):
    plain = reduced(vision=3, text=1)
    saving = copy.deepcopy(plain)
    if how == 'own':
        for layer in saving.visual.layers:
            layer.with_cp = True
    elif how == 'runner':
        # mmengine's loses gradients of all that is not a tensor
        turn_on_activation_checkpointing(saving, [
            f'{name}.{i}'
            for name in ('visual.layers', 'transformer.resblocks')
            for i in range(3)
        ])
    else:
        forward = saving.visual.forward
        saving.visual.forward = lambda *args: checkpoint(
            forward, *args, use_reentrant=False)
    for model in (plain, saving):
        sum(losses(model).values()).backward()
    for a, b in zip(plain.parameters(), saving.parameters()):
        assert_same([a.grad], [b.grad])


def test_half_precision_trains_and_keeps_masses():
    model = reduced(vision=3, text=1)
    masses = []
    model.visual.ln1.register_forward_pre_hook(
        lambda module, args: masses.append(args[0].mass))
    expected = losses(model)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = losses(model)
    for key, value in expected.items():
        torch.testing.assert_close(
            found[key].float(), value, rtol=0.1, atol=0.05)
    assert masses[1].dtype == torch.float32
    assert (masses[1].sum(dim=1) == 18).all()
    sum(found.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.slow
def test_both_towers_export_and_compile():
    model = reduced(vision=3, text=1).eval()
    for run, x in ((model.extract_image_feat, images()),
                   (model.extract_text_feat, TEXTS)):
        tower = Tower(model, run.__name__)
        with torch.no_grad():
            expected = run(x)
            program = torch.export.export(tower, (x, ))
            torch.testing.assert_close(program.module()(x), expected)
            compiled = torch.compile(tower, fullgraph=True)
            torch.testing.assert_close(
                compiled(x), expected, rtol=1e-4, atol=1e-4)


class Tower(nn.Module):
    """One of a model's functions."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self.model, self.name)(x)


def test_importance_by_attention():
    q, k = torch.randn(2, 3, 2, 9, 4, dtype=torch.float64)
    mass = torch.rand(3, 9, 1, dtype=torch.float64) + 1
    attention = (q @ k.mT / 2 + mass.log().mT[:, None]).softmax(-1)
    rows = attention.mean(1)
    expected = rows[:, :-1].mean(1) + rows[:, -1]
    torch.testing.assert_close(received_attention(attention), expected)
    mean = k.mean(1, keepdim=True)
    found = attention_graph(q, k, 3, (0, 8), mass, guide=-1)
    other = complete_graph(mean, mean, 3, (0, 8), importance=expected)
    assert torch.equal(found.slot, other.slot)
    torch.testing.assert_close(found.weight, other.weight)
    # the step names it, and what it does is something else
    outs = []
    for importance in ('attention', 'cross_query'):
        model = build('vit', crossget(vision=4, importance=importance))
        with torch.no_grad():
            outs.append(model.backbone(images())[-1])
    assert not torch.equal(*outs)


def test_weights_of_the_official_code_are_the_default():
    outs = []
    for options in ({}, dict(normalize=False), dict(normalize=True)):
        model = build('vit', crossget(vision=4, **options))
        with torch.no_grad():
            outs.append(model.backbone(images())[-1])
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


# ---- Texts ------------------------------------------------------------------


def test_texts_do_not_see_their_cross_token():
    dense = clip().extract_text_feat(TEXTS)
    model = reduced(text=0)
    assert_same([model.extract_text_feat(TEXTS)], [dense],
                rtol=1e-6,
                atol=1e-7)
    model = reduced(text=2)
    before = model.extract_text_feat(TEXTS)
    for block in model.transformer.resblocks:
        nn.init.normal_(block.cross_token, std=5)
    assert torch.equal(model.extract_text_feat(TEXTS), before)
    assert not torch.allclose(before, dense)


def test_the_end_of_a_text_is_found_where_it_went():
    model = reduced(text=2)
    states = []
    for block in model.transformer.resblocks:
        block.register_forward_hook(lambda m, args, out: states.append(out))
    model.extract_text_feat(TEXTS)
    # 3 stay: the beginning, the end and the cross token
    assert [s.x.size(1) for s in states] == [7, 5, 4]
    for state in states:
        end = state.end[:, None, None]
        assert (state.mass.gather(1, end) == 1).all()
        assert (state.mass[:, [0, -1]] == 1).all()
        assert (state.mass.sum(1) == 9).all()
    # the second text ends in front of the cross token
    assert [int(s.end[1]) for s in states] == [5, 3, 2]


# ---- The step ---------------------------------------------------------------


def test_dense_checkpoints_load_and_offsets_are_0():
    dense, model = clip(seed=1), reduced(vision=3, text=1)
    new = set(model.state_dict()) - set(dense.state_dict())
    assert new == {
        f'{name}.{i}.cross_token'
        for name in ('visual.layers', 'transformer.resblocks')
        for i in range(3)
    }
    assert set(dense.state_dict()) <= set(model.state_dict())
    for key in new:
        nn.init.normal_(model.get_parameter(key))
    state = dense.state_dict()
    model.load_state_dict(state)
    assert not any(model.get_parameter(key).any() for key in new)
    assert set(state) == set(dense.state_dict())
    with pytest.raises(RuntimeError, match='text_projection'):
        del state['text_projection']
        model.load_state_dict(state)
    # a checkpoint of its own
    nn.init.ones_(model.visual.layers[1].cross_token)
    other = reduced(vision=3, text=1)
    other.load_state_dict(model.state_dict())
    assert other.visual.layers[1].cross_token.all()


def test_copies_compute_the_same():
    model = reduced(vision=3, text=1)
    copied = copy.deepcopy(model)
    a, b = losses(model), losses(copied)
    assert a == b


def test_for_images_alone_nothing_is_added():
    dense = build('deit')
    model = build('deit', crossget(vision=3, cross_token=False))
    assert list(dense.state_dict()) == list(model.state_dict())
    assert isinstance(model.backbone.layers[0], MergingLayer)
    outs = []
    model.backbone.layers[-1].register_forward_hook(
        lambda m, args, out: outs.append(Tokens.of(out).x.size(1)))
    with torch.no_grad():
        model.backbone(images())
    assert outs == [18 - 4 * 3]


@pytest.mark.parametrize('name, options, said', [
    ('vit', dict(vision=3, text=2), 'has to be mmcompress.CLIPRetrieval'),
    ('vit', dict(vision=3, text=2, cross_token=False), 'text=2 has to be 0'),
    ('vit', dict(vision=3, importance='keys'), 'cross_query, attention'),
    ('vit', dict(vision=[3] * 5), 'names 5 layers'),
    ('deit', dict(vision=3), 'cross_token=False does without'),
    ('vitpose', dict(vision=3), 'no class token'),
])
def test_what_makes_no_sense_is_refused(name, options, said):
    with pytest.raises(ValueError, match=said):
        STEPS.build(dict(type='CrossGET', **options))(build(name))


def test_a_second_step_is_refused():
    for first in (dict(type='MergeTokens', r=2), *crossget(vision=2)):
        model = build('vit', [first])
        with pytest.raises(ValueError, match='no other step changed'):
            CrossGET(vision=2)(model)
