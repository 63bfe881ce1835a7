"""G2SD: its generic stage, and the specific stages of three tasks."""
from unittest import mock

import torch
import torch.nn.functional as F
from golden import Case
from golden.nkd import labelled
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmcompress.distill.builder import build_slot
from mmcompress.distill.losses import (CWDLoss, G2SDDetLoss, G2SDGenericLoss,
                                       HardKDLoss, KDLoss, NKDLoss)
from mmcompress.registry import MODELS as OUR_MODELS

# names of timm's vision transformer, and mmpretrain's
_NAMES = {
    'patch_embed.proj': 'patch_embed.projection',
    'blocks': 'layers',
    'norm1': 'ln1',
    'norm2': 'ln2',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
}
_PREDICTOR = {'fc1': '0', 'fc2': '2'}


def run(case: Case) -> dict[str, Tensor] | None:
    """Run the stage that the fixture is about."""
    stages = dict(
        generic=_masked_autoencoders if 'in/imgs' in case else _generic,
        specific_cls=_classification,
        specific_det=_detection,
        specific_seg=_segmentation)
    stage = stages.get(case.kind)
    return None if stage is None else stage(case)


def _predictor_name(name: str) -> str:
    layer, _, kind = name.rpartition('.')
    return f'predictor.{_PREDICTOR[layer]}.{kind}'


def _generic_loss(case: Case,
                  student_dims: int,
                  teacher_dims: int,
                  weights: dict[str, Tensor],
                  name: str = 'decoderfeature_pred.') -> G2SDGenericLoss:
    loss = G2SDGenericLoss(student_dims, teacher_dims,
                           case.hyper['supervise_all'],
                           case.hyper.get('beta', 2.0)).double()
    loss.load_state_dict({
        _predictor_name(key.removeprefix(name)): value
        for key, value in weights.items() if key.startswith(name)
    })
    return loss


def _generic(case: Case) -> dict[str, Tensor]:
    """The loss alone, from what decoders gave."""
    hidden = case['in/student_decoder_hidden'].clone().requires_grad_()
    taught = case['in/teacher_decoder_hidden']
    loss = _generic_loss(case, hidden.shape[-1], taught.shape[-1],
                         case.group('param'))
    mask = case['in/mask']
    total = loss(
        dict(hidden=hidden, mask=mask), dict(hidden=taught, mask=mask))
    total.backward()
    gradients = dict(loss.named_parameters())
    return {
        'out/loss': total,
        'out/pred': loss.predictor(hidden),
        'out/target': loss.target(taught),
        'grad/student_decoder_hidden': hidden.grad,
        **{
            f'grad/decoderfeature_pred.{k}': gradients[_predictor_name(k)].grad
            for k in ('fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias')
        }
    }


