"""BiFormer: attention in both layouts, blocks, classifier, dense backbone."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from golden import Case
from torch import Tensor

from mmcompress.backbones import BiFormer
from mmcompress.backbones.biformer_block import BiFormerBlock
from mmcompress.backbones.lepe_attention import (LePEAttention,
                                                 NCHWLePEAttention)
from mmcompress.backbones.routing_attention import (BiLevelRoutingAttention,
                                                    NCHWRoutingAttention)

# what one attention takes, by the names of the official constructors
_ROUTING = ('qk_dim', 'kv_downsample_mode', 'kv_per_win',
            'kv_downsample_ratio', 'param_routing', 'diff_routing',
            'soft_routing')


def run(case: Case) -> dict[str, Tensor]:
    """Run what the keys say the fixture is about."""
    weights = case.group('param')
    if 'in/image' in case or any('stages.' in name for name in weights):
        return _network(case)
    if 'norm1.weight' in weights:
        return _on_map(case, _block(case))
    return _on_map(case, _attention(case.hyper, weights))


def _chosen(hyper: dict, names: tuple[str, ...]) -> dict:
    """Those that are given."""
    return {k: hyper[k] for k in names if hyper.get(k) is not None}


def _attention(hyper: dict, weights: dict[str, Tensor]) -> nn.Module:
    """An attention; the shapes of its weights say of which layout."""
    dim = hyper.get('dim') or weights['lepe.weight'].shape[0]
    kernel = weights['lepe.weight'].shape[-1] if 'lepe.weight' in weights \
        else 0
    if 'proj.weight' in weights:
        first = weights['qkv.weight'].dim() == 4
        cls = NCHWLePEAttention if first else LePEAttention
        return cls(dim, kernel, hyper.get('num_heads', 8))
    common = dict(
        num_heads=hyper.get('num_heads', 8),
        n_win=hyper.get('n_win', 7),
        topk=hyper.get('topk', 4),
        side_dwconv=kernel)
    if 'output_linear.weight' in weights:
        return NCHWRoutingAttention(dim, **common)
    return BiLevelRoutingAttention(
        dim,
        auto_pad=hyper.get('auto_pad', False),
        **common,
        **_chosen(hyper, _ROUTING))


def _block(case: Case) -> BiFormerBlock:
    weights = case.group('param')
    hyper = dict(case.hyper)
    if 'attn.proj.weight' in weights:
        # those of the other attention
        hyper.pop('num_heads', None)
    attention = _attention(
        hyper, {
            name.removeprefix('attn.'): value
            for name, value in weights.items() if name.startswith('attn.')
        })
    dim = case.hyper['dim']
    kernel = weights['pos_embed.weight'].shape[-1] \
        if 'pos_embed.weight' in weights else 0
    return BiFormerBlock(
        dim,
        attention,
        channels_first=isinstance(attention,
                                  (NCHWRoutingAttention, NCHWLePEAttention)),
        mlp_ratio=weights['mlp.0.weight'].shape[0] / dim,
        mlp_dwconv='mlp.1.dwconv.weight' in weights,
        before_attn_dwconv=kernel,
        layer_scale_init_value=float('gamma1' in weights),
        pre_norm=case.hyper.get('pre_norm', True))


def _gradients(case: Case, module: nn.Module) -> dict[str, Tensor]:
    """Of the parameters that the fixture names."""
    return {
        f'grad/{name}': torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in module.named_parameters() if f'grad/{name}' in case
    }


def _on_map(case: Case, module: nn.Module) -> dict[str, Tensor]:
    module.double().eval().load_state_dict(case.group('param'))
    x = case['in/x'].clone().requires_grad_()
    found = {}
    y = module(x)
    if 'out/routing' in case or 'out/attn' in case:
        y, weights, routes, attn = module(x, return_routing=True)
        found = {
            'out/routing': routes,
            'out/routing_sorted': routes.sort(-1).values,
            'out/routing_weight': weights,
            'out/attn': attn
        }
    # an operator and what returns how it attended agree
    torch.testing.assert_close(y, module(x))
    cotangent = case['in/cotangent'] if 'in/cotangent' in case else 1
    (y * cotangent).sum().backward()
    scalar = (y * cotangent).sum()
    return {
        'out/y': y,
        'out/scalar': scalar.reshape(1),
        'grad/x': x.grad,
        **found,
        **_gradients(case, module)
    }


def _backbone(hyper: dict, dense: bool) -> BiFormer:
    per_stage = dict(
        kv_downsample_ratio='kv_downsample_ratios',
        kv_per_win='kv_per_wins',
        qk_dim='qk_dims')
    attn_cfg = [
        _chosen(
            {
                **hyper,
                **{
                    k: (hyper.get(v) or [None] * 4)[i]
                    for k, v in per_stage.items()
                }
            }, _ROUTING) for i in range(4)
    ]
    return BiFormer(
        dict(
            depth=hyper['depth'],
            embed_dim=hyper['embed_dim'],
            mlp_ratios=hyper['mlp_ratios'],
            topks=hyper['topks'],
            before_attn_dwconv=max(hyper.get('before_attn_dwconv', 3), 0)),
        n_win=hyper['n_win'],
        auto_pad=hyper.get('auto_pad', False),
        head_dim=hyper.get('head_dim', 32),
        side_dwconv=hyper.get('side_dwconv', 5),
        attn_cfg=attn_cfg,
        out_indices=(0, 1, 2, 3) if dense else (3, ),
        final_norm=not dense,
        extra_norms=dense,
        # -1 is none, too
        layer_scale_init_value=max(
            hyper.get('layer_scale_init_value') or 0, 0),
        **_chosen(hyper, ('mlp_dwconv', 'pre_norm')))


def _network(case: Case) -> dict[str, Tensor]:
    weights = {
        # a fixture holds no scalars
        name: value.squeeze() if name.endswith('tracked') else value
        for name, value in case.group('param').items()
    }
    dense = any(name.startswith('extra_norms') for name in weights)
    head = {k: weights.pop(k) for k in list(weights) if k.startswith('head.')}
    backbone = _backbone(case.hyper, dense).double().eval()
    backbone.load_state_dict(weights)
    source = 'image' if 'in/image' in case else 'x'
    image = case[f'in/{source}'].clone().requires_grad_()
    features = backbone(image)
    found = {}
    if dense:
        scalar = sum(feature.square().mean() for feature in features)
        # one array per stage, whatever it is called
        for key, value in case.group('out').items():
            found.update({
                f'out/{key}': feature
                for feature in features if feature.shape == value.shape
            })
    else:
        logits = F.linear(features[0].mean((2, 3)), head['head.weight'],
                          head['head.bias'])
        scalar = logits.square().sum()
        found['out/logits'] = logits
    scalar.backward()
    return {
        **found, 'out/scalar': scalar.reshape(1),
        f'grad/{source}': image.grad,
        **_gradients(case, backbone)
    }
