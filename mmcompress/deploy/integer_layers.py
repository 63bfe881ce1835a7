"""Inference twins of layers whose operands are integers of several bits."""
from itertools import pairwise

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import Grid, InferenceRule, OperandBits, code_range_of
from mmcompress.ops import (Engine, choose_engine, read_codes, reference,
                            store_codes, stored_bits)
from mmcompress.precision import as_real
from .geometry import Geometry
from .prepacked import Prepacked


def unsigned(grid: Grid) -> list[int]:
    """Zero point, lowest and highest code of a grid, as bytes hold them.

    Raises:
        ValueError: If 0 has no code.
    """
    if not grid.low <= grid.zero_point <= grid.high:
        raise ValueError(f'0 has no code: the zero point {grid.zero_point} of '
                         f'its input is not in [{grid.low}, {grid.high}]. '
                         'Quantize this input without one, or leave the layer '
                         'out (exclude)')
    return [grid.zero_point - grid.low, 0, grid.high - grid.low]


class PackedIntegerLayer(Prepacked):
    """What the packed layers of integers share.

    An input value becomes the code ``clamp(round(x / input_scale) + zero
    point, low, high)``, 0 to 255: signed codes are shifted. That of a linear
    layer may have a real offset, which is taken off before, or a scale that
    follows from each input.

    Args:
        rule (InferenceRule): What the trained layer computes.
        scale (Tensor): float32, shape (K, ), with what was folded into it.
        bias (Tensor | None): float32, shape (K, ).
    """

    def __init__(self, rule: InferenceRule, scale: Tensor,
                 bias: Tensor | None) -> None:
        super().__init__()
        self.bits = rule.bits
        self.stored_bits = stored_bits(rule.bits.weight)
        self.code_range = rule.code_range
        self.geometry = Geometry.of(rule)
        self.register_buffer('weight_codes',
                             store_codes(rule.codes, rule.bits.weight))
        self.register_buffer('scale', scale)
        self.register_buffer('bias', bias)
        self.dynamic_clip = rule.grid.dynamic_clip
        input_scale = None
        if self.dynamic_clip is None:
            input_scale = rule.grid.scale.detach().float().reshape(1)
        self.register_buffer('input_scale', input_scale)
        offset = rule.grid.offset
        if offset is not None:
            offset = offset.detach().float().reshape(1)
        self.register_buffer('input_offset', offset)
        self.register_buffer(
            'input_grid', torch.tensor(unsigned(rule.grid), dtype=torch.uint8))
        self._grid = self.input_grid.tolist()

    def extra_repr(self) -> str:
        return f'{self.geometry}, bits={self.bits.factors}, twin={self.twin}'

    def operand_bits(self) -> OperandBits:
        """Those of the trained layer."""
        return self.bits

    def record(self) -> tuple:
        """What a file of another architecture differs in."""
        return (*self.geometry, self.bits, self.code_range, self.dynamic_clip)

    def impossible(self, stored: dict[str, Tensor]) -> str | None:
        """Constants that are not finite, and codes that nothing has."""
        for name in ('scale', 'bias', 'input_scale', 'input_offset'):
            if name in stored and not stored[name].isfinite().all():
                return f'{name} has infinite values'
        if 'input_scale' in stored and not stored['input_scale'] > 0:
            return 'input_scale is not positive'
        zero_point, low, high = stored['input_grid'].tolist()
        # codes of both signs may leave out the least
        most = 2**self.bits.activations[0] - 1
        if low or zero_point > high or high not in (most, most - 1):
            return (f'input_grid is {[zero_point, low, high]}, and not that '
                    f'of {self.bits.activations[0]} bits')
        return self._impossible_code(stored['weight_codes'])

    def _impossible_code(self, stored: Tensor) -> str | None:
        low, high = self.code_range
        num, per_byte = self.num_packed_weights(), 8 // self.stored_bits
        filler = num % per_byte * self.stored_bits
        if filler and int(stored[-1]) >> filler:
            return 'weight_codes has more codes than weights'
        if (low, high) == code_range_of(self.stored_bits):
            # all that fit
            return None
        least, largest = read_codes(stored, [num], self.stored_bits).aminmax()
        if least < low or largest > high:
            return (f'weight_codes has codes from {least} to {largest}, those '
                    f'of the layer are from {low} to {high}')
        return None

    def num_packed_weights(self) -> int:
        """Number of codes."""
        return torch.Size(self.geometry.weight_shape).numel()

    @property
    def engine(self) -> Engine:
        """Operators that this layer runs on."""
        if self.twin == 'folded':
            return reference
        if torch.compiler.is_compiling():
            raise RuntimeError('run the packed model once before it is '
                               'compiled or exported: no engine is chosen yet')
        return choose_engine(self.weight_codes.device)

    @property
    def stored(self) -> Tensor:
        return self.weight_codes

    def prepack(self) -> tuple[Engine, Tensor]:
        engine = self.engine
        blob = engine.integer_prepack(self.weight_codes,
                                      self.geometry.weight_shape,
                                      self.geometry.groups, self.stored_bits,
                                      self._grid[2])
        return engine, blob

    def loaded(self) -> None:
        if not self.input_grid.is_meta:
            self._grid = self.input_grid.tolist()
        super().loaded()


