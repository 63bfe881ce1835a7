"""Integers of real values, and what is known of these."""
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Codes:
    """Integers that stand for real values.

    ``x = (values - zero_point) * scale + offset``

    Attributes:
        values (Tensor): Integers, int32, of the shape of what they stand for.
        scale (Tensor): Broadcasts with them: per tensor, axis or row.
        zero_point (Tensor | int): An integer.
        offset (Tensor | float): A real number, such as LSQ+'s beta.
    """
    values: Tensor
    scale: Tensor
    zero_point: Tensor | int = 0
    offset: Tensor | float = 0

    def rows(self, num: int) -> list['Codes']:
        """Parts of equal size along the first axis, with their scales."""
        scales = [self.scale] * num
        if self.scale.dim() and self.scale.shape[0] > 1:
            scales = self.scale.chunk(num)
        return [
            replace(self, values=values, scale=scale)
            for values, scale in zip(self.values.chunk(num), scales)
        ]

    def dequantize(self) -> Tensor:
        """The real values."""
        y = (self.values - self.zero_point) * self.scale
        has_offset = isinstance(self.offset, Tensor) or self.offset != 0
        return y + self.offset if has_offset else y


@dataclass(frozen=True, eq=False)
class Summary:
    """Of the data that a quantizer begins with, over all processes.

    Attributes:
        sums (Tensor): Of absolute values, by index of the axis; or (1, ).
        count (Tensor): Number of values of each sum.
        least (Tensor): The least value by index of the axis; or (1, ).
        largest (Tensor): The largest one.
    """
    sums: Tensor
    count: Tensor
    least: Tensor
    largest: Tensor

    def mean(self, per_index: bool) -> Tensor:
        """Mean absolute value, of the whole or by index of the axis."""
        if per_index:
            return self.sums / self.count
        return (self.sums.sum() / self.count.sum()).expand_as(self.sums)
