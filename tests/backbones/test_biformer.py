import pytest
import torch
import torch.nn.functional as F
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.complexity import complexity, total
from mmcompress.analysis.subject import build_subject
from mmcompress.backbones import BiFormer
from mmcompress.backbones.routing_attention import (BiLevelRoutingAttention,
                                                    NCHWRoutingAttention)
from mmcompress.model.config import read_config
from mmcompress.model.inputs import noise_batch

ARCH = dict(
    depth=(1, 1, 2, 1),
    embed_dim=(8, 16, 16, 24),
    mlp_ratios=(2, 2, 2, 2),
    topks=(1, 2, 3, -2))


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.double)


def filled(module):
    """In double, with weights that matter, in eval mode."""
    for i, parameter in enumerate(module.parameters()):
        parameter.data = 0.5 * randn(*parameter.shape, seed=i)
    return module.double().eval()


def attention(topk=3, **kwargs):
    kwargs = dict(dict(num_heads=2, n_win=4), **kwargs)
    return filled(BiLevelRoutingAttention(8, topk=topk, **kwargs))


def backbone(**kwargs):
    torch.manual_seed(0)
    kwargs = dict(dict(arch=ARCH, n_win=2, head_dim=8), **kwargs)
    model = BiFormer(**kwargs)
    model.init_weights()
    return model


def dense(**kwargs):
    kwargs = dict(
        dict(
            auto_pad=True,
            out_indices=(0, 1, 2, 3),
            final_norm=False,
            extra_norms=True), **kwargs)
    return backbone(**kwargs)


# ---- Numbers ---------------------------------------------------------------


@golden('biformer')
def test_equals_the_official_code(case):
    assert_golden(case)


@pytest.mark.parametrize('layout', ['nhwc', 'nchw'])
@pytest.mark.parametrize('arch, params', [('tiny', 13.143), ('small', 25.536),
                                          ('base', 56.805), ('stl', 28.373)])
def test_has_the_published_number_of_parameters(arch, params, layout):
    with torch.device('meta'):
        model = BiFormer(arch, layout=layout)
        head = torch.nn.Linear(len(model.norm.weight), 1000)
    num = sum(p.numel() for part in (model, head) for p in part.parameters())
    assert round(num / 1e6, 3) == params


@pytest.mark.parametrize('size, gmacs', [
    ('tiny', 2.216),
    pytest.param('small', 4.464, marks=pytest.mark.slow),
    pytest.param('base', 9.759, marks=pytest.mark.slow),
])
def test_computes_as_much_as_published(size, gmacs):
    cfg = read_config(f'configs/biformer/biformer-{size}_8xb128_in1k.py')
    model = build_subject(cfg)
    costs = total(complexity(model, noise_batch(cfg, model, None)))
    assert costs.macs / 1e9 == pytest.approx(gmacs, abs=0.0015)


# ---- Attention -------------------------------------------------------------


@pytest.mark.parametrize('n_win, topk', [(4, 16), (1, 1)])
def test_looking_at_all_regions_is_plain_attention(n_win, topk):
    attn = attention(topk=topk, n_win=n_win)
    x = randn(2, 8, 12, 8)
    q, k, v = attn.qkv.qkv(x).chunk(3, -1)
    heads = (
        part.flatten(1, 2).unflatten(2, (2, 4)).transpose(1, 2)
        for part in (q, k, v))
    y = F.scaled_dot_product_attention(*heads, scale=8**-0.5)
    y = y.transpose(1, 2).reshape(x.shape)
    y = y + attn.lepe(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(attn(x), attn.wo(y))


def test_layouts_agree_where_the_map_divides():
    old, x = attention(), randn(2, 12, 8, 8)
    new = NCHWRoutingAttention(8, num_heads=2, n_win=4, topk=3).double()
    names = {'qkv.qkv': 'qkv_linear', 'wo': 'output_linear', 'lepe': 'lepe'}
    state = {}
    for name, value in old.state_dict().items():
        layer, _, kind = name.rpartition('.')
        is_matrix = value.dim() == 2
        state[f'{names[layer]}.{kind}'] = \
            value[..., None, None] if is_matrix else value
    new.load_state_dict(state)
    y = new(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(y, old(x))


def test_the_operator_gives_what_double_gives():
    attn, x = attention(), randn(2, 8, 8, 8)
    wanted = attn(x)
    found = attn.float()(x.float())
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-4)


def test_returned_probabilities_make_the_output():
    attn, x = attention(side_dwconv=0), randn(1, 8, 8, 8)
    y, weights, routes, probabilities = attn(x, return_routing=True)
    torch.testing.assert_close(y, attn(x))
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 16).double())
    # descending
    assert (weights.diff(dim=-1) <= 0).all() and routes.shape == (1, 16, 3)
    assert probabilities.shape == (16, 2, 4, 12)


