"""With how many bits a layer multiplies, and what it computes with them."""
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

# of a real number
FLOAT = 32


class OperandBits(NamedTuple):
    """Bits of what a layer multiplies and of what it sums up in.

    A layer multiplies one weight with one or more activations, such as the
    queries, keys and values of an attention; or, without a weight, two
    activations. An attention's own products are child modules, so that each
    has operands of its own.

    Attributes:
        weight (int | None): None: the product of two activations.
        activations (tuple[int, ...]): In the order of the inputs.
        accumulator (int): Of a sum of products.
    """
    weight: int | None
    activations: tuple[int, ...]
    accumulator: int = FLOAT

    @property
    def factors(self) -> tuple[int, int]:
        """Bits of the two factors of a product; the widest activation's."""
        if self.weight is None:
            first, second = self.activations
            return first, second
        return self.weight, max(self.activations)

    @property
    def are_low(self) -> bool:
        """Whether both factors are integers, so that no float is needed."""
        return max(self.factors) < FLOAT


@dataclass(frozen=True, eq=False)
class Grid:
    """Integers of real values: ``clamp(round(x / scale) + zero_point)``.

    With an offset, of ``x - offset``.

    Attributes:
        scale (Tensor): Distance of two levels, positive, of one element.
        zero_point (int): The integer of 0; of the offset, if there is one.
        low (int): The least integer.
        high (int): The largest integer.
        offset (Tensor | None): A real number, of one element.
        dynamic_clip (float | None): Not None: the scale is that of each input
            by itself, its largest magnitude up to this, divided by ``high``;
            ``scale`` means nothing.
    """
    scale: Tensor
    zero_point: int
    low: int
    high: int
    offset: Tensor | None = None
    dynamic_clip: float | None = None


@dataclass(frozen=True, eq=False)
class Signs:
    """Two levels of real values: ``scale * (1 or -1) + offset``.

    Attributes:
        scale (Tensor): Positive, of one element.
        threshold (Tensor): The upper level is that of what is above it; of
            one element.
        offset (Tensor | None): A real number, of one element; None: 0.
    """
    scale: Tensor
    threshold: Tensor
    offset: Tensor | None = None


def code_range_of(bits: int) -> tuple[int, int]:
    """The least and the largest integer in two's complement."""
    return -2**(bits - 1), 2**(bits - 1) - 1


@dataclass(frozen=True, eq=False)
class InferenceRule:
    """What a trained low-bit layer computes in eval mode.

    ``y = scale * k + bias``, ``k`` the integer dot product of the weight's
    codes and the input's. Those of the input are

    - 1 bit: +1 where ``x > threshold``, else -1; taps outside of the image
      count ``pad_value``,
    - more bits: by ``grid``, less its zero point; taps outside count 0, and
      the grid's scale is a factor of ``scale``.

    Attributes:
        codes (Tensor): Integers of the weight, -1 and +1 for 1 bit; shape
            (C_out, C_in / groups, kh, kw), with kernel sizes of 1 where the
            layer has none.
        scale (Tensor): Shape (C_out, ); not negative for 1 bit.
        bias (Tensor | None): Shape (C_out, ).
        threshold (Tensor | None): Shape (C_in, ), of a 1-bit input.
        grid (Grid | None): Of an input of more bits.
        bits (OperandBits): Those of the codes.
        code_range (tuple[int, int]): The least and the largest code that any
            weight may have; by default those of the bits.
        stride (tuple[int, int]): Of the convolution.
        padding (tuple[int, int]): Of the convolution.
        dilation (tuple[int, int]): Of the convolution.
        groups (int): Of the convolution.
        pad_value (int): 0 or -1.

    Raises:
        ValueError: Unless there is either a threshold or a grid.
    """
    codes: Tensor
    scale: Tensor
    bias: Tensor | None = None
    threshold: Tensor | None = None
    grid: Grid | None = None
    bits: OperandBits = OperandBits(1, (1, ))
    code_range: tuple[int, int] = ()
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pad_value: int = 0

    def __post_init__(self) -> None:
        if (self.threshold is None) == (self.grid is None):
            raise ValueError('an inference rule has either a threshold, for a '
                             '1-bit input, or a grid')
        if not self.code_range:
            object.__setattr__(self, 'code_range',
                               code_range_of(self.bits.weight))
        if self.codes.dim() != 4:
            raise ValueError('codes must have shape (C_out, C_in, kh, kw), '
                             f'got {tuple(self.codes.shape)}')

    @property
    def is_one_bit(self) -> bool:
        """Whether weight and input are signs."""
        return self.threshold is not None and self.bits.weight == 1
