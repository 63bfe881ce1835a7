"""Adapter of the Q-ViT fixtures."""
import torch
import torch.nn.functional as F
from golden import Case
from golden.attention import run_vit_attention
from golden.low_bit import (finish, layer_state, leaf, quantized_layer,
                            run_layer, run_quantizer)
from golden.nkd import labelled
from mmengine.registry import DefaultScope
from torch import Tensor

from mmcompress.distill.losses import DGDLoss, HardKDLoss, KDLoss
from mmcompress.distill.losses.q_vit import token_similarity
from mmcompress.quantization import LSQ, Spec
from mmcompress.quantization.layers import QuantLayer
from mmcompress.registry import MODELS


def weight_quant(bits: int) -> dict:
    """As the released code of Q-ViT and Q-DETR quantizes weights."""
    return dict(
        type='LSQ', bits=bits, signed=True, init='lsq', init_stat='tensor')


def input_quant(bits: int) -> dict:
    """As it quantizes activations."""
    return dict(
        type='LSQ',
        bits=bits,
        offset='zero_point',
        init='lsq',
        init_stat='tensor')


def layer_of(case: Case, prefix: str = '') -> QuantLayer:
    """A linear layer or a convolution."""
    bits = case.hyper.get('bits', 8)
    return quantized_layer(case, weight_quant(bits), input_quant(bits), prefix)


def run_linear(case: Case) -> dict[str, Tensor]:
    """``LinearQ``, ``Conv2dQ``."""
    return run_layer(case, layer_of(case))


def run_act(case: Case) -> dict[str, Tensor]:
    """``ActQ``: heads of four dimensions, else channels, the last one."""
    size = len(case['param/alpha'])
    axis = 1 if case['in/x'].dim() == 4 else -1
    if size == 1 != case['in/x'].shape[axis]:
        axis = None
    cfg = input_quant(case.hyper['bits'])
    del cfg['type']
    return run_quantizer(case, LSQ(axis=axis, size=size, **cfg))


def run_mlp(case: Case) -> dict[str, Tensor]:
    """``Q_Mlp``."""
    fc1, fc2 = layer_of(case, 'fc1.'), layer_of(case, 'fc2.')
    x = leaf(case)
    y = fc2(F.gelu(fc1(x)).clamp(-10, 10))
    state = layer_state(fc1, 'fc1.') | layer_state(fc2, 'fc2.')
    return finish(case, dict(x=x), state, y)


def run_dgd(case: Case) -> dict[str, Tensor]:
    """Loss of all layers, and the student's similarities."""
    hyper = {k: v for k, v in case.hyper.items() if k in ('norm', 'eps')}
    student = {
        key: case[f'in/{key}_s'].clone().requires_grad_()
        for key in 'qk'
    }
    teacher = {key: list(case[f'in/{key}_t']) for key in 'qk'}
    loss = DGDLoss(**hyper)({k: list(v) for k, v in student.items()}, teacher)
    grads = torch.autograd.grad(loss, list(student.values()))
    return {
        'out/loss': loss,
        **{f'out/sim_{k}': token_similarity(case[f'in/{k}'], **hyper)
           for k in ('q_s', 'k_s', 'q_t', 'k_t')},
        **{f'grad/{k}_s': g
           for k, g in zip(student, grads)}
    }  # yapf: disable


def run_distillation(case: Case) -> dict[str, Tensor]:
    """Labels for the class token, the teacher for the other one."""
    logits = {
        key: case[f'in/{key}'].clone().requires_grad_()
        for key in ('logits_cls', 'logits_dist')
    }
    hyper = dict(case.hyper)
    kind, alpha = hyper['type'], hyper['alpha']
    num_classes = logits['logits_cls'].shape[1]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = MODELS.build(
            dict(
                type='mmcompress.QDeiTClsHead',
                num_classes=num_classes,
                in_channels=num_classes,
                loss=dict(
                    type='CrossEntropyLoss',
                    loss_weight=1 - alpha if kind != 'none' else 1.0)))
    # so that the tokens are the logits
    for layer in head.layers:
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    feats = (tuple(logits.values()), )
    head.double()
    total = head.loss(feats, labelled(case['in/labels']))['loss']
    taught = head.both(feats)[1], case['in/teacher_logits']
    if kind == 'hard':
        total = total + HardKDLoss(alpha)(*taught)
    elif kind == 'soft':
        total = total + KDLoss(hyper['tau'], 'mean', alpha)(*taught)
    grads = torch.autograd.grad(
        total, list(logits.values()), materialize_grads=True)
    return {
        'out/loss': total,
        **{f'grad/{k}': g
           for k, g in zip(logits, grads)}
    }  # yapf: disable


def run_attention(case: Case) -> dict[str, Tensor]:
    """``Q_Attention``."""
    bits = case.hyper['bits']
    return run_vit_attention(
        case,
        Spec(
            weight=weight_quant(bits),
            activation=input_quant(bits),
            attention=input_quant(bits),
            query_norm=dict(type='IRM'),
            key_norm=dict(type='IRM'),
            act_granularity='channel'))


_RUN = dict(
    LinearQ=run_linear,
    Conv2dQ=run_linear,
    ActQ=run_act,
    Q_Mlp=run_mlp,
    DGD=run_dgd,
    DistillationLoss=run_distillation,
    Q_Attention=run_attention,
)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    return _RUN[case.kind](case) if case.kind in _RUN else None
