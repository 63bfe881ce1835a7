"""Adapter of the LSQ fixtures, and of what LSQ+ shares with it."""
import torch
from golden import Case
from golden.low_bit import begin, finish, leaf
from torch import Tensor

from mmcompress.quantization import LSQ


def build(case: Case, offset: str | None) -> LSQ:
    """The quantizer, not begun."""
    hyper = case.hyper
    x, axis = case['in/x'], hyper.get('axis')
    quantizer = LSQ(
        hyper['bits'],
        axis=axis,
        size=1 if axis is None else x.shape[axis],
        signed=hyper['signed'],
        offset=offset,
        mask=hyper.get('mask', 'clip'),
        init='lsq',
        init_stat=hyper.get('init_stat', 'channel'),
        grad_scale=hyper.get('grad_scale', 'numel'))
    return quantizer.to(x.dtype)


def run(case: Case, offset: str | None = None) -> dict[str, Tensor]:
    """Quantize; and begin with the same values."""
    fresh = build(case, offset)
    fresh.initialize(case['in/x'])
    quantizer = begin(build(case, offset), case.group('param'))
    x = leaf(case)
    y = quantizer(x)
    outputs = dict(
        codes=quantizer.quantize_int(case['in/x']).values, s_init=fresh.scale)
    state = dict(s=quantizer.scale)
    if offset is not None:
        outputs['beta_init'] = fresh.beta
        state['beta'] = quantizer.beta
    assert torch.equal(quantizer.quantize_int(x.detach()).dequantize(), y)
    return finish(case, dict(x=x), state, y, **outputs)
