"""What quantizers share: scales, their beginning, their state."""
import copy
import itertools
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn
from weakref import WeakSet

import torch
import torch.nn as nn
from mmengine.dist import all_reduce
from torch import Tensor
from torch.utils.checkpoint import CheckpointFunction

from mmcompress.lowbit import Grid, Signs
from mmcompress.precision import at_least_float32
from .codes import Codes, Summary
from .optimizer_rules import watch_optimizers

# below it, in units of the largest value if that is below 1, the least value
# of the first batch makes a quantizer signed
_NEGATIVE = -1e-5


def _trains() -> bool:
    """Whether gradients are enabled, or will be in a checkpointed part."""
    if torch.is_grad_enabled():
        return True
    frame = sys._getframe()
    while frame is not None:
        # of a checkpoint with use_reentrant=True
        if frame.f_code is CheckpointFunction.forward.__code__:
            return True
        frame = frame.f_back
    return False


class Quantizer(nn.Module):
    """Base of what maps real values to few, and to their integers.

    ``forward`` returns real values with the method's own gradient, and
    ``quantize_int`` the integers; in eval mode, ``forward(x)`` is
    ``quantize_int(x).dequantize()`` to the last bit. Both compute in float32
    at least, also under autocast.

    Scales are parameters of one dimension, so that neither ``init_weights`` of
    a model fills them nor weight decay that exempts such changes them. They
    begin with the first data that are seen with gradients enabled, or in what
    is recomputed with gradients later, those of all processes together; frozen
    stages are in eval mode then, so ``self.training`` decides nothing.
    Parameters of a model, weights, may be seen at any time. Data of zeros only
    say nothing: they pass, and the next ones are looked at. Until these have
    been trained on, they pass, too: the first values of a DETR are a bias,
    which is 0 until the first step.

    A subclass implements ``_initialize``, ``_quantize`` and ``_codes``.

    Args:
        bits (int): Of a code.
        axis (int | None): Of the input that its scales go with; negative
            counts from the last. None: one scale.
        size (int): Number of indices of the axis.
        signed (bool | str): Whether codes may be negative. ``'auto'``: if the
            first data are.

    Raises:
        ValueError: If the method isn't defined for these.

    Attributes:
        path (str): Where it stands in the model, for messages.
        saw_zeros (bool): Whether it was given nothing but zeros in training.
            What comes in evaluation passes then, as it did in training.
        bypass (bool): Whether values pass as they are.
        observer (Callable | None): Sees what would be quantized, which passes
            as it is.
    """

    # what a method is defined for
    allowed_bits: range | tuple[int, ...] = range(2, 9)
    allowed_signs: tuple[bool | str, ...] = (True, False, 'auto')
    per_axis = True
    # stateless ones look at each input anew
    stateful = True

    def __init__(self,
                 bits: int,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = 'auto') -> None:
        super().__init__()
        self._check('bits', bits, self.allowed_bits)
        self._check('signed', signed, self.allowed_signs)
        if axis is None and size != 1:
            raise ValueError(f'{type(self).__name__}: size={size} needs an '
                             'axis; without one there is one scale')
        if axis is not None and not self.per_axis:
            raise ValueError(
                f'{type(self).__name__} has one scale for the whole tensor, '
                f'so axis must be None, got {axis}')
        self.bits = bits
        self.axis = axis
        self.size = size
        self.path = ''
        self.bypass = False
        self.observer = None
        self.seen = False
        self.saw_zeros = False
        self._ready = not self.stateful
        self._given_sign = None if signed == 'auto' else bool(signed)
        self._signed = self._given_sign
        if self.stateful:
            self.register_buffer('initialized', torch.tensor(False))
            self.register_buffer('signed', torch.tensor(signed is not False))
            # the scales of a checkpoint must be for ours
            self.register_buffer('stored_bits',
                                 torch.tensor(bits, dtype=torch.uint8))
        self._copies: WeakSet[Quantizer] = WeakSet()
        watch_optimizers(self)

    def __getstate__(self) -> dict:
        state = dict(self.__dict__)
        del state['_copies']
        return state

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._copies = WeakSet()
        watch_optimizers(self)

    def __deepcopy__(self, memo: dict) -> 'Quantizer':
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        self._copies.add(twin)
        return twin

    def _check(self, name: str, value, allowed) -> None:
        # 1 == True
        if not any(value == a and type(value) is type(a) for a in allowed):
            options = ', '.join(map(repr, allowed))
            raise ValueError(f'{type(self).__name__}: {name} must be one of '
                             f'{options}, got {value!r}')

    def extra_repr(self) -> str:
        where = '' if self.axis is None else f', {self.size} at {self.axis}'
        return f'bits={self.bits}{where}'

    def __str__(self) -> str:
        return self.path or type(self).__name__

    def be_signed(self) -> None:
        """Decide what was left to the first data, as for weights."""
        if self._given_sign is None:
            self._given_sign = self._signed = True
            self.signed.fill_(True)

    # ---- Range of codes ----------------------------------------------------

    @property
    def is_signed(self) -> bool:
        """Whether codes may be negative; asks the device once."""
        if self._signed is None:
            signed = bool(self.signed)
            if not self.is_initialized:
                return signed
            self._signed = signed
        return self._signed

    @property
    def low(self) -> int:
        """The least code."""
        return -2**(self.bits - 1) if self.is_signed else 0

    @property
    def high(self) -> int:
        """The largest code."""
        return 2**(self.bits - self.is_signed) - 1

    # ---- Beginning ---------------------------------------------------------

    @property
    def is_initialized(self) -> bool:
        """Whether it has scales; asks the device until it has."""
        if not self._ready:
            self._ready = bool(self.initialized)
        return self._ready

    @torch.no_grad()
    def initialize(self, x: Tensor) -> bool:
        """Begin with data.

        Args:
            x (Tensor): A weight, which all processes have, or this process's
                part of a batch.

        Returns:
            bool: False, and nothing happened, if these data say nothing.

        Raises:
            ValueError: If a value is not finite.
        """
        if not self.stateful:
            return True
        sync = not isinstance(x, nn.Parameter)
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_float32(x.detach())
            summary = self._summarize(x, sync)
            edges = torch.stack([summary.least.min(), summary.largest.max()])
            least, largest = edges.tolist()
            if not summary.count.sum():
                return False
            if not (math.isfinite(least) and math.isfinite(largest)):
                raise ValueError(
                    f'{self}: the values to begin with are not finite, '
                    f'between {least} and {largest}')
            if least == largest == 0:
                return False
            self._decide_sign(least, largest)
            self._initialize(x, summary, sync)
            self.initialized.fill_(True)
        self._ask()
        self._hand_on()
        return True

    def _decide_sign(self, least: float, largest: float) -> None:
        self._signed = self._given_sign
        if self._signed is None:
            # what layers that begin with zeros give is tiny at first
            magnitude = min(1., max(-least, largest))
            self.signed.fill_(least < _NEGATIVE * magnitude)

    def _hand_on(self) -> None:
        """Let copies that aren't trained begin with this one.

        A moving average of the model would mix the scales with what was there
        before the first data, and never hear that there are scales.
        """
        for twin in list(self._copies):
            trained = any(p.requires_grad for p in twin.parameters())
            if not trained and not twin.is_initialized:
                for mine, its in zip(self._tensors(), twin._tensors()):
                    its.copy_(mine)
                twin._ask()
                twin._hand_on()

    def _tensors(self) -> Iterator[Tensor]:
        return itertools.chain(self.parameters(), self.buffers())

    def _summarize(self, x: Tensor, sync: bool) -> Summary:
        rows = self._rows(x)
        if rows.shape[1]:
            least, largest = rows.aminmax(dim=1)
        else:
            least = rows.new_full((self.size, ), math.inf)
            largest = -least
        sums = torch.stack(
            [rows.abs().sum(1),
             rows.new_full((self.size, ), rows.shape[1])])
        edges = torch.stack([-least, largest])
        if sync:
            all_reduce(sums, 'sum')
            all_reduce(edges, 'max')
        return Summary(*sums, -edges[0], edges[1])

    def _initialize(self, x: Tensor, summary: Summary, sync: bool) -> None:
        """Set the scales, from data that are not all zero.

        Args:
            x (Tensor): At least float32.
            summary (Summary): Of it, over all processes.
            sync (bool): Whether other processes have other data.
        """
        raise NotImplementedError

    def _may_begin(self, x: Tensor, trains: bool) -> bool:
        self.seen = True
        if trains or isinstance(x, nn.Parameter):
            begun = self.initialize(x)
            self.saw_zeros = not begun
            return begun
        # a bias that was 0 in the first step is not after it
        if not self.saw_zeros and x.any():
            self._refuse()
        return False

    def _refuse(self) -> NoReturn:
        raise RuntimeError(
            f'{self} has no scales yet, so it can not quantize: load a '
            'trained checkpoint, train at least one step, or calibrate the '
            'model (tools/quantize.py)')

    def _connect(self, x: Tensor) -> Tensor:
        """Values as they are, whose gradient reaches the parameters.

        DDP waits for every gradient.
        """
        if not torch.is_grad_enabled():
            return x
        for parameter in self.parameters():
            x = x + 0 * parameter.sum()
        return x

    # ---- Use ---------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Quantize, with the method's gradient.

        Args:
            x (Tensor): Any shape that has the axis.

        Returns:
            Tensor: Same shape, at least float32.

        Raises:
            RuntimeError: If it has no scales yet, and can not begin.
            ValueError: If the axis has another size.
        """
        self.seen = True
        if self.observer is not None:
            self.observer(x)
            return at_least_float32(x)
        if self.bypass:
            return at_least_float32(x)
        if not self.is_initialized and not self._may_begin(x, _trains()):
            return self._connect(at_least_float32(x))
        with torch.autocast(x.device.type, enabled=False):
            return self._quantize(at_least_float32(x))

    @torch.no_grad()
    def quantize_int(self, x: Tensor) -> Codes:
        """Integers of values.

        Args:
            x (Tensor): As of :meth:`forward`.

        Raises:
            RuntimeError: As :meth:`forward`.
            ValueError: If a value is no number; if one is infinite where
                the scale follows from the values.
        """
        with torch.autocast(x.device.type, enabled=False):
            if x.isnan().any():
                raise ValueError(f'{self}: NaN has no code')
            y = at_least_float32(x)
            if not self.is_initialized and not self._may_begin(x, False):
                if x.any():
                    self._refuse()
                zeros = torch.zeros_like(y, dtype=torch.int32)
                return Codes(zeros, y.new_ones(()))
            codes = self._codes(y)
            if not codes.scale.isfinite().all():
                raise ValueError(f'{self}: values that are not finite leave '
                                 'no scale for the others')
            return codes

    def _quantize(self, x: Tensor) -> Tensor:
        """:meth:`forward`, once there are scales."""
        raise NotImplementedError

    def _codes(self, x: Tensor) -> Codes:
        """:meth:`quantize_int`, once there are scales."""
        raise NotImplementedError

    def grid(self) -> Grid | None:
        """The integers of one uniform scale; None if they are others."""
        return None

    def signs(self) -> Signs | None:
        """Its two levels, of one scale; None if they are others."""
        return None

    @property
    def is_symmetric(self) -> bool:
        """Whether a level and its negative have codes of equal distance."""
        return True

    # ---- Shapes ------------------------------------------------------------

    def _rows(self, x: Tensor) -> Tensor:
        """One row for each index of the axis."""
        if self.axis is None:
            return x.reshape(1, -1)
        self._check_axis(x)
        return x.movedim(self.axis, 0).reshape(self.size, -1)

    def _unrow(self, rows: Tensor, x: Tensor) -> Tensor:
        """Undo :meth:`_rows`, to the shape of ``x``."""
        if self.axis is None:
            return rows.view(x.shape)
        return rows.view(x.movedim(self.axis, 0).shape).movedim(0, self.axis)

    def _check_axis(self, x: Tensor) -> None:
        axis = self.axis
        if not -x.dim() <= axis < x.dim() or x.shape[axis] != self.size:
            raise ValueError(
                f'{self} has {self.size} scales for axis {axis}, got values '
                f'of shape {tuple(x.shape)}')

    def _per_index(self, x: Tensor, *vectors: Tensor | None) -> list:
        """Vectors of the axis, in the precision of values that have it."""
        if self.axis is not None:
            self._check_axis(x)
        return [None if v is None else v.to(x.dtype) for v in vectors]

    def _along(self, scales: Tensor, x: Tensor) -> Tensor:
        """Scales that broadcast with values, in their precision."""
        scales = scales.to(x.dtype)
        if self.axis is None:
            return scales
        self._check_axis(x)
        shape = [1] * x.dim()
        shape[self.axis] = self.size
        return scales.view(shape)

    # ---- State -------------------------------------------------------------

    def after_step(self) -> list[Tensor]:
        """Parameters that an optimizer's step must leave positive."""
        return []

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        if self.stateful:
            begun = state_dict.get(f'{prefix}initialized')
            if begun is None:
                # a float checkpoint: begin again
                self.initialized.fill_(False)
            elif not begun.is_meta and begun:
                self._check_stored(state_dict, prefix)
        for name, value in self.state_dict().items():
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.stateful:
            self._ask()

    def _check_stored(self, state_dict: dict, prefix: str) -> None:
        """Refuse scales of another quantizer.

        mmengine would warn at most, and go on with some of them.
        """
        wrong = []
        # files may be older than this entry
        bits = state_dict.get(f'{prefix}stored_bits', self.stored_bits)
        if int(bits) != self.bits:
            wrong.append(f'of {int(bits)} bits, not {self.bits}')
        signed = bool(state_dict.get(f'{prefix}signed', self.signed))
        if self._given_sign is not None and signed != self._given_sign:
            wrong.append(f'with signed={signed}, not {self._given_sign}')
        for name, mine in self.state_dict().items():
            its = state_dict.get(prefix + name)
            if its is None and name != 'stored_bits':
                wrong.append(f'without {name}')
            elif its is not None and its.shape != mine.shape:
                wrong.append(f'with {its.numel()} values of {name}, not '
                             f'{mine.numel()}')
        if wrong:
            raise RuntimeError(
                f'{prefix[:-1] or self}: the checkpoint is that of another '
                f'quantizer, {", ".join(wrong)}. Quantize as the checkpoint '
                'was, or begin from the float checkpoint')

    def _ask(self) -> None:
        """Ask the device for the flags, outside of compiled graphs."""
        self._ready = False
        self._signed = self._given_sign
        if not self.initialized.is_meta and self.is_initialized:
            _ = self.is_signed


@contextmanager
def bypassed(model: nn.Module) -> Iterator[None]:
    """Let values pass all quantizers of a model as they are."""
    quantizers = [m for m in model.modules() if isinstance(m, Quantizer)]
    before = [q.bypass for q in quantizers]
    for quantizer in quantizers:
        quantizer.bypass = True
    try:
        yield
    finally:
        for quantizer, value in zip(quantizers, before):
            quantizer.bypass = value


def pass_uninitialized(model: nn.Module) -> None:
    """Let a model without data run: quantizers without scales do nothing.

    Args:
        model (nn.Module): Whose results don't matter, such as one that is
            counted or timed.
    """
    for module in model.modules():
        if isinstance(module, Quantizer) and not module.is_initialized:
            module.bypass = True