def test_no_gradient_passes_through_the_choice():
    attn = attention(topk=2, n_win=2)
    x = randn(1, 4, 4, 8).requires_grad_()
    # the choice does not change with steps that are so small
    assert torch.autograd.gradcheck(attn, (x, ), fast_mode=True)


def test_soft_routing_has_the_gradient_of_its_weights():
    options = dict(soft_routing=True, diff_routing=True, param_routing=True)
    attn = attention(topk=2, n_win=2, **options)
    x = randn(1, 4, 4, 8).requires_grad_()
    assert torch.autograd.gradcheck(attn, (x, ), fast_mode=True)
    attn(x).sum().backward()
    assert attn.router.emb.weight.grad.abs().max() > 0


def test_a_token_depends_on_routed_regions_and_its_neighbourhood():
    attn, x = attention(topk=2), randn(1, 16, 16, 8)
    _, _, routes, _ = attn(x, return_routing=True)
    position = torch.tensor([6, 9])
    region = position[0] // 4 * 4 + position[1] // 4
    x.requires_grad_()
    attn(x)[0, 6, 9].sum().backward()
    found = x.grad[0].abs().sum(-1) > 0
    rows, columns = torch.meshgrid(
        torch.arange(16), torch.arange(16), indexing='ij')
    number = rows // 4 * 4 + columns // 4
    near = ((rows - 6).abs() <= 2) & ((columns - 9).abs() <= 2)
    wanted = torch.isin(number, routes[0, region]) | near
    wanted[6, 9] = True
    assert torch.equal(found, wanted)


def test_permuting_the_batch_permutes_the_output():
    attn, x = attention(), randn(3, 8, 8, 8)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(attn(x[order]), attn(x)[order])


def test_moving_by_whole_regions_moves_the_output():
    attn, x = attention(), randn(1, 16, 16, 8)
    moved = attn(x.roll((4, 8), (1, 2)))
    back = moved.roll((-4, -8), (1, 2))
    # but near the border, where the convolution sees other tokens
    inside = slice(2, 6)
    torch.testing.assert_close(back[:, inside, inside],
                               attn(x)[:, inside, inside])


@pytest.mark.parametrize('mode',
                         ['ada_avgpool', 'ada_maxpool', 'avgpool', 'maxpool'])
def test_pools_keys_and_values_within_regions(mode):
    options = dict(kv_downsample_mode=mode, kv_per_win=1)
    attn = attention(topk=2, kv_downsample_ratio=3, **options)
    x = randn(1, 12, 12, 8)
    y, _, _, probabilities = attn(x, return_routing=True)
    assert probabilities.shape == (16, 2, 9, 2)
    torch.testing.assert_close(
        attn.float()(x.float()), y.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('height, width', [(7, 10), (8, 5), (1, 3)])
def test_padding_keeps_the_size(height, width):
    x = randn(1, height, width, 8)
    assert attention(auto_pad=True)(x).shape == x.shape


# ---- Backbone --------------------------------------------------------------


@pytest.mark.parametrize('layout', ['nhwc', 'nchw'])
def test_returns_contiguous_maps_of_four_strides(layout):
    outs = dense(layout=layout)(torch.randn(2, 3, 70, 90))
    assert [tuple(out.shape[1:]) for out in outs] == [(8, 18, 23), (16, 9, 12),
                                                      (16, 5, 6), (24, 3, 3)]
    assert all(out.is_contiguous() for out in outs)


def test_norms_of_outputs_don_t_go_on():
    with_norms = dense().eval()
    without = dense(extra_norms=False).eval()
    without.load_state_dict(with_norms.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    for norm, out, plain in zip(with_norms.extra_norms, with_norms(x),
                                without(x)):
        torch.testing.assert_close(out, norm(plain))
        assert out.mean(1).abs().max() < 1e-5


def test_stages_can_be_tapped():
    model, seen = dense(extra_norms=False).eval(), []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, args, out: seen.append(out))
    outs = model(torch.randn(1, 3, 64, 64))
    assert len(seen) == 4
    assert all(torch.equal(a, b) for a, b in zip(seen, outs))


def test_computes_no_stage_behind_the_last_output():
    model = backbone(out_indices=(1, )).eval()
    model.stages[2] = None
    assert len(model(torch.randn(1, 3, 32, 32))) == 1
    assert model.norm is None


def test_frozen_stages_stay_as_they_are():
    model = backbone(frozen_stages=2).train()
    frozen = {
        name
        for name, p in model.named_parameters() if not p.requires_grad
    }
    assert frozen == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(('downsample_layers.0', 'downsample_layers.1',
                            'stages.0', 'stages.1'))
    }
    before = {name: b.clone() for name, b in model.named_buffers()}
    model(torch.randn(2, 3, 32, 32))
    changed = {
        name
        for name, b in model.named_buffers()
        if not torch.equal(b, before[name])
    }
    assert changed and all(
        name.startswith(('downsample_layers.2', 'downsample_layers.3',
                         'norm.')) for name in changed)


