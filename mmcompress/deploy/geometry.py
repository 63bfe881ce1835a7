"""Shape of a packed weight, and how it moves over the image."""
from typing import NamedTuple

from mmcompress.lowbit import InferenceRule


class Geometry(NamedTuple):
    """What the operators want to know of a convolution, in their order.

    Attributes:
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.
        stride (list[int]): Vertical, horizontal; and so on.
        padding (list[int]): Of both sides.
        dilation (list[int]): Between taps.
        groups (int): Of channels.
        pad_value (int): What a tap outside of the image counts.
    """
    weight_shape: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int
    pad_value: int

    @classmethod
    def of(cls, rule: InferenceRule) -> 'Geometry':
        """That of a rule."""
        return cls(
            list(rule.codes.shape), list(rule.stride), list(rule.padding),
            list(rule.dilation), rule.groups, rule.pad_value)

    @property
    def is_linear(self) -> bool:
        """Whether every pixel goes through the same linear layer."""
        return (self.weight_shape[2:] == [1, 1] and self.groups == 1
                and self.stride == [1, 1] and self.padding == [0, 0])
