"""CrossGET on CLIP: the visual tower, and a whole step of training."""
import re

import torch
import torch.nn as nn
from golden import Case
from mmengine.registry import DefaultScope
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor

from mmcompress.tokens import CLIPRetrieval, CrossGET
from mmcompress.tokens.cross_loss import cross_features

# official name -> ours
_LAYER = {
    'ln_1.': 'ln1.',
    'ln_2.': 'ln2.',
    'attn.in_proj_': 'attn.qkv.',
    'attn.out_proj.': 'attn.proj.',
    'mlp.c_fc.': 'ffn.layers.0.0.',
    'mlp.c_proj.': 'ffn.layers.1.'
}
_OUTSIDE = {
    'conv1.weight': 'patch_embed.projection.weight',
    'class_embedding': 'cls_token',
    'positional_embedding': 'pos_embed',
    'ln_pre.': 'pre_norm.',
    'ln_post.': 'ln1.'
}


def _translate(name: str, names: dict[str, str]) -> str:
    for official, ours in names.items():
        if name.startswith(official):
            return ours + name.removeprefix(official)
    raise KeyError(name)


def _visual_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official parameters of the visual tower, but its projection, as ours."""
    ours = {}
    for name, value in state.items():
        found = re.fullmatch(r'transformer\.resblocks\.(\d+)\.(.*)', name)
        if found:
            number, rest = found.groups()
            ours[f'layers.{number}.{_translate(rest, _LAYER)}'] = value
        elif name == 'transformer.cross_image':
            for i, offset in enumerate(value[0]):
                ours[f'layers.{i}.cross_token'] = offset
        elif name != 'proj':
            ours[_translate(name, _OUTSIDE)] = value
    ours['cls_token'] = ours['cls_token'].view(1, 1, -1)
    ours['pos_embed'] = ours['pos_embed'][None]
    return ours


def _visual_config(hyper: dict) -> dict:
    return dict(
        arch=dict(
            embed_dims=hyper['width'],
            num_layers=hyper['layers'],
            num_heads=hyper['heads'],
            feedforward_channels=4 * hyper['width']),
        img_size=hyper['img'],
        patch_size=hyper['patch'],
        norm_cfg=dict(type='LN', eps=1e-5),
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
        pre_norm=True)


def _offsets(layers: nn.ModuleList) -> Tensor:
    """Gradients of offsets, as the official parameter has them."""
    return torch.stack([layer.cross_token.grad for layer in layers])[None]


def run_visual(case: Case) -> dict[str, Tensor]:
    """The visual tower, trained by the class token and by cross tokens."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        tower = VisionTransformer(**_visual_config(case.hyper)).double()
    holder = nn.ModuleDict(dict(visual=tower))
    CrossGET(vision=case.hyper['r'])(holder)
    tower.load_state_dict(_visual_state(case.group('param')))
    proj = case['param/proj'].clone().requires_grad_()
    image = case['in/image'].clone().requires_grad_()

    def features() -> tuple[Tensor, Tensor]:
        (out, ), crosses = tower(image, with_crosses=True)
        return out @ proj, cross_features(list(crosses), tower.pre_norm, proj)

    tower.train()
    masses = []
    tower.ln1.register_forward_pre_hook(
        lambda _, inputs: masses.append(inputs[0].mass))
    cls, cross = features()
    (cross * case['in/cot_cross']).sum().backward()
    only = _offsets(tower.layers)
    others = [p for n, p in tower.named_parameters() if 'cross_token' not in n]
    assert all(p.grad is None or not p.grad.any() for p in others)
    tower.zero_grad()
    cls, cross = features()
    ((cls * case['in/cot_cls']).sum() +
     (cross * case['in/cot_cross']).sum()).backward()
    tower.eval()
    with torch.no_grad():
        evaluated = tower(image)[0] @ proj
    key = 'transformer.resblocks.0.attn.in_proj_weight'
    return {
        'out/x_cls': cls,
        'out/x_cross': cross,
        'out/x_cls_eval': evaluated,
        'out/token_size': masses[0],
        'grad/image': image.grad,
        'grad/transformer.cross_image': _offsets(tower.layers),
        f'grad/{key}': tower.layers[0].attn.qkv.weight.grad,
        'grad/proj': proj.grad,
        'grad/transformer.cross_image__from_cross_only': only
    }


def run_clip(case: Case) -> dict[str, Tensor]:
    """A training step of both towers."""
    hyper = case.hyper
    state = case.group('param')
    vocab, width = state['token_embedding.weight'].shape
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = CLIPRetrieval(
            vision_backbone=dict(
                type='VisionTransformer', **_visual_config(hyper)),
            projection=dict(
                type='CLIPProjection',
                in_channels=hyper['width'],
                out_channels=hyper['proj_dim']),
            text_backbone=dict(
                type='CLIPTransformer',
                width=width,
                layers=hyper['layers'],
                heads=hyper['heads']),
            tokenizer={},
            vocab_size=vocab,
            transformer_width=width,
            proj_dim=hyper['proj_dim'],
            context_length=hyper['context'],
            js_weight=hyper['w']).double()
    CrossGET(vision=hyper['rv'], text=hyper['rl'])(model)
    model.load_state_dict(_clip_state(state))
    for module in model.modules():
        if isinstance(module, nn.LayerNorm) and 'forward' in vars(
                type(module)):
            # CLIP's computes in float32
            module.__class__ = nn.LayerNorm
    model.train()
    losses = model.losses(case['in/image'], case['in/text'], case['in/idx'])
    total = sum(losses.values())
    total.backward()
    feature, crosses = model.run_text(case['in/text'])
    model.eval()
    with torch.no_grad():
        evaluated = model.extract_text_feat(case['in/text'])
    return {
        'out/loss_ita':
        losses['loss_ita'].view(1) / (1 - hyper['w']),
        'out/loss_kd':
        losses['loss_js'].view(1) / hyper['w'],
        'out/total':
        total.view(1),
        'out/text_features':
        feature,
        'out/text_cross':
        cross_features(list(crosses), model.ln_final, model.text_projection),
        'out/text_features_eval':
        evaluated,
        'grad/visual.transformer.cross_image':
        _offsets(model.visual.layers),
        'grad/transformer.cross_text':
        _offsets(model.transformer.resblocks),
        'grad/text_projection':
        model.text_projection.grad,
        'grad/token_embedding.weight':
        model.token_embedding.weight.grad,
        'grad/logit_scale':
        model.logit_scale.grad.view(1)
    }


def _clip_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official parameters of both towers as ours."""
    visual = {
        name.removeprefix('visual.'): value
        for name, value in state.items() if name.startswith('visual.')
    }
    ours = {
        f'visual.{name}': value
        for name, value in _visual_state(visual).items()
    }
    ours['visual_proj.proj'] = visual['proj']
    for name, value in state.items():
        if name == 'transformer.cross_text':
            for i, offset in enumerate(value[0]):
                ours[f'transformer.resblocks.{i}.cross_token'] = offset
        elif not name.startswith('visual.'):
            ours[name] = value.view(()) if name == 'logit_scale' else value
    return ours
