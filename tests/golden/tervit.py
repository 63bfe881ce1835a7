"""Adapter of the TerViT fixtures."""
from golden import Case
from golden.low_bit import finish, leaf, quantized_layer, run_layer
from torch import Tensor

from mmcompress.quantization import Dynamic, TernaryWeight

_KINDS = dict(sym='symmetric', asym='minmax')


def ternary_options(case: Case) -> dict:
    """Of the ternary quantizer."""
    hyper = case.hyper
    return {
        key: hyper[key]
        for key in ('factor', 'alpha') if key in hyper
    } | dict(clip=hyper.get('clip_val', 2.5))


def run_ternary(case: Case) -> dict[str, Tensor]:
    """A weight."""
    w = leaf(case, 'in/w')
    place = dict(axis=0, size=len(w)) if case.hyper['per_channel'] else {}
    quantizer = TernaryWeight(**place, **ternary_options(case))
    rows = quantizer.statistics(case['in/w'])
    return finish(
        case,
        dict(w=w), {},
        quantizer(w),
        codes=quantizer.quantize_int(case['in/w']).values,
        alpha=rows.alpha,
        threshold=rows.threshold)


def run_8bit(case: Case) -> dict[str, Tensor]:
    """Values between their least and largest one."""
    hyper = case.hyper
    kind = case.kind if case.kind in _KINDS else hyper['kind']
    quantizer = Dynamic(
        hyper.get('bits', 8),
        kind=_KINDS[kind],
        clip=hyper.get('clip_val', 2.5),
        per_token=not hyper['per_tensor'])
    x = leaf(case)
    return finish(case, dict(x=x), {}, quantizer(x))


def run_linear(case: Case) -> dict[str, Tensor]:
    """A linear layer, of 8-bit or ternary weights."""
    hyper = case.hyper
    bits, clip = hyper.get('bits', 8), hyper.get('clip_val', 2.5)
    eight = dict(type='Dynamic', bits=bits, clip=clip)
    weight = dict(eight, kind='symmetric')
    if hyper['stage'] == 2:
        weight = dict(type='TernaryWeight', **ternary_options(case))
    layer = quantized_layer(
        case,
        weight,
        dict(eight, kind=_KINDS[hyper['act']]),
        act_granularity='tensor')
    return run_layer(case, layer)


_RUN = dict(
    ternary_weight=run_ternary,
    sym=run_8bit,
    asym=run_8bit,
    quant8=run_8bit,
    linear=run_linear)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    return _RUN[case.kind](case) if case.kind in _RUN else None
