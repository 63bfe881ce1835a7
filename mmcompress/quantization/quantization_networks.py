"""Quantization Networks: steps that are sigmoids in training.

Yang et al., CVPR 2019. With levels v_0 < ... < v_n, gaps s_k = v_k - v_(k-1),
thresholds b_k and scales alpha, beta, all of the whole tensor::

    y = alpha (v_0 + sum_k s_k step(beta x - b_k))

In eval mode step(u) is 1 where u > 0, else 0. In training it is
sigmoid(T u), its exponent between -10 and 10, and the gradients are those of
what is computed, p_k = s_k sigmoid(T u_k) (1 - sigmoid(T u_k))::

    dy/dx = alpha beta T sum_k p_k      dy/dbeta = alpha T x sum_k p_k
    dy/dalpha = y / alpha               dy/db_k = -alpha T p_k

The temperature T grows with the epochs (TemperatureHook). The released code
has other derivatives, which are options: for weights T times that at
temperature 1 (``grad_temperature='one'``); for activations, with gaps other
than 1, that of ``s_k sigmoid`` as if this was a sigmoid
(``released_gaps=True``).

Thresholds are the borders between the clusters of what is quantized, and stay.
"""
import logging
from functools import cache

import torch
import torch.nn as nn
from mmengine.dist import all_gather, get_world_size
from mmengine.logging import MessageHub, print_log
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .kmeans import kmeans_boundaries
from .quantizer import Codes, Quantizer, Summary

# a sigmoid beyond is a step
_LIMIT = 10
# the largest scaled value, in units of the highest level
_REACH = 1.25
# values that activations' clusters are made of, over all processes
_SAMPLES = 100_000
# what rounding leaves
_NEGATIVE = -1e-5
HOOK = ("default_hooks = dict(temperature=dict("
        "type='mmcompress.TemperatureHook', step_w=10, step_a=10))")


@cache
def _warn_of_temperature() -> None:
    print_log(
        'Quantization Networks trains at the temperature that it has, since '
        'nobody sets another, but it evaluates with steps, which are those of '
        f'a high one. In a config: {HOOK}', 'current', logging.WARNING)


class _SoftSteps(torch.autograd.Function):
    """The sum of sigmoids, by the formulas above."""

    @staticmethod
    def forward(ctx, x: Tensor, alpha: Tensor, beta: Tensor,
                thresholds: Tensor, temperature: Tensor, levels: list[int],
                grad_temperature: str, released_gaps: bool) -> Tensor:
        y = torch.full_like(x, levels[0])
        for threshold, low, high in zip(thresholds, levels, levels[1:]):
            u = (x * beta).sub_(threshold).mul_(temperature)
            y.add_(u.clamp_(-_LIMIT, _LIMIT).sigmoid_(), alpha=high - low)
        y.mul_(alpha)
        ctx.save_for_backward(x, y, alpha, beta, thresholds, temperature)
        ctx.rest = levels, grad_temperature, released_gaps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple:
        x, y, alpha, beta, thresholds, temperature = ctx.saved_tensors
        levels, grad_temperature, released_gaps = ctx.rest
        total = torch.zeros_like(x)
        d_f = dy * alpha
        d_thresholds = []
        for threshold, low, high in zip(thresholds, levels, levels[1:]):
            u = (x * beta).sub_(threshold)
            if grad_temperature == 'T':
                u.mul_(temperature)
            s = u.clamp_(-_LIMIT, _LIMIT).sigmoid_()
            if released_gaps:
                s.mul_(high - low)
                slope = (1 - s).mul_(s)
            else:
                slope = (1 - s).mul_(s).mul_(high - low)
            total.add_(slope)
            if ctx.needs_input_grad[3]:
                d_thresholds.append(-(slope.mul_(d_f).sum() * temperature))
        du = total.mul_(d_f).mul_(temperature)
        d_alpha = (dy * y).sum().div(alpha)
        d_beta = (du * x).sum().reshape(beta.shape)
        d_threshold = torch.stack(d_thresholds) if d_thresholds else None
        return (du.mul_(beta), d_alpha, d_beta, d_threshold, None, None, None,
                None)


