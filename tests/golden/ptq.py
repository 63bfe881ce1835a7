"""Adapter of the fixtures of observers."""
import torch
from golden import Case
from torch import Tensor

from mmcompress.quantization import (LSQ, MinMax, MovingAverage, Observer,
                                     Percentile)


def observer_of(case: Case, x: Tensor) -> Observer:
    """The fixture's observer; channels are the first axis of a batch."""
    hyper = case.hyper
    kind = hyper['observer']
    per_channel = kind == 'perch' or hyper.get('axis') is not None
    axis = hyper.get('ch_axis', hyper.get('axis')) or 0
    place = dict(axis=axis, size=x.shape[axis]) if per_channel else {}
    quantizer = LSQ(8, **place)
    if kind == 'percentile':
        return Percentile(quantizer, hyper['percentile'])
    if kind == 'ema':
        return MovingAverage(quantizer, hyper['averaging_constant'])
    return MinMax(quantizer)


def run(case: Case) -> dict[str, Tensor]:
    """Feed all batches, quantize the last one."""
    hyper = case.hyper
    batches = case['in/x']
    if hyper['observer'] == 'percentile':
        # of one batch only
        batches = batches[None]
    observer = observer_of(case, batches[0])
    for x in batches:
        observer(x)
    low, high = hyper['qmin'], hyper['qmax']
    scale, zero_point = observer.scale_and_zero_point(
        low, high, hyper.get('symmetric', False))
    s = observer.quantizer._along(scale, x)
    z = observer.quantizer._along(zero_point, x)
    y = ((torch.round(x / s) + z).clamp(low, high) - z) * s
    least, largest = observer.range()
    result = dict(
        scale=scale,
        zero_point=zero_point,
        min=least,
        max=largest,
        lo=least.clamp(max=0),
        hi=largest.clamp(min=0),
        y=y,
        y_last=y)
    return {
        f'out/{key}': value.reshape(case[f'out/{key}'].shape)
        for key, value in result.items() if f'out/{key}' in case
    }
