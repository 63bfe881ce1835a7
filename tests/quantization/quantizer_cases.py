"""Every quantizer, what it is defined for, and its gradients in closed form.

A quantizer joins with a line in :data:`CASES`.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmcompress.quantization import (LSF, LSQ, PACT, ActBi, DoReFaActivation,
                                     DoReFaWeight, Dynamic, Observed,
                                     QNActivation, QNWeight, SignActivation,
                                     SignWeight, TernaryWeight)
from mmcompress.quantization.quantization_networks import QNQuantizer
from mmcompress.quantization.quantizer import Quantizer

SHAPE = (2, 3, 4, 5)
PLACES = dict(
    tensor={}, channel=dict(axis=-1, size=5), head=dict(axis=1, size=3))
SIGNS = (True, False, 'auto')
# of the gradients that are expected: by 'x' and names of parameters
Gradients = Callable[[Quantizer, Tensor, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """A quantizer.

    Attributes:
        cls (type[Quantizer]): Its class.
        gradients (Gradients): Closed form, of ``sum(y * dy)``.
        bits (int): Of a code.
        places (tuple[str, ...]): Of :data:`PLACES`, where it is defined.
        signs (tuple): Of :data:`SIGNS`, for which it is defined.
        rounds (bool): Whether it rounds by a scale that stays: then what it
            returns is returned again, and ties go to even codes.
        data (Callable): What it is given, of normal values.
        options (dict): Other arguments.
    """
    cls: type[Quantizer]
    gradients: Gradients
    bits: int
    places: tuple[str, ...] = tuple(PLACES)
    signs: tuple[bool | str, ...] = SIGNS
    rounds: bool = False
    data: Callable[[Tensor], Tensor] = torch.clone
    options: dict = field(default_factory=dict)

    def build(self,
              place: str = 'tensor',
              signed: bool | str | None = None) -> Quantizer:
        """A new one; signed as it can be, unless told."""
        if signed is None:
            signed = self.signs[0]
        quantizer = self.cls(
            self.bits, signed=signed, **PLACES[place], **self.options)
        if isinstance(quantizer, QNQuantizer):
            quantizer.set_temperature(3.)
        return quantizer

    @property
    def is_weight(self) -> bool:
        """Whether it is for weights, which all processes have."""
        return self.cls.__name__.endswith('Weight')

    def defined(self) -> Iterator[tuple[str, bool | str]]:
        """Places and signs."""
        return ((place, sign) for place in self.places for sign in self.signs)


# ---- Closed forms ----------------------------------------------------------


def along(quantizer: Quantizer, values: Tensor | None, x: Tensor):
    """Values per index of the axis, broadcasting; 0 for None."""
    if values is None:
        return 0
    if quantizer.axis is None:
        return values
    shape = [1] * x.dim()
    shape[quantizer.axis] = -1
    return values.view(shape)


def summed(quantizer: Quantizer, values: Tensor) -> Tensor:
    """Sums per index of the axis."""
    if quantizer.axis is None:
        return values.sum().view(1)
    return values.movedim(quantizer.axis, 0).flatten(1).sum(1)


def pass_where(inside: Callable[[Quantizer, Tensor], Tensor]) -> Gradients:
    """The gradient passes as it is in a region."""
    return lambda q, x, dy: dict(x=dy * inside(q, x))


def lsq(q: Quantizer, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
    low, high = q.low, q.high
    s, beta = along(q, q.scale, x), along(q, q.beta, x)
    z = along(q, q.zero_point, x)
    z = z.round() if isinstance(z, Tensor) else z
    g = (x.numel() * high)**-0.5
    v = (x - beta) / s
    u = v + z
    seen = (v.round() + z) if q.mask == 'rounded' else u
    inside = ((low <= seen) & (seen <= high)).to(x)
    code = u.clamp(low, high).round()
    grads = dict(
        x=dy * inside,
        scale=g * summed(q, dy * (code - z - inside * v)),
        beta=g * summed(q, dy * (1 - inside)),
        zero_point=g * summed(q, dy * s * (inside - 1)))
    return {
        k: v
        for k, v in grads.items() if k == 'x' or getattr(q, k) is not None
    }


def dorefa_weight(q: Quantizer, w: Tensor, dy: Tensor) -> dict[str, Tensor]:
    t = w.tanh()
    m = t.abs().max()
    dt = dy / m
    if not q.detach_max:
        largest = t.abs() == m
        dt = dt - largest * t.sign() * (dy * t).sum() / m**2
    return dict(x=dt * (1 - t**2))


def pact(q: Quantizer, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
    a = q.alpha
    return dict(
        x=dy * ((x >= 0) & (x < a)), alpha=(dy * (x >= a)).sum().view(1))


def act_bi(q: Quantizer, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
    s, z = along(q, q.scale, x), along(q, q.zero_point, x)
    z = z.round() if isinstance(z, Tensor) else z
    g = x.numel()**-0.5
    inside = ((x / s + z).abs() <= 1).to(x)
    code = torch.where(x / s + z >= 0, 1., -1.)
    grads = dict(
        x=dy * inside, scale=g * summed(q, dy * (code - z - inside * x / s)))
    if q.zero_point is not None:
        grads['zero_point'] = g * summed(q, dy * s * (inside - 1))
    return grads


def sign_weight(q: Quantizer, w: Tensor, dy: Tensor) -> dict[str, Tensor]:
    if not q.center:
        return dict(x=dy * (w.abs() <= 1))
    num = w.numel() if q.axis is None else w.numel() // q.size
    mean = along(q, summed(q, w) / num, w)
    dy = dy * ((w - mean).abs() <= 1)
    return dict(x=dy - along(q, summed(q, dy) / num, w))


def bireal(q: Quantizer, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
    slope = torch.where(x < 0, 2 + 2 * x, 2 - 2 * x)
    return dict(x=dy * slope * (x.abs() < 1))


def soft_steps(q: Quantizer, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
    gaps = torch.tensor(q.levels).diff()
    u = q.temperature * (q.beta * x[..., None] - q.thresholds)
    p = u.clamp(-10, 10).sigmoid()
    y = q.levels[0] + (gaps * p).sum(-1)
    slope = q.temperature * (gaps * p * (1 - p)).sum(-1)
    return dict(
        x=dy * q.alpha * q.beta * slope,
        alpha=(dy * y).sum().view(1),
        beta=(dy * q.alpha * x * slope).sum().view(1))


def in_codes(q: Quantizer, x: Tensor) -> Tensor:
    u = x / along(q, q.scale, x) + along(q, q.zero_point, x)
    return (q.low <= u) & (u <= q.high)


def clipped(q: Quantizer, x: Tensor) -> Tensor:
    return x.abs() < q.clip


def everywhere(q: Quantizer, x: Tensor) -> Tensor:
    return torch.ones_like(x)


# ---- Table -----------------------------------------------------------------

_TENSOR = ('tensor', )
_WEIGHT = dict(signs=(True, ))
_LAYERWISE = dict(places=_TENSOR, signs=(True, ))
_UNSIGNED = dict(places=_TENSOR, signs=(False, ))


def _lsq(bits: int, **options) -> Case:
    return Case(LSQ, lsq, bits, rounds=True, options=options)


def _observed(method: str, symmetric: bool) -> Case:
    return Case(
        Observed,
        pass_where(in_codes),
        8,
        rounds=True,
        options=dict(method=method, symmetric=symmetric))


def _dynamic(**options) -> Case:
    sign = options['kind'] == 'symmetric'
    places = _TENSOR if 'per_token' in options else tuple(PLACES)
    return Case(
        Dynamic,
        pass_where(clipped),
        8,
        places=places,
        signs=(sign, ),
        options=options)


CASES: dict[str, Case] = dict(
    lsq=_lsq(3),
    lsq_mse=_lsq(8, init='mse'),
    lsq_rounded=_lsq(3, mask='rounded'),
    lsqplus=_lsq(4, offset='beta'),
    lsq_zero_point=_lsq(2, offset='zero_point', init_stat='tensor'),
    dorefa_weight=Case(DoReFaWeight, dorefa_weight, 4, **_LAYERWISE),
    dorefa_weight_flow=Case(
        DoReFaWeight,
        dorefa_weight,
        2,
        options=dict(detach_max=False),
        **_LAYERWISE),
    dorefa_weight_1bit=Case(DoReFaWeight, pass_where(everywhere), 1,
                            **_LAYERWISE),
    dorefa_activation=Case(DoReFaActivation,
                           pass_where(lambda q, x: (0 <= x) & (x <= 1)), 3,
                           **_UNSIGNED),
    pact=Case(PACT, pact, 4, rounds=True, options=dict(alpha=1.), **_UNSIGNED),
    ternary=Case(TernaryWeight, pass_where(clipped), 2, **_WEIGHT),
    ternary_mean_abs=Case(
        TernaryWeight,
        pass_where(clipped),
        2,
        options=dict(alpha='mean_abs', clip=0.6),
        **_WEIGHT),
    dynamic=_dynamic(kind='symmetric', clip=1.5),
    dynamic_minmax=_dynamic(kind='minmax'),
    dynamic_per_token=_dynamic(kind='minmax', per_token=True),
    dynamic_ema=_dynamic(act_range='ema', kind='symmetric'),
    dynamic_ema_minmax=_dynamic(act_range='ema', kind='minmax'),
    act_bi=Case(ActBi, act_bi, 1, **_WEIGHT),
    act_bi_weight=Case(ActBi, act_bi, 1, options=dict(offset=None), **_WEIGHT),
    lsf=Case(LSF, lsq, 1, signs=(False, ), rounds=True),
    sign_bireal=Case(SignActivation, bireal, 1, **_LAYERWISE),
    sign_clip=Case(
        SignActivation,
        pass_where(lambda q, x: x.abs() <= 1),
        1,
        options=dict(ste='clip'),
        **_LAYERWISE),
    sign_weight=Case(SignWeight, sign_weight, 1, **_WEIGHT),
    sign_weight_centered=Case(
        SignWeight, sign_weight, 1, options=dict(center=True), **_WEIGHT),
    qn_weight=Case(QNWeight, soft_steps, 3, **_LAYERWISE),
    qn_activation=Case(
        QNActivation, soft_steps, 2, data=torch.abs, **_UNSIGNED),
    observed=_observed('minmax', True),
    observed_affine=_observed('moving_average', False),
    observed_percentile=_observed('percentile', False),
    observed_mse=_observed('mse', True),
)
