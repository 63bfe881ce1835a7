"""Adapter of the PACT fixtures."""
import torch
from golden import Case
from golden.low_bit import finish, leaf
from torch import Tensor

from mmcompress.quantization import PACT


def run(case: Case) -> dict[str, Tensor]:
    """Quantize, without the penalty."""
    alpha = case['param/alpha']
    quantizer = PACT(case.hyper['bits'], penalty=1.).to(alpha.dtype)
    with torch.no_grad():
        quantizer.alpha.copy_(alpha)
    x = leaf(case)
    y = quantizer(x)
    result = finish(
        case,
        dict(x=x),
        dict(alpha=quantizer.alpha),
        y,
        codes=quantizer.quantize_int(case['in/x']).values)
    if 'out/reg' in case:
        # what is added to the gradient is the derivative of the penalty
        quantizer.alpha.grad.zero_()
        with torch.no_grad():
            quantizer.before_step()
        result['out/reg'] = quantizer.alpha.grad * alpha / 2
    return result
