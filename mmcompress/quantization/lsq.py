"""LSQ and LSQ+: scales, and perhaps an offset, are learnt by gradients.

LSQ (Esser et al., ICLR 2020, arXiv 1902.08153), with codes between L and H::

    y = s clamp(round(x / s), L, H)

Gradients, with u = x / s, I = 1 where L <= u <= H and g = 1 / sqrt(numel H)::

    dy/dx = I        dy/ds = g (clamp(round(u), L, H) - I u)

LSQ+ (Bhalgat et al., CVPRW 2020, arXiv 2004.09576) has an offset b, a real
number: u = (x - b) / s, y = s clamp(round(u), L, H) + b, dy/db = g (1 - I).
The activations of Q-ViT and Q-DETR have an integer z instead, learnt with a
straight-through gradient of its rounding: y = s (clamp(round(x / s) + z, L, H)
- z), u = x / s + z for I, and dy/dz = -g s (1 - I).

``mask='rounded'`` asks whether round(u), not u, is between L and H.
"""
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import Grid
from mmcompress.ops import lsq_fake_quantize
from mmcompress.registry import MODELS
from .quantizer import Codes, Quantizer, Summary
from .ranges import mse_scale

_OFFSETS = (None, 'beta', 'zero_point')


@MODELS.register_module()
class LSQ(Quantizer):
    """Learned step size; with an offset, LSQ+ or Q-ViT's activations.

    Args:
        bits (int): 1 only if unsigned.
        axis (int | None): As of the base.
        size (int): As of the base.
        signed (bool | str): As of the base.
        offset (str | None): ``'beta'``: LSQ+'s, a real number.
            ``'zero_point'``: an integer.
        mask (str): Where the gradient passes: ``'clip'``, where ``u`` is in
            the range; ``'rounded'``, where the rounded ``u`` is, as in torch's
            learnable fake quantization.
        init (str): ``'lsq'``: ``2 mean|x| / sqrt(H)``, and for the offsets
            what their papers and codes begin with. ``'mse'``: the scale of the
            least squared error. ``'auto'``: the former up to 4 bits; with 8,
            it clips too much.
        init_stat (str): Whose mean: ``'tensor'``, as in the code of Q-ViT and
            Q-DETR, or ``'channel'``, of each index of the axis.
        grad_scale (str): What numel in ``g`` counts: ``'numel'``, the tensor;
            ``'features'``, one sample of it, which makes ``g`` independent of
            the batch size; ``'none'``: ``g`` is 1.

    Raises:
        ValueError: On an unknown option, or 1 signed bit, whose largest code
            would be 0.
    """

    allowed_bits = range(1, 9)

    def __init__(self,
                 bits: int,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = 'auto',
                 offset: str | None = None,
                 mask: str = 'clip',
                 init: str = 'auto',
                 init_stat: str = 'channel',
                 grad_scale: str = 'numel') -> None:
        super().__init__(bits, axis, size, signed)
        if bits == 1 and signed is not False:
            raise ValueError('LSQ: the codes of 1 bit with a sign are -1 and '
                             '0; use signed=False, or a 1-bit layer')
        self._check('offset', offset, _OFFSETS)
        self._check('mask', mask, ('clip', 'rounded'))
        self._check('init', init, ('auto', 'lsq', 'mse'))
        self._check('init_stat', init_stat, ('tensor', 'channel'))
        self._check('grad_scale', grad_scale, ('numel', 'features', 'none'))
        self.mask = mask
        self.init = init
        self.init_stat = init_stat
        self.grad_scale = grad_scale
        self.scale = nn.Parameter(torch.ones(size))
        self.beta = self.zero_point = None
        if offset is not None:
            setattr(self, offset, nn.Parameter(torch.zeros(size)))

    def after_step(self) -> list[Tensor]:
        return [self.scale]

    def _initialize(self, x: Tensor, summary: Summary, sync: bool) -> None:
        low, high = self.low, self.high
        rule = self.init
        if rule == 'auto':
            rule = 'lsq' if self.bits <= 4 else 'mse'
        if self.beta is not None:
            # LSQ+ begins with the whole range
            scale = (summary.largest - summary.least) / (high - low)
            scale = torch.where(scale > 0, scale, 1)
            self.beta.copy_(summary.least - scale * low)
        elif rule == 'mse':
            scale = mse_scale(self._rows(x), summary, low, high, sync)
        else:
            mean = summary.mean(self.init_stat == 'channel')
            scale = 2 * mean / high**0.5
            # a channel of zeros, beside others
            scale = torch.where(scale > 0, scale,
                                2 * summary.mean(False) / high**0.5)
        self.scale.copy_(scale)
        if self.zero_point is not None:
            # in units of x, and a tenth of it, as the official code has it
            least = summary.least.min()
            self.zero_point.copy_(0.1 * (least - scale * low))

    @property
    def is_symmetric(self) -> bool:
        """Whether 0 has the code 0."""
        return self.beta is None and self.zero_point is None

    @torch.no_grad()
    def adopt(self, scale: Tensor, zero_point: Tensor) -> None:
        """Begin with given scales instead of data.

        Args:
            scale (Tensor): Positive, shape (K, ).
            zero_point (Tensor): Integers, shape (K, ); zeros if it is
                symmetric.
        """
        self.scale.copy_(scale)
        if self.zero_point is not None:
            self.zero_point.copy_(zero_point)
        if self.beta is not None:
            self.beta.copy_(-zero_point * scale)
        self.initialized.fill_(True)
        self._ask()
        self._hand_on()

    def _factor(self, x: Tensor) -> float:
        if self.grad_scale == 'none':
            return 1.
        count = x.numel()
        if self.grad_scale == 'features':
            count //= max(len(x), 1)
        return (max(count, 1) * self.high)**-0.5

    def _quantize(self, x: Tensor) -> Tensor:
        return lsq_fake_quantize(
            x,
            *self._per_index(x, self.scale, self.beta, self.zero_point),
            axis=self.axis,
            low=self.low,
            high=self.high,
            factor=self._factor(x),
            mask=self.mask)

    def grid(self) -> Grid | None:
        """None with several scales."""
        if self.axis is not None:
            return None
        z = 0
        if self.zero_point is not None:
            z = int(self.zero_point.round())
        beta = None if self.beta is None else self.beta.detach()
        return Grid(self.scale.detach(), z, self.low, self.high, beta)

    def _codes(self, x: Tensor) -> Codes:
        scale, beta, zero_point = (None if p is None else self._along(p, x)
                                   for p in (self.scale, self.beta,
                                             self.zero_point))
        z = 0 if zero_point is None else zero_point.round()
        u = x / scale if beta is None else (x - beta) / scale
        values = (u.round() + z).clamp(self.low, self.high).int()
        z = z if zero_point is None else z.int()
        return Codes(values, scale, z, 0 if beta is None else beta)
