"""Adapter of the Bi-ViT fixtures."""
import torch
from golden import Case
from golden.low_bit import (begin, finish, leaf, quantized_layer, run_layer,
                            run_quantizer)
from torch import Tensor

from mmcompress.distill.losses import RankDistillLoss
from mmcompress.quantization import LSF, ActBi, SignActivation


def zero_to(case: Case) -> int:
    """The sign of 0; the official code has 0."""
    return case.hyper.get('zero_to', 0)


def run_sign(case: Case) -> dict[str, Tensor]:
    """``BinaryActivation``."""
    x = leaf(case)
    return finish(case, dict(x=x), {},
                  SignActivation(zero_to=zero_to(case))(x))


def run_act(case: Case) -> dict[str, Tensor]:
    """``ActBi``: heads of four dimensions, else channels, the last one."""
    axis = 1 if case['in/x'].dim() == 4 else -1
    quantizer = ActBi(
        axis=axis, size=len(case['param/alpha']), zero_to=zero_to(case))
    return run_quantizer(case, quantizer)


def run_lsf(case: Case) -> dict[str, Tensor]:
    """``LSF``."""
    alpha = case['param/alpha']
    quantizer = begin(LSF(axis=1, size=len(alpha)), dict(alpha=alpha))
    x = leaf(case, 'in/A')
    codes = quantizer.quantize_int(case['in/A']).values
    return finish(
        case,
        dict(A=x),
        dict(alpha=quantizer.scale),
        quantizer(x),
        codes=codes)


def run_signs(case: Case, **options) -> dict[str, Tensor]:
    """A linear layer of signs, which have no learned scale."""
    zero = zero_to(case)
    layer = quantized_layer(
        case,
        dict(
            type='SignWeight',
            center=options.get('center', False),
            zero_to=zero),
        dict(
            type='SignActivation',
            ste=options.get('ste', 'bireal'),
            zero_to=zero),
        bias=options.get('bias'),
        act_granularity='tensor')
    return run_layer(case, layer)


def run_bireal(case: Case) -> dict[str, Tensor]:
    """``BiLinearBiReal``, which never adds its bias."""
    return run_signs(case, bias=False)


def run_w1a1(case: Case) -> dict[str, Tensor]:
    """``QuantizeLinear`` of one bit."""
    return run_signs(case, center=True, ste='clip')


def run_linear(case: Case) -> dict[str, Tensor]:
    """``LinearBi``."""
    cfg = dict(type='ActBi', zero_to=zero_to(case))
    return run_layer(case, quantized_layer(case, dict(cfg, offset=None), cfg))


def run_rank(case: Case) -> dict[str, Tensor]:
    """Loss of one layer's attention; the draw of pairs may be stored."""
    student = case['in/A_s'].clone().requires_grad_()
    loss = RankDistillLoss(
        theta=case.hyper.get('theta', 0.0),
        num_pairs=case.hyper.get('num_pairs'))
    if 'in/pairs' in case:
        # (..., P, 2)
        pairs = case['in/pairs'].long().unbind(-1)
        loss.num_pairs, loss.draw_pairs = 0, lambda *_: pairs
    value = loss([student], [case['in/A_t']])
    grad, = torch.autograd.grad(value, student)
    return {'out/loss': value, 'grad/A_s': grad}


_RUN = dict(
    BinaryActivation=run_sign,
    ActBi=run_act,
    LSF=run_lsf,
    BiLinearBiReal=run_bireal,
    LinearBi=run_linear,
    QuantizeLinear_w1a1=run_w1a1,
    RankDistill=run_rank,
)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    return _RUN[case.kind](case) if case.kind in _RUN else None