def _autoencoder(hyper: dict, side: str) -> dict:
    """Config of a masked autoencoder of mmpretrain."""
    dims, plain = hyper[side], side == 'teacher'
    num_patches = (hyper['img_size'] // hyper['patch_size'])**2
    neck = dict(
        type='mmpretrain.MAEPretrainDecoder'
        if plain else 'mmcompress.MAEFeatureDecoder',
        num_patches=num_patches,
        patch_size=hyper['patch_size'],
        embed_dim=dims['embed_dim'],
        decoder_embed_dim=dims['decoder_embed_dim'],
        decoder_depth=dims['decoder_depth'],
        decoder_num_heads=dims['decoder_num_heads'],
        mlp_ratio=hyper['mlp_ratio'])
    return dict(
        type='mmpretrain.MAE' if plain else 'mmcompress.MAEWithoutPixels',
        _scope_='mmpretrain',
        data_preprocessor=dict(type='SelfSupDataPreprocessor'),
        backbone=dict(
            type='MAEViT',
            arch=dict(
                embed_dims=dims['embed_dim'],
                num_layers=dims['depth'],
                num_heads=dims['num_heads'],
                feedforward_channels=int(dims['embed_dim'] *
                                         hyper['mlp_ratio'])),
            img_size=hyper['img_size'],
            patch_size=hyper['patch_size'],
            mask_ratio=hyper['mask_ratio']),
        neck=neck,
        head=dict(
            type='MAEPretrainHead',
            patch_size=hyper['patch_size'],
            loss=dict(type='PixelReconstructionLoss', criterion='L2'))
        if plain else None)


def _mm_name(name: str) -> str:
    """Name of a weight of the official MAE in mmpretrain's."""
    for old, new in _NAMES.items():
        name = name.replace(old, new)
    if name.startswith(('decoder_', 'mask_token')):
        # the blocks of the decoder keep their name
        name = name.replace('decoder_layers', 'decoder_blocks')
        return f'neck.{name}'
    return 'backbone.' + name.replace('norm.', 'ln1.')


def _of_side(arrays: dict[str, Tensor], side: str) -> dict[str, Tensor]:
    """Arrays of one model, without its name in front."""
    return {
        name.removeprefix(f'{side}.'): value
        for name, value in arrays.items() if name.startswith(f'{side}.')
    }


def _fill(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load the weights; only MAE's own pixel head may miss some."""
    state = {
        _mm_name(name): value
        for name, value in weights.items() if 'feature_pred' not in name
    }
    keys = model.load_state_dict(state, strict=False)
    assert not keys.unexpected_keys
    assert all(
        key.startswith(('neck.ln', 'neck.decoder_pred', 'distill.'))
        for key in keys.missing_keys), keys.missing_keys


def _masked_autoencoders(case: Case) -> dict[str, Tensor]:
    """Whole models in a distiller, with the fixture's noise."""
    hyper = case.hyper
    last = hyper['student']['decoder_depth'] - 1
    taps = dict(mask='backbone[1]')
    dims = {
        side: hyper[side]['decoder_embed_dim']
        for side in ('student', 'teacher')
    }
    model = MODELS.build(
        dict(
            type='mmcompress.Distill',
            student=_autoencoder(hyper, 'student'),
            teacher=dict(
                cfg=_autoencoder(hyper, 'teacher'),
                mode='loss',
                allow_random=True),
            shared_draws='backbone.random_masking',
            losses=dict(
                loss_g2sd=dict(
                    type='mmcompress.G2SDGenericLoss',
                    student=dict(hidden=f'neck.decoder_blocks.{last}', **taps),
                    teacher=dict(
                        hidden=f'neck.decoder_blocks.'
                        f'{hyper["teacher_layer"] - 1}',
                        **taps),
                    student_dims=dims['student'],
                    teacher_dims=dims['teacher'],
                    supervise_all=hyper['supervise_all'])))).double()
    model.distill.prepare()
    weights = _of_side(case.group('param'), 'student')
    _fill(model, weights)
    _fill(model.distill.teacher.model,
          _of_side(case.group('param'), 'teacher'))
    loss = _generic_loss(case, dims['student'], dims['teacher'], weights)
    model.distill.loss_g2sd.load_state_dict(loss.state_dict())
    seen, encoded = {}, []
    model.distill.loss_g2sd.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    for module in (model.distill.teacher.model.backbone.layers[-1],
                   model.backbone):
        module.register_forward_hook(lambda *args: encoded.append(args[-1]))
    with mock.patch('torch.rand', return_value=case['in/noise'].double()):
        losses = model.loss(case['in/imgs'].double())
    losses['loss_g2sd'].backward()
    student, teacher = seen['student'], seen['teacher']
    hidden = teacher['hidden']
    pred = model.distill.loss_g2sd.predictor(student['hidden'])
    if not hyper['supervise_all']:
        masked = student['mask'].bool()
        hidden, pred = hidden[:, 1:][masked], pred[:, 1:][masked]
    # officially also computed, times zero
    unused = _generic_loss(case, hyper['student']['embed_dim'],
                           hyper['teacher']['embed_dim'], weights,
                           'encoderfeature_pred.')
    return {
        'out/loss_feature_unused':
        F.smooth_l1_loss(
            unused.predictor(encoded[1][0]),
            unused.target(encoded[0]),
            beta=unused.beta),
        'out/mask':
        student['mask'],
        'out/teacher_decoder_hidden':
        hidden,
        'out/pred':
        pred,
        'out/loss':
        losses['loss_g2sd'],
        **_gradients(model, case)
    }


def _gradients(model: nn.Module, case: Case) -> dict[str, Tensor]:
    """Gradients by the official names that the fixture has."""
    parameters = dict(model.named_parameters())
    result = {}
    for name in _of_side(case.group('grad'), 'student'):
        if name.startswith('decoderfeature_pred.'):
            own = _predictor_name(name.removeprefix('decoderfeature_pred.'))
            key = f'distill.loss_g2sd.{own}'
        else:
            key = _mm_name(name)
        result[f'grad/student.{name}'] = parameters[key].grad
    return result


def _classification(case: Case) -> dict[str, Tensor]:
    """Hard labels for the distillation token, or NKD alone."""
    cls_logits, dist_logits = (case[f'in/{name}_logits'].clone()
                               .requires_grad_()
                               for name in ('cls', 'dist'))  # yapf: disable
    taught, targets = case['in/teacher_logits'], case['in/targets']
    if case.hyper['enable_nkd']:
        terms = NKDLoss(
            temp=1.0, gamma=1.0)(cls_logits, taught, labelled(targets))
        loss_gt = loss_dis = total = sum(terms.values())
    else:
        head = OUR_MODELS.build(
            dict(
                type='mmcompress.DistTokenClsHead',
                num_classes=targets.shape[1],
                in_channels=1,
                loss=dict(type='mmpretrain.CrossEntropyLoss', use_soft=True)))
        loss_gt = head._get_loss(cls_logits, labelled(targets))['loss']
        loss_dis = HardKDLoss()(dist_logits, taught)
        total = (loss_gt + loss_dis) / 2
    # zero gradients where nothing depends on an input
    total = total + 0 * (cls_logits.sum() + dist_logits.sum())
    total.backward()
    return {
        'out/loss_gt': loss_gt,
        'out/loss_dis': loss_dis,
        'out/loss': total,
        'grad/cls_logits': cls_logits.grad,
        'grad/dist_logits': dist_logits.grad
    }


def _detection(case: Case) -> dict[str, Tensor]:
    """Features and objectness of all levels, with the warm-up."""
    hyper = case.hyper
    inputs = {k: v.clone() for k, v in case.group('in').items()}
    for name, value in inputs.items():
        value.requires_grad_('_s.' in name)
    num_levels = len([k for k in inputs if k.startswith('feat_s.')])

    def levels(side: str) -> dict:
        return {
            key: [inputs[f'{name}_{side}.{i}'] for i in range(num_levels)]
            for key, name in (('feats', 'feat'), ('objectness', 'rpn_logit'))
        }

    slot = build_slot(
        'loss_g2sd',
        dict(
            type='mmcompress.G2SDDetLoss',
            student='neck',
            teacher='neck',
            student_channels=inputs['feat_s.0'].shape[1],
            teacher_channels=inputs['feat_t.0'].shape[1],
            num_levels=num_levels,
            distill_feat_weight=hyper['distill_feat_weight'],
            distill_cls_weight=hyper['distill_cls_weight'],
            schedule=dict(
                type='IterWarmup', num_iters=hyper['distill_warm_step'])))
    slot.loss.double().load_state_dict({
        'adapters.' + name.removeprefix('stu_adapter.conv.'):
        value
        for name, value in case.group('param').items()
    })
    assert isinstance(slot.loss, G2SDDetLoss)
    hub = MessageHub.get_current_instance()
    with mock.patch.dict(hub.runtime_info, iter=hyper['iteration']):
        terms = slot.run(
            dict(
                student=levels('s'),
                teacher=levels('t'),
                data_samples=[],
                progress=0.0))
    sum(terms.values()).backward()
    return {
        'out/distill_feat_loss': terms['loss_g2sd.loss_feat'],
        'out/distill_cls_loss': terms['loss_g2sd.loss_cls'],
        **{
            f'grad/{k}': v.grad
            for k, v in inputs.items() if v.requires_grad
        },
        **{
            f'grad/stu_adapter.conv.{k.removeprefix("adapters.")}': v.grad
            for k, v in slot.loss.named_parameters()
        }
    }


def _segmentation(case: Case) -> dict[str, Tensor]:
    """CWD of the class maps, and KD as its ablation."""
    taught = case['in/seg_logit_t']
    tau, weight = case.hyper['tau'], case.hyper['weight']
    result = {}
    for name, loss in (('cwd', CWDLoss(tau, weight)),
                       ('kl', KDLoss(tau, 'mean', weight))):
        logits = case['in/seg_logit_s'].clone().requires_grad_()
        total = loss(logits, taught)
        total.backward()
        result[f'out/loss_{name}'] = total.detach()
        result[f'grad/seg_logit_s_{name}'] = logits.grad
    # officially the cross entropy, ours the divergence: a constant apart
    p = (taught.flatten(2) / tau).softmax(-1)
    entropy = torch.special.entr(p).sum(-1).mean()
    result['out/loss_cwd'] += weight * tau**2 * entropy
    return result
