"""The step's arguments, and what it refuses."""
import pytest
import torch
import torch.nn as nn
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from tokens.models import ARCH, build, images, merging

from mmcompress.builder import Compress
from mmcompress.tokens import MergeTokens, MergingLayer, Tokens, schedule


def counts(model: nn.Module, x=None) -> list[int]:
    """Rows behind each layer."""
    outs = []
    hooks = [
        layer.register_forward_hook(
            lambda module, args, out: outs.append(Tokens.of(out).x.size(1)))
        for layer in model.backbone.layers
    ]
    with torch.no_grad():
        model.backbone(images() if x is None else x)
    for hook in hooks:
        hook.remove()
    return outs


@pytest.mark.parametrize('r, expected', [
    (3, [14, 11, 8, 5]),
    ((2, -1.), [13, 11, 10, 10]),
    ([0, 4], [17, 13, 13, 13]),
    (50, [9, 5, 3, 2]),
])
def test_schedules(r, expected):
    assert counts(build('vit', merging(r))) == expected


def test_layers_choose_where():
    model = build('vit', merging(3, layers=[1, 3]))
    assert counts(model) == [17, 14, 14, 11]
    # what is in front of the first stays as it was
    assert not isinstance(model.backbone.layers[0], MergingLayer)


def test_a_schedule_of_one_layer():
    assert schedule(5, 1) == [5]
    assert schedule((5, -1), 1) == [5]


@pytest.mark.parametrize('options', [
    dict(matching='pitome'),
    dict(matching=dict(type='threshold', above=0.5), r=None),
    dict(matching=dict(type='local_cells', grid=(4, 4)), layers=[0]),
    dict(matching=dict(type='local_cells', grid=(4, 4), above=.1), r=None,
         layers=[0]),
    dict(matching='evit'),
    dict(matching='complete_graph'),
    dict(matching=dict(type='kth', every=3), r=None, layers=[1]),
    dict(matching=dict(type='random', pairs=True)),
])  # yapf: disable
def test_every_matching_runs_in_a_model(options):
    model = build('vit', merging(**{'r': 3, **options}), out_type='featmap')
    dense = build('vit', out_type='featmap')
    with torch.no_grad():
        out = model.backbone(images())[0]
        assert out.shape == dense.backbone(images())[0].shape
    assert out.isfinite().all()


@pytest.mark.parametrize('more', [[], merging(1, layers=[2])])
def test_padding_is_neither_attended_to_nor_merged(more):
    """What one image keeps more does not change another."""
    layers = [0, 1, 2, 3] if not more else [0]
    step = merging(
        r=None,
        matching=dict(type='threshold', above=0.8 if not more else 0.5),
        layers=layers)
    model = build('vit', step + more, out_type='featmap')
    model.backbone.double()
    x = images(2).double()
    # of a blank image more tokens go together
    x[1] = 0
    with torch.no_grad():
        together = model.backbone(x)[0]
        alone = model.backbone(x[1:])[0]
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-10)
    assert counts(model, x) != counts(model, x[1:])