def test_norm_eval_trains_factors_of_norms_alone():
    model = backbone(norm_eval=True).train()
    before = {name: b.clone() for name, b in model.named_buffers()}
    model(torch.randn(2, 3, 32, 32))[0].sum().backward()
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    assert model.norm.weight.grad is not None
    assert model.stages.training


def test_every_parameter_gets_a_gradient_checkpointed_too():
    x = torch.randn(2, 3, 64, 64)
    grads = []
    for with_cp in (False, True):
        model = dense(with_cp=with_cp, drop_path_rate=0.5).train()
        torch.manual_seed(1)
        sum(out.square().mean() for out in model(x)).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_drop_path_rises_over_the_blocks():
    model = backbone(drop_path_rate=0.4)
    rates = [
        getattr(block.drop_path, 'drop_prob', 0.) for stage in model.stages
        for block in stage
    ]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_initialisation_is_the_papers():
    model = backbone(arch='tiny', head_dim=32)
    block = model.stages[3][0]
    assert block.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not block.mlp[0].bias.any() and (block.norm1.weight == 1).all()


def compiled_and_exported(model, x):
    """Both results, and the names of what the graph calls."""
    with torch.no_grad():
        program = torch.export.export(model, (x, ))
        compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
        targets = [str(node.target) for node in program.graph.nodes]
        return compiled(x), program.module()(x), targets


def test_compiles_and_exports_with_the_operator():
    attn, x = attention(auto_pad=True).float(), torch.randn(1, 10, 8, 8)
    *found, targets = compiled_and_exported(attn, x)
    assert all(torch.equal(y, attn(x)) for y in found)
    assert 'mmcompress.routed_attention.default' in targets


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['nhwc', 'nchw'])
def test_backbone_compiles_and_exports(layout):
    model = dense(layout=layout, n_win=4).eval()
    x = torch.randn(1, 3, 96, 80)
    *found, targets = compiled_and_exported(model, x)
    for outs in found:
        assert all(torch.equal(a, b) for a, b in zip(outs, model(x)))
    # in the four blocks of three stages
    assert targets.count('mmcompress.routed_attention.default') == 4


@pytest.mark.parametrize('message, options', [
    ("choose of \\['base', 'small', 'stl', 'tiny'\\]", dict(arch='huge')),
    ('depth, embed_dim', dict(arch=dict(depth=(1, 1, 1, 1)))),
    ('one number for each', dict(arch=dict(ARCH, depth=(1, 1)))),
    ("choose 'nhwc' or 'nchw'", dict(layout='nlc')),
    ('stages 0 to 3, got \\(4,\\)', dict(out_indices=(4, ))),
    ('frozen_stages', dict(frozen_stages=5)),
    ('n_win=0', dict(n_win=0)),
    ('topk=0', dict(arch=dict(ARCH, topks=(0, 1, 1, -2)))),
    ('multiple of head_dim 32', dict(head_dim=32)),
    ('28 channels', dict(arch=dict(ARCH, embed_dim=(8, 16, 16, 28)))),
    ('one for each', dict(attn_cfg=[{}])),
    ("layout='nhwc' only", dict(
        layout='nchw', attn_cfg=dict(soft_routing=True))),
    ('soft_routing=True', dict(attn_cfg=dict(param_routing=True))),
    ('kv_downsample_mode', dict(attn_cfg=dict(kv_downsample_mode='conv'))),
    ('side_dwconv=4', dict(side_dwconv=4)),
])
def test_errors_name_what_is_wrong(message, options):
    with pytest.raises(ValueError, match=message):
        backbone(**options)


@pytest.mark.parametrize('message, options', [
    ('auto_pad=True', dict(n_win=3)),
    ('smaller n_win', dict(n_win=9, layout='nchw')),
])
def test_refuses_maps_without_such_regions(message, options):
    with pytest.raises(ValueError, match=message):
        backbone(**options)(torch.randn(1, 3, 32, 32))


def test_says_where_there_are_less_regions_than_chosen(caplog):
    with caplog.at_level('WARNING'):
        model = backbone(arch=dict(ARCH, topks=(1, 2, 9, -2)))
    assert model.stages[2][0].attn.router.topk == 4