def _bits_of(levels: list[int]) -> int:
    """Of the integers that hold the levels; of two of them, 1."""
    if len(levels) == 2:
        return 1
    low, high = levels[0], levels[-1]
    return max(high, -low - 1).bit_length() + (low < 0)


class QNQuantizer(Quantizer):
    """What the quantizers of weights and of activations share.

    Args:
        bits (int | None): Instead of levels.
        levels (list[int] | None): Ascending integers; only their ratios
            count, since alpha is learnt.
        axis (None): There is one scale.
        size (int): 1.
        signed (bool): As of the subclass.
        grad_temperature (str): ``'T'`` or ``'one'``.
        released_gaps (bool): Whether as released.
        learn_thresholds (bool): Whether the thresholds are trained, as in the
            paper; in the released code they are not.

    Raises:
        ValueError: If there are both bits and levels or neither; on other
            levels, or an option that there is not.
    """

    allowed_bits = range(1, 6)
    per_axis = False
    # of what the exponent is multiplied by
    max_temperature = float('inf')

    def __init__(self, bits: int | None, levels: list[int] | None,
                 axis: int | None, size: int, signed: bool,
                 grad_temperature: str, released_gaps: bool,
                 learn_thresholds: bool) -> None:
        name = type(self).__name__
        if (bits is None) == (levels is None):
            raise ValueError(f'{name}: give either bits or levels, got '
                             f'bits={bits}, levels={levels}')
        if levels is not None:
            levels = self._check_levels(list(levels))
            bits = _bits_of(levels)
        super().__init__(bits, axis, size, signed)
        self._check('grad_temperature', grad_temperature, ('T', 'one'))
        self.levels = levels or self._levels_of(bits)
        self.grad_temperature = grad_temperature
        self.released_gaps = released_gaps
        self.alpha = nn.Parameter(torch.ones(1))
        self.beta = nn.Parameter(torch.ones(1))
        thresholds = torch.zeros(len(self.levels) - 1)
        if learn_thresholds:
            self.thresholds = nn.Parameter(thresholds)
        else:
            self.register_buffer('thresholds', thresholds)
        # of the first epoch, officially
        self.register_buffer('temperature', torch.tensor(10.))
        # those of a checkpoint must be ours
        self.register_buffer('stored_levels', torch.tensor(self.levels))
        self._is_told_temperature = False

    def _check_levels(self, levels: list) -> list[int]:
        steps = zip(levels, levels[1:])
        if (len(levels) < 2 or any(type(v) is not int for v in levels)
                or any(a >= b for a, b in steps) or not self._span(levels)):
            raise ValueError(
                f'{type(self).__name__}: levels must be ascending integers, '
                f'{self.span}, got {levels}')
        return levels

    @staticmethod
    def _levels_of(bits: int) -> list[int]:
        raise NotImplementedError

    @staticmethod
    def _span(levels: list[int]) -> bool:
        """Whether the levels go from and to where the method has them."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f'levels={self.levels}'

    @property
    def low(self) -> int:
        return self.levels[0]

    @property
    def high(self) -> int:
        return self.levels[-1]

    # ---- Temperature -------------------------------------------------------

    def set_temperature(self, value: float) -> None:
        """Set how steep the steps of the training are, a positive number."""
        self.temperature.fill_(value)
        self._is_told_temperature = True

    def _ask_for_temperature(self) -> None:
        # mmengine keeps the running config there; elsewhere nobody trains
        if MessageHub.get_current_instance().get_info('cfg') is not None:
            raise RuntimeError(
                f'{self}: nothing sets the temperature, with which the '
                'sigmoids of Quantization Networks become steps while it '
                f'trains. Write into the config: {HOOK}')
        _warn_of_temperature()

    # ---- Values ------------------------------------------------------------

    def _quantize(self, x: Tensor) -> Tensor:
        if not self.training:
            # DDP waits for the gradient of beta
            return self._connect(self._codes(x).dequantize())
        if not self._is_told_temperature:
            self._ask_for_temperature()
        return self._soften(x)

    def _soften(self, x: Tensor) -> Tensor:
        temperature = self.temperature.to(x.dtype)
        return _SoftSteps.apply(x, *self._scales(x),
                                temperature.clamp(max=self.max_temperature),
                                self.levels, self.grad_temperature,
                                self.released_gaps)

    def _codes(self, x: Tensor) -> Codes:
        alpha, beta, thresholds = self._scales(x)
        u = x * beta
        values = torch.full_like(u, self.levels[0], dtype=torch.int32)
        for threshold, low, high in zip(thresholds, self.levels,
                                        self.levels[1:]):
            values.add_(u > threshold, alpha=high - low)
        return Codes(values, alpha)

    @torch.no_grad()
    def soft_difference(self, x: Tensor) -> Tensor:
        """How much training and evaluation differ.

        Args:
            x (Tensor): Any shape.

        Returns:
            Tensor: Shape (2, ): sums of absolute differences, and of absolute
            values in evaluation.
        """
        x = at_least_float32(x)
        hard = self._codes(x).dequantize()
        return torch.stack([(self._soften(x) - hard).abs().sum(),
                            hard.abs().sum()])

    def _scales(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (self._along(self.alpha,
                            x), self._along(self.beta,
                                            x), self.thresholds.to(x.dtype))

    # ---- State -------------------------------------------------------------

    def _begin(self, x: Tensor, largest: Tensor, by_largest: bool) -> None:
        """Begin with data.

        Args:
            x (Tensor): Some of them, any shape.
            largest (Tensor): Absolute value of all, one element.
            by_largest (bool): Whether the largest decides the scale. Else it
                is that of the least squared distance of levels and values.
        """
        beta = _REACH * self.levels[-1] / largest
        scaled = x.double() * beta
        boundaries = kmeans_boundaries(scaled, len(self.levels))
        if boundaries is not None and not by_largest:
            levels = torch.tensor(self.levels).to(scaled)
            level = levels[torch.bucketize(scaled, boundaries)]
            factor = level.square().sum() / (level * scaled).sum()
            if factor > 0:
                beta, boundaries = beta * factor, boundaries * factor
        self._start(beta, boundaries)

    def _start(self, beta: Tensor, boundaries: Tensor | None) -> None:
        """Begin with a scale, and with thresholds of scaled values.

        Args:
            beta (Tensor): One element.
            boundaries (Tensor | None): Ascending; None: halfway between the
                levels.
        """
        self.beta.copy_(beta)
        self.alpha.copy_(1 / beta)
        if boundaries is None:
            levels = torch.tensor(self.levels, dtype=torch.float64)
            boundaries = (levels[1:] + levels[:-1]) / 2
        self.thresholds.copy_(boundaries)

    def after_step(self) -> list[Tensor]:
        return [self.alpha, self.beta]

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        levels = state_dict.get(f'{prefix}stored_levels')
        if levels is not None and levels.tolist() != self.levels:
            raise RuntimeError(
                f'{prefix[:-1]} has levels {levels.tolist()} in the '
                f'checkpoint and {self.levels} here. Use the same levels, or '
                'begin from the float checkpoint')
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module()
class QNWeight(QNQuantizer):
    """Quantization Networks of a weight.

    Args:
        bits (int | None): 1: levels -1 and 1; 2: -1, 0, 1; 3: -3 to 3; and so
            on.
        axis (int | None): None; thresholds belong to a whole layer.
        size (int): 1.
        signed (bool): True.
        levels (list[int] | None): Instead of bits, such as ``[-2, -1, 0, 1,
            2]`` or ``[-4, -2, -1, 0, 1, 2, 4]``. Bits are those of the
            integers that hold them.
        init (str): ``'max'``: as released, the largest weight is 1.25 times
            the highest level. ``'fit'``: the scale with which levels are
            closest to the weights, for layers that no norm follows.
        grad_temperature (str): ``'T'``: the derivative of what is computed.
            ``'one'``: as released, T times that at temperature 1.
        learn_thresholds (bool): As of the paper; False: as released.
    """

    allowed_signs = (True, )
    max_temperature = 2000
    span = 'the first below 0 and the last above'

    def __init__(self,
                 bits: int | None = None,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool = True,
                 levels: list[int] | None = None,
                 init: str = 'max',
                 grad_temperature: str = 'T',
                 learn_thresholds: bool = False) -> None:
        super().__init__(bits, levels, axis, size, signed, grad_temperature,
                         False, learn_thresholds)
        self._check('init', init, ('max', 'fit'))
        self.init = init

    @staticmethod
    def _levels_of(bits: int) -> list[int]:
        high = max(2**(bits - 1) - 1, 1)
        levels = list(range(-high, high + 1))
        return levels if bits > 1 else [-1, 1]

    @staticmethod
    def _span(levels: list[int]) -> bool:
        return levels[0] < 0 < levels[-1]

    def _initialize(self, x: Tensor, summary: Summary, sync: bool) -> None:
        largest = torch.maximum(summary.largest, -summary.least)
        self._begin(x, largest, self.init == 'max')


@MODELS.register_module()
class QNActivation(QNQuantizer):
    """Quantization Networks of activations that follow a ReLU.

    Its clusters are those of at most 100,000 values of the first training
    batch, over all processes, or of a calibration. The scale is that which
    brings the levels closest to them.

    Args:
        bits (int | None): Levels 0 to ``2^bits - 1``.
        axis (int | None): None; there is one scale.
        size (int): 1.
        signed (bool): False: negative values become 0, of which it warns.
        levels (list[int] | None): Instead of bits; the first is 0.
        released_gaps (bool): Whether gradients are as released, which are
            wrong where two levels differ by more than 1.
        learn_thresholds (bool): As of the paper; False: as released.
    """

    allowed_signs = (False, )
    span = 'the first of them 0'

    def __init__(self,
                 bits: int | None = None,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool = False,
                 levels: list[int] | None = None,
                 released_gaps: bool = False,
                 learn_thresholds: bool = False) -> None:
        super().__init__(bits, levels, axis, size, signed, 'T', released_gaps,
                         learn_thresholds)

    def observe(self) -> None:
        """From now on, keep some values, and let all pass."""
        self._kept = []
        self.observer = self._keep

    def _keep(self, x: Tensor) -> None:
        self._kept.append(_sample(x, False, _SAMPLES // 10))

    def freeze(self) -> bool:
        """Begin with what was kept since :meth:`observe`.

        Returns:
            bool: False, and nothing changed, if there were only zeros.
        """
        self.observer = None
        return self.initialize(torch.cat(self.__dict__.pop('_kept')))

    @staticmethod
    def _levels_of(bits: int) -> list[int]:
        return list(range(2**bits))

    @staticmethod
    def _span(levels: list[int]) -> bool:
        return levels[0] == 0

    def _initialize(self, x: Tensor, summary: Summary, sync: bool) -> None:
        least = summary.least.item()
        if least < _NEGATIVE:
            print_log(
                f'{self}: QNActivation is for what follows a ReLU, and the '
                f'first values here reach down to {least:.3g}. Negative ones '
                'become 0; to keep them, quantize this layer otherwise: '
                "overrides={'PATTERN': dict(activation=dict(type='LSQ', "
                f'bits={self.bits}))}}', 'current', logging.WARNING)
        largest = torch.maximum(summary.largest, -summary.least)
        self._begin(_sample(x.clamp(min=0), sync), largest, False)


def _sample(x: Tensor, sync: bool, size: int | None = None) -> Tensor:
    """Some values of a batch, the same for all processes.

    Args:
        x (Tensor): This process's part.
        sync (bool): Whether others have others.
        size (int | None): Number of values, of all processes.
    """
    values = x.flatten()
    size = (size or _SAMPLES) // (get_world_size() if sync else 1)
    if len(values) > size:
        # of its own: a training's random numbers stay what they were
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randint(len(values), (size, ), generator=generator)
        values = values[chosen.to(values.device)]
    if not sync:
        return values
    # parts may differ in size
    padded = values.new_full((size, ), torch.nan)
    padded[:len(values)] = values
    values = torch.cat(all_gather(padded))
    return values[~values.isnan()]
