"""Replace the 1-bit parts of a trained model by packed layers."""
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmcompress.ops import integer_limits
from ..packed_layers import (PackedBitsConv2d, PackedBlock, PackedChain,
                             PackedConv2d, PackedLayer)
from .constants import fold_affine, fold_threshold

# a rule takes a module and returns what stands in for it, or None if it has
# nothing to fold there; then the modules inside are looked at
Rule = Callable[[nn.Module, 'Folding'], nn.Module | None]
_RULES: dict[str, Rule] = {}


def folds(*classes: str) -> Callable[[Rule], Rule]:
    """Register a rule for classes, given by their import paths.

    By name, because mm libraries need not be installed. A rule also serves
    subclasses that have none of their own and inherit ``forward``.
    """

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def _find_rule(module: nn.Module) -> Rule | None:
    for cls in type(module).__mro__:
        rule = _RULES.get(f'{cls.__module__}.{cls.__qualname__}')
        if rule is not None:
            return rule
        if 'forward' in vars(cls):
            # what follows computes something else
            return None
    return None


def is_one_bit(module: nn.Module) -> bool:
    """Whether a module is a trainable 1-bit layer."""
    return hasattr(module, 'inference_rule')


@dataclass
class Link:
    """A 1-bit layer of the trained model, with what is folded into it.

    Attributes:
        conv (nn.Module): The layer.
        before (list[nn.Module]): Shifts and norms in front of its sign.
        norm (_BatchNorm | None): Applied to its output.
        pre (nn.Module | None): Shift before the activation.
        act (nn.Module | None): PReLU or ReLU.
        post (nn.Module | None): Shift after the activation.
    """
    conv: nn.Module
    before: list[nn.Module] = field(default_factory=list)
    norm: _BatchNorm | None = None
    pre: nn.Module | None = None
    act: nn.Module | None = None
    post: nn.Module | None = None

    @property
    def end(self) -> nn.Module:
        """The last of the modules."""
        return self.post or self.act or self.pre or self.norm or self.conv


@dataclass(frozen=True)
class Trace:
    """Where the trained model computes what a packed layer does.

    Names are those of ``named_modules`` of the trained model.

    Attributes:
        layer (PackedLayer): The packed layer.
        conv (str): The 1-bit layer.
        source (str): The module whose input is the packed layer's.
        output (str): The module whose output is the packed layer's.
        residual (str | None): The module whose output is added; its input, if
            the name ends with ``'@input'``.
        following (str | None): The next 1-bit layer, where only bits are
            handed on.
    """
    layer: PackedLayer
    conv: str
    source: str
    output: str
    residual: str | None = None
    following: str | None = None


def is_shift(module: nn.Module) -> bool:
    """Whether a module only adds a number to each channel."""
    return type(module).__name__ == 'Shift'


def _is_sign(module: nn.Module) -> bool:
    """Whether a module is a sign with a shift, RSign."""
    return type(module).__name__ == 'RSign'


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.track_running_stats


def _is_act(module: nn.Module) -> bool:
    return isinstance(module, (nn.PReLU, nn.ReLU))


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
        before = []
        while (module := self.take(lambda m: is_shift(m) or _is_norm(m))):
            before.append(module)
        if (sign := self.take(_is_sign)):
            before.append(sign)
        conv = self.take(is_one_bit)
        if conv is None:
            return None
        link = Link(conv, before, norm=self.take(_is_norm))
        self.tail(link)
        return link

    def tail(self, link: Link) -> None:
        """What follows the sum with a shortcut, or the norm."""
        start = self.at
        link.pre = self.take(is_shift)
        link.act = self.take(_is_act)
        if link.act is None:
            # the shift belongs to what follows
            link.pre, self.at = None, start
        else:
            link.post = self.take(is_shift)


