"""Adapter of the DoReFa fixtures."""
from golden import Case
from golden.low_bit import finish, leaf
from torch import Tensor

from mmcompress.quantization import DoReFaActivation, DoReFaWeight


def run(case: Case) -> dict[str, Tensor]:
    """Weights or activations."""
    bits = case.hyper['bits']
    if 'in/w' in case:
        key = 'w'
        quantizer = DoReFaWeight(
            bits, detach_max=case.hyper.get('detach_max', True))
    else:
        key, quantizer = 'x', DoReFaActivation(bits)
    x = leaf(case, f'in/{key}')
    codes = quantizer.quantize_int(case[f'in/{key}']).values
    return finish(case, {key: x}, {}, quantizer(x), codes=codes)
