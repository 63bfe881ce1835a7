"""Adapter of the Q-DETR fixtures."""
from golden import Case
from golden.low_bit import run_quantizer
from golden.q_vit import input_quant, run_linear
from torch import Tensor

from mmcompress.quantization import LSQ


def run_act(case: Case) -> dict[str, Tensor]:
    """``ActLSQ``, whose axis is the first one of its size."""
    size = len(case['param/alpha'])
    axis = list(case['in/x'].shape).index(size)
    if 'axis' in case.hyper:
        axis = case.hyper['axis']
    cfg = input_quant(case.hyper['bits'])
    del cfg['type']
    return run_quantizer(case, LSQ(axis=axis, size=size, **cfg))


_RUN = dict(
    LinearLSQ=run_linear,
    Conv2dLSQ=run_linear,
    ActLSQ=run_act,
)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    return _RUN[case.kind](case) if case.kind in _RUN else None