def read_links(modules: list[nn.Module],
               start: int = 0) -> tuple[list[Link], int]:
    """Read as many links in a row as there are.

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
        links.append(link)
        end = reader.at
    return links, end


# ---- Constants -------------------------------------------------------------


def _float(vector: Tensor) -> Tensor:
    return vector.detach().float().flatten().clone()


def _shifted_norm(norm: _BatchNorm, threshold: Tensor) -> _BatchNorm:
    """The norm minus a threshold."""
    shifted = type(norm)(norm.num_features, norm.eps).to(threshold).eval()
    shifted.load_state_dict(norm.state_dict(), strict=False)
    shifted.bias.data -= threshold
    return shifted


def _through_sign(threshold: Tensor) -> Tensor:
    """Threshold on ``y`` that gives the bits of one on ``sign(y)``."""
    never = torch.where(threshold >= 1, torch.inf, 0.0)
    return torch.where(threshold < -1, -torch.inf, never)


def _input_bits(link: Link, rule) -> tuple[Tensor, Tensor | None]:
    """Threshold and flip of a layer's input, in front of ``before``."""
    threshold, flip = rule.threshold, None
    for module in reversed(link.before):
        if _is_sign(module):
            threshold = _through_sign(threshold)
        if not _is_norm(module):
            threshold = threshold - module.bias.detach().flatten()
            continue
        threshold, negative = fold_threshold(_shifted_norm(module, threshold))
        flip = negative if flip is None else negative ^ flip
    return _float(threshold), flip


def _through_relu(threshold: Tensor, flip: Tensor | None) -> Tensor:
    """Threshold on ``y`` that gives the bits of one on ``relu(y)``.

    Where ``relu(y) > threshold`` always holds, or ``relu(y) < threshold``
    never does, the new one is minus infinity.
    """
    can_decide = threshold >= 0
    if flip is not None:
        can_decide &= ~flip | (threshold > 0)
    return torch.where(can_decide, threshold, -torch.inf)


def _slope(act: nn.Module | None, channels: int) -> Tensor | None:
    if act is None:
        return None
    if isinstance(act, nn.ReLU):
        return torch.zeros(channels)
    return _float(act.weight).expand(channels).clone()