@pytest.mark.parametrize('options, message', [
    (dict(matching='tome'), 'matching is one of bipartite'),
    (dict(matching=dict(type='bipartite', above=1)), "has no above"),
    (dict(matching='threshold', r=None), 'needs above'),
    (dict(r=None), 'needs r'),
    (dict(matching=dict(type='complete_graph', official=True)), 'no average'),
    (dict(r=-1), 'can not leave'),
    (dict(r=(1, 2, 3)), 'a pair'),
    (dict(r=[1] * 5), 'for 5 layers, and backbone has 4'),
    (dict(r=[1.5]), 'are whole'),
    (dict(r=True), 'a number of tokens'),
    (dict(layers=[4]), 'no layer 4, it has 0 to 3'),
    (dict(layers=[-1]), 'no layer -1'),
    (dict(backbone='neck'), "no such part; it has backbone"),
    (dict(matching=dict(above=1)), 'no type'),
    (dict(matching='kth'), 'leave r=3 out'),
    (dict(matching=dict(type='local_cells', grid=(3, 3))), '3x3 tokens'),
    (dict(matching=dict(type='local_cells', grid=(4, 4), above=.1)),
     'r or above'),
])
def test_arguments_that_make_no_sense(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        model = build('vit', merging(**{'r': 3, **options}))
        model.backbone(images())


@pytest.mark.parametrize('cfg, reason', [
    (dict(type='mmpretrain.SwinTransformer', arch='tiny'), '170.6 instead'),
    (dict(type='mmpretrain.BEiTViT', arch='deit-tiny'), 'EVA-g'),
    (dict(type='mmpretrain.ViTEVA02', arch='tiny'), 'grid'),
    (dict(type='mmpretrain.DeiT3', arch=ARCH), 'mmcompress.DeiT3'),
    (dict(type='mmpretrain.MAEViT', arch=ARCH), 'random patches'),
    (dict(type='mmpretrain.ResNet', depth=18), 'Known are.*DeiT3'),
    (dict(type='mmseg.MixVisionTransformer', embed_dims=8), '3x3'),
])
def test_where_it_gains_nothing_it_says_so(cfg, reason):
    model = nn.Module()
    with DefaultScope.overwrite_default_scope(cfg['type'].split('.')[0]), \
            torch.device('meta' if 'BEiT' in cfg['type'] else 'cpu'):
        model.backbone = MODELS.build(ConfigDict(cfg))
    with pytest.raises(ValueError, match=reason):
        MergeTokens(3)(model)
    with pytest.raises(ValueError, match='no vision transformer whose'):
        MergeTokens(3)(model)
    if 'ResNet' not in cfg['type']:
        with pytest.raises(ValueError, match=reason):
            MergeTokens(3, backbone='backbone')(model)


def test_what_is_refused_beside_others_is_named(logged):
    model = build('vit')
    cfg = ConfigDict(type='MixVisionTransformer', embed_dims=8)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model.other = MODELS.build(cfg)
    MergeTokens(3)(model)
    assert isinstance(model.backbone.layers[0], MergingLayer)
    assert any('Does not merge the tokens of other: its feed' in line
               for line in logged)


def test_another_backbone_of_a_user_is_not_guessed_at():
    model = build('vit')

    class Own(type(model.backbone)):

        def forward(self, x):
            return super().forward(x)

    model.backbone.__class__ = Own
    with pytest.raises(ValueError, match='no vision transformer'):
        MergeTokens(3)(model)


def test_after_quantization_it_merges_by_the_same_keys():
    quantized = dict(
        type='QuantizeLayers',
        weight=dict(type='LSQ', bits=8),
        activation=dict(type='LSQ', bits=8),
        attention=dict(type='LSQ', bits=8))
    model = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.VisionTransformer',
            arch=ARCH,
            img_size=32,
            patch_size=8),
        head=dict(
            type='mmpretrain.LinearClsHead', num_classes=3, in_channels=16))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = [
            Compress(model=ConfigDict(model), steps=steps)
            for steps in ([quantized, *merging()], [*merging(), quantized])
        ]
    torch.manual_seed(0)
    state = built[0].state_dict()
    built[1].load_state_dict(state)
    x = images()
    # scales start in training mode
    first, second = (model.train()(x)[0] for model in built)
    assert torch.equal(first, second)
    assert counts(built[0].eval()) == [14, 11, 8, 5]


def test_two_steps_merge_in_different_layers():
    """As ALGM: cells that are alike first, then any tokens."""
    local = dict(type='local_cells', grid=(4, 4), above=0.1)
    first = merging(r=None, matching=local, layers=[1])
    model = build('vit', first + merging(3, layers=[3]))
    sizes = counts(model)
    assert sizes[0] == 17 and sizes[1] == sizes[2] == sizes[3] + 3
    with pytest.raises(ValueError, match='layer 1 merges tokens already'):
        build('vit', first + merging(3))
    with pytest.raises(ValueError, match='can not follow one that leaves'):
        build('vit', first +
              merging(3, layers=[3], matching='pitome')).backbone(images())
