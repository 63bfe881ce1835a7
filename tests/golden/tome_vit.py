"""ToMe's whole vision transformers, by mmpretrain's classes and our step."""
import re

import torch
import torch.nn as nn
import torch.nn.functional as F
from golden import Case
from mmpretrain.models import DistilledVisionTransformer, VisionTransformer
from torch import Tensor

from mmcompress.tokens import MergeTokens, Tokens

_NAMES = (('patch_embed.proj.', 'patch_embed.projection.'),
          ('blocks.', 'layers.'), ('.norm1.', '.ln1.'), ('.norm2.', '.ln2.'),
          ('mlp.fc1.', 'ffn.layers.0.0.'), ('mlp.fc2.', 'ffn.layers.1.'),
          ('norm.', 'ln1.'))


def _renamed(name: str) -> str:
    for old, new in _NAMES:
        if old == 'norm.':
            name = re.sub(r'^norm\.', new, name)
        else:
            name = name.replace(old, new)
    return name


def run_vit(case: Case) -> dict[str, Tensor]:
    """Logits, tokens behind each block, masses, groups, and gradients."""
    hyper = case.hyper
    distilled = hyper['distilled']
    kind = DistilledVisionTransformer if distilled else VisionTransformer
    backbone = kind(
        arch=dict(
            embed_dims=hyper['embed_dim'],
            num_layers=hyper['depth'],
            num_heads=hyper['num_heads'],
            feedforward_channels=int(hyper['embed_dim'] * hyper['mlp_ratio'])),
        img_size=hyper['img_size'],
        patch_size=hyper['patch_size'],
        norm_cfg=dict(type='LN', eps=hyper['ln_eps']),
        out_type='cls_token').double()
    params = case.group('param')
    state = {_renamed(name): value for name, value in params.items()}
    missing, _ = backbone.load_state_dict(state, strict=False)
    assert set(missing) <= {'ln1.weight', 'ln1.bias'}, missing
    if 'fc_norm.weight' in params:
        # its own norm stands behind the pooling
        backbone.ln1 = nn.Identity()
    backbone.eval()
    r = hyper['r']
    model = nn.Module()
    model.backbone = backbone
    MergeTokens(
        tuple(r) if hyper['r_kind'] == 'tuple' else r,
        proportional=hyper['prop_attn'])(
            model)
    seen = []
    for layer in backbone.layers:
        layer.register_forward_hook(lambda m, i, out: seen.append(out))
    image = case['in/image'].requires_grad_()
    out = backbone(image)[-1]
    last = Tokens.of(seen[-1])

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, params[f'{name}.weight'], params[f'{name}.bias'])

    if 'fc_norm.weight' in params:
        pooled = last.full()[:, 1:].mean(dim=1)
        pooled = F.layer_norm(pooled, pooled.shape[-1:],
                              params['fc_norm.weight'], params['fc_norm.bias'],
                              hyper['ln_eps'])
        logits = linear(pooled, 'head')
    elif distilled:
        logits = (linear(out[0], 'head') + linear(out[1], 'head_dist')) / 2
    else:
        logits = linear(out, 'head')
    (logits * case['in/cotangent']).sum().backward()
    results = {'out/logits': logits, 'grad/image': image.grad}
    for i, tokens in enumerate(seen):
        results[f'out/tokens_{i}'] = Tokens.of(tokens).x
    if last.group is not None:
        results['out/size'] = last.mass
        one_hot = F.one_hot(last.group, last.x.size(1))
        results['out/source'] = one_hot.mT.to(torch.uint8)
    grads = {n: p.grad for n, p in backbone.named_parameters()}
    for key in case.arrays:
        name = key.removeprefix('grad/')
        if key.startswith('grad/') and _renamed(name) in grads:
            results[key] = grads[_renamed(name)]
    return results