class PackedIntegerLinear(PackedIntegerLayer):
    """Linear layer of integers: float in, float out."""

    def _scale_of(self, x: Tensor) -> Tensor:
        """That of a quantizer that looks at each input anew."""
        if not x.numel():
            return x.new_ones(1)
        least, largest = x.clamp(-self.dynamic_clip,
                                 self.dynamic_clip).aminmax()
        # that of the largest code, as signed ones have it
        high = self._grid[2] - self._grid[0]
        scale = torch.maximum(-least, largest).view(1) / high
        return torch.where(scale > 0, scale, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer.

        Args:
            x (Tensor): Real-valued, shape (..., C).

        Returns:
            Tensor: Shape (..., K), in the dtype of ``x``; float32 for
            integers.
        """
        self.check_input(x)
        own = self._buffers
        x = as_real(x)
        values = x.float()
        if own['input_offset'] is not None:
            values = values - own['input_offset']
        input_scale = own['input_scale']
        if input_scale is None:
            input_scale = self._scale_of(values)
        return self._multiply(values, input_scale).to(x.dtype)

    def _multiply(self, x: Tensor, input_scale: Tensor) -> Tensor:
        """Compute the layer for real values or codes."""
        own = self._buffers
        engine, blob = self.blob
        return engine.integer_linear(x, blob, input_scale, own['scale'],
                                     own['bias'], self.geometry.weight_shape,
                                     self.stored_bits, self._grid)


class PackedIntegerConv2d(PackedIntegerLayer):
    """Convolution of integers with what surrounds it, in one operator.

    See :func:`mmcompress.ops.integer_conv2d`.

    Args:
        rule, scale, bias: As of :class:`PackedIntegerLayer`.
        act (str): ``''``, ``'relu'`` or ``'relu6'``, which follows.
    """

    # layers in a row hand on codes past `forward`
    other_calls = ('only_codes', )

    def __init__(self,
                 rule: InferenceRule,
                 scale: Tensor,
                 bias: Tensor | None,
                 act: str = '') -> None:
        super().__init__(rule, scale, bias)
        self.act = act

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, act={self.act!r}'

    def record(self) -> tuple:
        """What a file of another architecture differs in."""
        return (*super().record(), self.act)

    def _arguments(self) -> tuple:
        return (*self.geometry[:5], self.stored_bits, self._grid, self.act)

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None = None,
        then: 'PackedIntegerConv2d | None' = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute real values, and the codes that the next layer makes.

        Args:
            x (Tensor): Real-valued, shape (N, C, H, W) or (C, H, W); or
                codes of (N, C, H, W).
            residual (Tensor | None): Shape of the result; added before the
                activation.
            then (PackedIntegerConv2d | None): The next layer.

        Returns:
            Tensor | tuple[Tensor, Tensor]: Shape (N, K, H', W'), channels-last
            memory, in the dtype of ``x``; float32 for codes. With ``then``,
            also its codes.
        """
        self.check_input(x)
        if x.dim() == 3:
            return self(x[None])[0]
        own, dtype = self._buffers, x.dtype
        if dtype == torch.uint8:
            dtype = torch.float32
        elif dtype != torch.float32:
            x = x.float()
        if residual is not None and residual.dtype != torch.float32:
            residual = residual.float()
        scale, grid = None, []
        if then is not None:
            scale, grid = then._buffers['input_scale'], then._grid
        engine, blob = self.blob
        y, codes = engine.integer_conv2d(x, blob, own['input_scale'],
                                         own['scale'], own['bias'], residual,
                                         scale, *self._arguments(), grid)
        y = y.to(dtype)
        return y if then is None else (y, codes)

    def only_codes(self, x: Tensor, then: 'PackedIntegerConv2d') -> Tensor:
        """Compute the codes of the next layer; real values stay inside."""
        self.check_input(x)
        if x.is_floating_point():
            x = x.float()
        own = self._buffers
        engine, blob = self.blob
        return engine.integer_conv2d_codes(x, blob, own['input_scale'],
                                           own['scale'], own['bias'],
                                           then._buffers['input_scale'],
                                           *self._arguments(), then._grid)


class PackedIntegerChain(nn.Sequential):
    """Convolutions of integers in a row: all but the last hand on codes only.

    Args:
        *layers (PackedIntegerConv2d): In the order of execution.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compute the chain.

        Args:
            x (Tensor): Real values, shape (N, C, H, W) or (C, H, W).

        Returns:
            Tensor: With as many dimensions, in their dtype; float32 for
            integers.
        """
        if x.dim() == 3:
            return self(x[None])[0]
        x = as_real(x)
        return self.run(x).to(x.dtype)

    @property
    def last(self) -> PackedIntegerConv2d:
        """The layer that gives real values."""
        return self[-1]

    def run(
        self,
        x: Tensor,
        residual: Tensor | None = None,
        then: 'PackedIntegerChain | None' = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the chain, and the codes of the next.

        Args:
            x (Tensor): Real values or codes, shape (N, C, H, W).
            residual (Tensor | None): What the last layer adds.
            then (PackedIntegerChain | None): The next chain.

        Returns:
            Tensor | tuple[Tensor, Tensor]: As of the last layer. With
            ``then``, also the codes that its first layer takes.
        """
        for layer, following in pairwise(self):
            x = layer.only_codes(x, following)
        return self[-1](x, residual, then[0] if then else None)