class Folding:
    """One pass over a model, which changes it in place.

    Args:
        model (nn.Module): In eval mode.

    Attributes:
        names (dict[nn.Module, str]): Of the modules as they were.
        traces (list[Trace]): What became of them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.traces: list[Trace] = []
        self._done: dict[nn.Module, nn.Module] = {}

    def fold(self, module: nn.Module) -> nn.Module:
        """What stands in for a module; the module itself if nothing does."""
        if module not in self._done:
            rule = _find_rule(module)
            result = None if rule is None else rule(module, self)
            if result is None and is_one_bit(module):
                result = self.chain([Link(module)])
            if result is None:
                for name, child in module._modules.items():
                    if child is not None:
                        module._modules[name] = self.fold(child)
                result = module
            self._done[module] = result
        return self._done[module]

    def layers(self,
               links: list[Link],
               residual: str | None = None,
               output: nn.Module | None = None) -> PackedChain:
        """Packed layers of links in a row.

        Args:
            links (list[Link]): All but the last hand on bits only.
            residual (str | None): What the last one adds, see
                :class:`Trace`.
            output (nn.Module | None): The module whose output is that of the
                last one, where it isn't the link's end.
        """
        rules = [link.conv.inference_rule() for link in links]
        inputs = [_input_bits(link, r) for link, r in zip(links, rules)]
        layers = []
        for i, (link, rule) in enumerate(zip(links, rules)):
            is_last = i + 1 == len(links)
            following = None if is_last else inputs[i + 1]
            layer = self._layer(link, rule, inputs[i], following)
            layers.append(layer)
            name = self.names[link.conv]
            self.traces.append(
                Trace(
                    layer,
                    conv=name,
                    source=self.names[(link.before or [link.conv])[0]],
                    output=self.names[(is_last and output) or link.end],
                    residual=residual if is_last else None,
                    following=None if is_last else self.names[links[i +
                                                                    1].conv]))
        return PackedChain(
            *layers, features_last=isinstance(links[0].conv, nn.Linear))

    def chain(self, links: list[Link]) -> nn.Module:
        """Packed layers of links in a row; the layer, if it is only one."""
        chain = self.layers(links)
        if len(links) == 1 and isinstance(links[0].conv, nn.Conv2d):
            return chain[0]
        return chain

    def _layer(self, link: Link, rule, inputs: tuple,
               following: tuple | None) -> PackedLayer:
        scale, shift = map(_float, fold_affine(rule, link.norm))
        if (following is not None and not isinstance(link.act, nn.PReLU)
                and link.pre is None and link.post is None):
            threshold, flip = following
            if link.act is not None:
                threshold = _through_relu(threshold, flip)
            limits = integer_limits(scale, shift, threshold, flip,
                                    rule.signs[0].numel())
            return PackedBitsConv2d(rule, *inputs, *limits)
        return PackedConv2d(
            rule,
            *inputs,
            scale,
            shift,
            pre=link.pre and _float(link.pre.bias),
            slope=_slope(link.act, len(scale)),
            post=link.post and _float(link.post.bias))

    def block(self, block: nn.Module, main: list[nn.Module],
              shortcut: nn.Module | None,
              tail: list[nn.Module]) -> PackedBlock | None:
        """A residual block: ``tail(main(x) + shortcut(x))``.

        Args:
            block (nn.Module): The trained block.
            main (list[nn.Module]): The main path.
            shortcut (nn.Module | None): None: nothing is added.
            tail (list[nn.Module]): Shift, PReLU or ReLU, shift; or fewer.

        Returns:
            PackedBlock | None: None if something in it can't be folded.
        """
        main, tail = _without_identities(main), _without_identities(tail)
        links, end = read_links(main)
        if not links or end < len(main) or links[-1].act is not None:
            return None
        reader = _Reader(tail, 0)
        reader.tail(links[-1])
        if reader.at < len(tail):
            return None
        residual = None
        if shortcut is not None:
            name = self.names.get(shortcut)
            residual = name or f'{self.names[block]}@input'
            shortcut = self.shortcut(shortcut)
        return PackedBlock(self.layers(links, residual, block), shortcut)

    def shortcut(self, shortcut: nn.Module) -> nn.Module:
        """A shortcut, its norm folded into its convolution."""
        if any(is_one_bit(m) for m in shortcut.modules()):
            return self.fold(shortcut)
        if isinstance(shortcut, nn.Sequential):
            return fuse_float_norms(shortcut)
        return shortcut


def _without_identities(modules: list[nn.Module]) -> list[nn.Module]:
    return [m for m in modules if not isinstance(m, nn.Identity)]


class PointwiseConv2d(nn.Conv2d):
    """Real-valued 1x1 convolution as a matrix product, channels-last.

    On one thread torch's own takes a path that changes the layout twice.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, shape (N, C, H, W) to (N, K, H, W)."""
        y = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return y.permute(0, 3, 1, 2)


def _as_pointwise(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution as :class:`PointwiseConv2d`, where it is one."""
    geometry = (conv.kernel_size, conv.stride, conv.padding, conv.groups)
    if geometry != ((1, 1), (1, 1), (0, 0), 1):
        return conv
    pointwise = PointwiseConv2d(conv.in_channels, conv.out_channels, 1)
    pointwise.weight, pointwise.bias = conv.weight, conv.bias
    return pointwise


def fuse_float_norms(modules: nn.Sequential) -> nn.Sequential:
    """Fold norms into the real-valued convolutions in front of them."""
    fused: list[nn.Module] = []
    for module in modules:
        if fused and _is_norm(module) and type(fused[-1]) is nn.Conv2d:
            conv = fuse_conv_bn_eval(fused[-1], module)
            # the layout of what comes in and goes out
            fused[-1] = _as_pointwise(
                conv.to(memory_format=torch.channels_last))
        else:
            fused.append(module)
    return nn.Sequential(*fused)
