"""Replace the low-bit parts of a trained model by packed layers."""
from collections import Counter

import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import InferenceRule, LowBitLayer, folds
from mmcompress.ops import integer_limits
from ..integer_layers import (PackedIntegerChain, PackedIntegerConv2d,
                              PackedIntegerLinear)
from ..norm_linear import PackedNormLinear
from ..packed_layers import (PackedBackbone, PackedBitsConv2d, PackedBlock,
                             PackedChain, PackedConv2d, PackedLayer)
from .constants import (as_float, fold_affine, input_bits, slope_of,
                        through_relu)
from .float_layers import fuse_float_norms
from .links import INTEGER_ACTS, Link, Trace, parts_of, read_links, read_tail


def without_identities(modules: list[nn.Module]) -> list[nn.Module]:
    return [m for m in modules if not isinstance(m, nn.Identity)]


class Folding:
    """One pass over a model, which changes it in place.

    Args:
        model (nn.Module): In eval mode.

    Attributes:
        names (dict[nn.Module, str]): Of the modules as they were.
        traces (list[Trace]): What became of them.
        norms (dict[nn.Module, nn.LayerNorm]): Of linear layers, see
            :class:`mmcompress.deploy.norm_linear.PackedNormLinear`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.traces: list[Trace] = []
        self.norms: dict[nn.Module, nn.LayerNorm] = {}
        self._uses = Counter(
            module
            for _, module in model.named_modules(remove_duplicate=False))
        self._done: dict[nn.Module, nn.Module] = {}
        self._codes: dict[nn.Module, Tensor] = {}

    def fold(self, module: nn.Module) -> nn.Module:
        """What stands in for a module; the module itself if nothing does."""
        if module not in self._done:
            rule = folds.find(module)
            result = None if rule is None else rule(module, self)
            if result is None and isinstance(module, LowBitLayer):
                result = self._alone(module)
            self._done[module] = (
                self.inside(module) if result is None else result)
        return self._done[module]

    def is_used_once(self, *modules: nn.Module) -> bool:
        """Whether each has a single place in the model."""
        return all(self._uses[module] == 1 for module in modules)

    def inside(self, module: nn.Module) -> nn.Module:
        """A module, whose children are folded."""
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = self.fold(child)
        return module

    def layers(self,
               links: list[Link],
               residual: str | None = None,
               output: nn.Module | None = None) -> nn.Module:
        """Packed layers of links in a row.

        Args:
            links (list[Link]): Of one kind. All but the last hand on bits, or
                codes, only.
            residual (str | None): What the last one adds, see
                :class:`Trace`.
            output (nn.Module | None): The module whose output is that of the
                last one, where it isn't the link's end.
        """
        if links[0].is_integer:
            chain = PackedIntegerChain(*map(self._integer_layer, links))
        else:
            chain = PackedChain(
                *self._one_bit_layers(links),
                features_last=isinstance(links[0].conv, nn.Linear))
        for layer, link, then in zip(chain, links, [*links[1:], None]):
            end = link.end if then else output or link.end
            self.traces.append(
                Trace(
                    layer,
                    conv=self.names[link.conv],
                    source=self.names[(link.before or [link.conv])[0]],
                    output=self.names[end],
                    residual=None if then else residual,
                    following=then and self.names[then.conv]))
        return chain

    def _one_bit_layers(self, links: list[Link]) -> list[PackedLayer]:
        rules = [link.conv.inference_rule() for link in links]
        inputs = [input_bits(link.before, r) for link, r in zip(links, rules)]
        return [
            self._layer(*args)
            for args in zip(links, rules, inputs, [*inputs[1:], None])
        ]

    def _integer_layer(self, link: Link) -> PackedIntegerConv2d:
        rule = link.conv.inference_rule()
        scale, bias = self._integer_epilogue(rule, link.norm)
        packed = self._named(
            PackedIntegerConv2d, link.conv, rule, scale, bias,
            '' if link.act is None else INTEGER_ACTS[type(link.act)])
        # one convolution with several norms is stored once
        codes = self._codes.setdefault(link.conv, packed.weight_codes)
        packed.weight_codes = codes
        return packed

    def _integer_epilogue(self, rule, norm) -> tuple:
        if norm is None and rule.bias is None:
            return as_float(rule.scale), None
        return tuple(map(as_float, fold_affine(rule, norm)))

    def _named(self, cls: type, layer: nn.Module, *args) -> nn.Module:
        """A packed layer of integers, or an error that says which."""
        try:
            return cls(*args)
        except ValueError as error:
            raise ValueError(f'{self.names[layer]}: {error}') from None

    def row(self,
            modules: list[nn.Module],
            is_unit: bool = False) -> nn.Module | None:
        """Packed layers of modules that run in a row.

        Args:
            modules (list[nn.Module]): In the order of execution.
            is_unit (bool): What stands in for them is called with the input
                of the whole row, which may be points or features, and not
                with that of a convolution.

        Returns:
            nn.Module | None: None unless all of them fold.
        """
        parts = [part for module in modules for part in parts_of(module)]
        links, end = read_links(parts)
        if not links or end < len(parts):
            return None
        return self.layers(links) if is_unit else self.chain(links)

    def backbone(self, layers: list[nn.Module],
                 out_indices: list[int]) -> PackedBackbone:
        """Layers in a row, folded already, of which some outputs count."""
        return PackedBackbone(layers, out_indices)

    def fuse_norms(self, modules: nn.Sequential) -> nn.Sequential:
        """Convolutions in a row with the norms behind them."""
        if any(isinstance(m, LowBitLayer) for m in modules.modules()):
            return self.fold(modules)
        return fuse_float_norms(modules)

    def _alone(self, layer: LowBitLayer) -> nn.Module | None:
        """A low-bit layer with nothing that is folded into it."""
        rule = layer.inference_rule()
        if rule is None:
            return None
        if rule.is_one_bit:
            return self.chain([Link(layer)])
        if isinstance(layer, nn.Conv2d):
            return self.chain([Link(layer, is_integer=True)])
        name = source = self.names[layer]
        if layer in self.norms:
            norm = self.norms[layer]
            source = self.names[norm]
            packed = self._named(PackedNormLinear, layer, rule,
                                 *self._integer_epilogue(rule, None), norm)
        else:
            packed = self.linear(layer, rule)
        self.traces.append(Trace(packed, name, source=source, output=name))
        return packed

    def linear(self, layer: nn.Module,
               rule: InferenceRule) -> PackedIntegerLinear:
        """A packed linear layer.

        Args:
            layer (nn.Module): The trained one, for messages.
            rule (InferenceRule): What it computes, or a part of it.
        """
        return self._named(PackedIntegerLinear, layer, rule,
                           *self._integer_epilogue(rule, None))

    def chain(self, links: list[Link]) -> nn.Module:
        """Packed layers of links in a row; the layer, if it is only one."""
        chain = self.layers(links)
        if len(links) == 1 and isinstance(links[0].conv, nn.Conv2d):
            return chain[0]
        return chain

    def _layer(self, link: Link, rule, inputs: tuple,
               following: tuple | None) -> PackedLayer:
        scale, shift = map(as_float, fold_affine(rule, link.norm))
        if (following is not None and not isinstance(link.act, nn.PReLU)
                and link.pre is None and link.post is None):
            threshold, flip = following
            if link.act is not None:
                threshold = through_relu(threshold, flip)
            limits = integer_limits(scale, shift, threshold, flip,
                                    rule.codes[0].numel())
            return PackedBitsConv2d(rule, *inputs, *limits)
        return PackedConv2d(
            rule,
            *inputs,
            scale,
            shift,
            pre=link.pre and as_float(link.pre.bias),
            slope=slope_of(link.act, len(scale)),
            post=link.post and as_float(link.post.bias))

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
        main, tail = without_identities(main), without_identities(tail)
        links, end = read_links(main)
        if not links or end < len(main) or links[-1].act is not None:
            return None
        if read_tail(tail, links[-1]) < len(tail):
            return None
        residual = None
        if shortcut is not None:
            name = self.names.get(shortcut)
            residual = name or f'{self.names[block]}@input'
            shortcut = self.shortcut(shortcut)
        return PackedBlock(self.layers(links, residual, block), shortcut)

    def with_norms(self, block: nn.Module, pairs: dict[str, str]) -> None:
        """Convolutions of integers in a block, each with its norm.

        For blocks in which something else, such as a float layer, stands in
        the way of one chain. Activations stay: others may use them.

        Args:
            block (nn.Module): Calls its modules by their names; changed.
            pairs (dict[str, str]): Names of convolutions and of their norms.
        """
        for conv, norm in pairs.items():
            row = [block._modules[conv], block._modules[norm]]
            links, end = read_links(row)
            if links and links[0].is_integer and end == len(row):
                block._modules[conv] = self.chain(links)
                block._modules[norm] = nn.Identity()

    def shortcut(self, shortcut: nn.Module) -> nn.Module:
        """A shortcut, its norm folded into its convolution."""
        if isinstance(shortcut, nn.Sequential):
            return self.fuse_norms(shortcut)
        return self.fold(shortcut)
