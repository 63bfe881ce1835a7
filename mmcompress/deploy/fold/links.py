"""Read how low-bit layers and what surrounds them follow each other."""
from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.binary.layers import RSign, Shift
from mmcompress.lowbit import LowBitLayer, LowBitModule, row_of
from .constants import has_statistics


def is_one_bit(module: nn.Module) -> bool:
    """Whether a module is a trainable layer of 1-bit products."""
    if not isinstance(module, LowBitLayer):
        return False
    bits = module.operand_bits()
    if bits.weight != 1 or bits.activations != (1, ):
        return False
    # attentions have no rule, and quantizers may have a third level
    rule = module.inference_rule()
    return rule is not None and rule.is_one_bit


def is_integer_conv(module: nn.Module) -> bool:
    """Whether a module is a convolution of integers of several bits."""
    if not isinstance(module, LowBitLayer) or not isinstance(
            module, nn.Conv2d) or is_one_bit(module):
        return False
    rule = module.inference_rule()
    return rule is not None and rule.grid is not None


def parts_of(module: nn.Module) -> list[nn.Module]:
    """What a module runs in a row; itself, where it isn't known better."""
    rule = row_of.find(module)
    row = None if rule is None else rule(module)
    if row is None:
        return [module]
    return [part for inner in row for part in parts_of(inner)]


# what an operator of integers computes of its sums
INTEGER_ACTS = {nn.ReLU: 'relu', nn.ReLU6: 'relu6'}


@dataclass
class Link:
    """A low-bit layer of the trained model, with what is folded into it.

    Attributes:
        conv (nn.Module): The layer, with 1-bit products or a convolution of
            integers.
        before (list[nn.Module]): Shifts and norms in front of its sign.
        norm (_BatchNorm | None): Applied to its output.
        pre (nn.Module | None): Shift before the activation.
        act (nn.Module | None): PReLU or ReLU; ReLU or ReLU6 of integers.
        post (nn.Module | None): Shift after the activation.
        is_integer (bool): It is a convolution of integers; nothing but a norm
            and an activation is folded into it.
    """
    conv: nn.Module
    before: list[nn.Module] = field(default_factory=list)
    norm: _BatchNorm | None = None
    pre: nn.Module | None = None
    act: nn.Module | None = None
    post: nn.Module | None = None
    is_integer: bool = False

    @property
    def end(self) -> nn.Module:
        """The last of the modules."""
        return self.post or self.act or self.pre or self.norm or self.conv


@dataclass(frozen=True)
class Trace:
    """Where the trained model computes what a packed layer does.

    Names are those of ``named_modules`` of the trained model.

    Attributes:
        layer (LowBitModule): The packed layer.
        conv (str): The low-bit layer.
        source (str): The module whose input is the packed layer's.
        output (str): The module whose output is the packed layer's.
        residual (str | None): The module whose output is added; its input, if
            the name ends with ``'@input'``.
        following (str | None): The next low-bit layer, where only its bits
            or codes are handed on.
    """
    layer: LowBitModule
    conv: str
    source: str
    output: str
    residual: str | None = None
    following: str | None = None


def _is_shift(module: nn.Module) -> bool:
    """Whether a module only adds a number to each channel."""
    return isinstance(module, Shift) and not isinstance(module, RSign)


def _is_sign(module: nn.Module) -> bool:
    return isinstance(module, RSign)


def _is_act(module: nn.Module) -> bool:
    return isinstance(module, (nn.PReLU, nn.ReLU))


def _is_integer_act(module: nn.Module) -> bool:
    return type(module) in INTEGER_ACTS


class _Reader:
    """Reads modules in the order of execution."""

    def __init__(self, modules: list[nn.Module], start: int) -> None:
        self.modules = modules
        self.at = start

    def take(self, accepts: Callable[[nn.Module], bool]) -> nn.Module | None:
        if self.at < len(self.modules) and accepts(self.modules[self.at]):
            self.at += 1
            return self.modules[self.at - 1]
        return None

    def link(self) -> Link | None:
        """The link that begins here, if one does."""
        conv = self.take(is_integer_conv)
        if conv is not None:
            return Link(
                conv,
                norm=self.take(has_statistics),
                act=self.take(_is_integer_act),
                is_integer=True)
        before = []
        while (module :=
               self.take(lambda m: _is_shift(m) or has_statistics(m))):
            before.append(module)
        if (sign := self.take(_is_sign)):
            before.append(sign)
        conv = self.take(is_one_bit)
        if conv is None:
            return None
        link = Link(conv, before, norm=self.take(has_statistics))
        self.tail(link)
        return link

    def tail(self, link: Link) -> None:
        """What follows the sum with a shortcut, or the norm."""
        if link.is_integer:
            link.act = self.take(_is_integer_act)
            return
        start = self.at
        link.pre = self.take(_is_shift)
        link.act = self.take(_is_act)
        if link.act is None:
            # the shift belongs to what follows
            link.pre, self.at = None, start
        else:
            link.post = self.take(_is_shift)


def read_links(modules: list[nn.Module],
               start: int = 0) -> tuple[list[Link], int]:
    """Read as many links of the same kind in a row as there are.

    Args:
        modules (list[nn.Module]): In the order of execution, each the only
            user of the one before.
        start (int): Where to begin.

    Returns:
        tuple[list[Link], int]: The links, and the place behind the last.
    """
    reader = _Reader(modules, start)
    links = []
    end = start
    while (link := reader.link()) is not None:
        if links and links[0].is_integer != link.is_integer:
            break
        links.append(link)
        end = reader.at
    return links, end


def read_tail(modules: list[nn.Module], link: Link) -> int:
    """Read what follows a sum with a shortcut into the link before it.

    Args:
        modules (list[nn.Module]): In the order of execution.
        link (Link): Gets a shift, an activation and a shift, or fewer.

    Returns:
        int: The place behind the last module that was read.
    """
    reader = _Reader(modules, 0)
    reader.tail(link)
    return reader.at
