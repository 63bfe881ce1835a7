"""Compare packed layers with the trained ones, each on the same input."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch.nn as nn
from torch import Tensor

from mmcompress.ops import binary_unpack
from mmcompress.pixels import as_pixels
from mmcompress.quantization.attention.dot_product import merge_heads
from ..attention import PackedProjections
from ..fold import Trace
from ..integer_layers import PackedIntegerLayer
from ..norm_linear import PackedNormLinear
from ..packed_layers import PackedConv2d
from .model import VerificationError, predict

# folding rounds otherwise than the trained layers do
TOLERANCE = 1e-5
# what integers of several bits sum up is exact, unlike the trained layer's
INTEGER_TOLERANCE = 5e-6


@dataclass
class LayerCheck:
    """What was seen of one layer.

    Attributes:
        runs (int): How often it ran.
        ties (int): Input bits, or codes that are handed on, that differ, all
            within rounding of a threshold.
        error (float): Largest difference of an output, in units of the
            largest output.
    """
    runs: int = 0
    ties: int = 0
    error: float = 0.0


def _largest(x: Tensor) -> float:
    """Largest magnitude; 0 where there is nothing, as in a head without
    boxes."""
    return float(x.abs().max()) if x.numel() else 0.0


class _Replaced:
    """Watches an attention's projections, which no module of its own does."""

    def __init__(self, attn: nn.Module, trace: Trace,
                 layers: '_LayerByLayer') -> None:
        self.attn = attn

        def project(*inputs: Tensor) -> tuple[Tensor, ...]:
            outputs = type(attn).project(attn, *inputs)
            layers.checks[trace.conv].runs += 1
            for ours, y in zip(trace.layer(*inputs), outputs):
                layers._compare_values(trace, ours, merge_heads(y))
            return outputs

        attn.project = project

    def remove(self) -> None:
        del self.attn.project


class _LayerByLayer:
    """Feeds each packed layer what the trained one gets.

    Hooks on the trained model keep a layer's input, bits and shortcut until
    its output is there.
    """

    def __init__(self, trained: nn.Module, traces: list[Trace]) -> None:
        self.trained = trained
        self.traces = traces
        self.by_conv = {trace.conv: trace for trace in traces}
        self.checks = {trace.conv: LayerCheck() for trace in traces}
        self.seen: dict[tuple[Trace, str], Tensor] = {}

    @contextmanager
    def watch(self) -> Iterator[None]:
        handles = [h for trace in self.traces for h in self._hook(trace)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, trace: Trace) -> list:
        if isinstance(trace.layer, PackedProjections):
            return [_Replaced(self._trained_layer(trace), trace, self)]
        last = isinstance(self._trained_layer(trace), nn.Linear)
        is_integer = isinstance(trace.layer, PackedIntegerLayer)

        def image(x: Tensor) -> Tensor:
            return x if is_integer else as_pixels(x, last)

        def on_input(name: str, call: Callable, *args):
            return self.trained.get_submodule(name).register_forward_pre_hook(
                lambda _, inputs: call(trace, image(inputs[0]), *args))

        def on_output(name: str, call: Callable, *args):
            return self.trained.get_submodule(name).register_forward_hook(
                lambda _, inputs, y: call(trace, image(y), *args))

        if isinstance(trace.layer, PackedNormLinear):
            handles = [
                on_input(trace.source, self._keep, 'source'),
                on_input(trace.conv, self._compare_norm),
                on_output(trace.output, self._compare_integer_layer)
            ]
        elif is_integer:
            handles = [
                on_input(trace.conv, self._keep, 'input'),
                on_output(trace.output, self._compare_integer_layer)
            ]
        else:
            handles = [
                on_input(trace.source, self._keep, 'source'),
                on_input(trace.conv, self._compare_input),
                on_output(trace.conv, self._compare_integers)
            ]
        if trace.residual is not None:
            name, _, is_input = trace.residual.partition('@')
            on = on_input if is_input else on_output
            handles.append(on(name, self._keep, 'residual'))
        if isinstance(trace.layer, PackedConv2d):
            handles.append(on_output(trace.output, self._compare_output))
        if trace.following is not None:
            compare = (
                self._compare_codes_out
                if is_integer else self._compare_bits_out)
            handles.append(on_input(trace.following, compare))
        return handles

    def _trained_layer(self, trace: Trace) -> nn.Module:
        return self.trained.get_submodule(trace.conv)

    def _keep(self, trace: Trace, tensor: Tensor, what: str) -> None:
        # activations in place may overwrite it
        self.seen[trace, what] = tensor.clone()

    def _compare_input(self, trace: Trace, x: Tensor) -> None:
        source = self.seen.pop((trace, 'source'))
        ours = trace.layer.pack(source)
        self.seen[trace, 'bits'] = self._compare_bits(trace, ours, x)

    def _compare_bits(self, trace: Trace, ours: Tensor, x: Tensor) -> Tensor:
        """The bits of a trained layer's input ``x``.

        Ours may differ only where ``x`` is as good as at the threshold.
        """
        threshold = self._trained_layer(trace).inference_rule().threshold
        theirs = trace.layer.engine.binary_pack(x, threshold, None)
        channels = x.shape[1]
        differ = binary_unpack(ours,
                               channels) != binary_unpack(theirs, channels)
        distance = (x - threshold.view(-1, 1, 1)).abs()
        wrong = differ & (distance > TOLERANCE * _largest(distance))
        if wrong.any():
            raise VerificationError(
                f'{trace.conv}: {int(wrong.sum())} of {wrong.numel()} input '
                'bits differ from the trained model')
        self.checks[trace.conv].ties += int(differ.sum())
        return theirs

    def _compare_integers(self, trace: Trace, y: Tensor) -> None:
        rule = self._trained_layer(trace).inference_rule()
        y = y.double()
        if rule.bias is not None:
            y = y - rule.bias.view(-1, 1, 1)
        scale = rule.scale.double().view(-1, 1, 1)
        k = trace.layer.count(self.seen[trace, 'bits'])
        wrong = ((y / scale).round() != k) & (scale > 0)
        if wrong.any():
            raise VerificationError(
                f'{trace.conv}: {int(wrong.sum())} of {k.numel()} integers '
                'differ from the trained layer. With zero_as=\'zero\', an '
                'input of exactly 0 is neither of the two bits; train with '
                'the default then')
        self.checks[trace.conv].runs += 1

    def _compare_integer_layer(self, trace: Trace, y: Tensor) -> None:
        x = self.seen.pop((trace, 'input'), None)
        if x is None:
            # blocks call one ReLU at several places
            return
        self.checks[trace.conv].runs += 1
        self.seen[trace, 'done'] = x
        residual = self.seen.pop((trace, 'residual'), None)
        extra = () if residual is None else (residual, )
        ours = trace.layer(x, *extra)
        self._compare_values(trace, ours, y)

    def _compare_norm(self, trace: Trace, x: Tensor) -> None:
        ours = trace.layer.codes(self.seen.pop((trace, 'source')))
        self.seen[trace, 'input'] = self._compare_codes(trace, ours, x, trace)

    def _compare_codes_out(self, trace: Trace, x: Tensor) -> None:
        done = self.seen.pop((trace, 'done'), None)
        if done is None:
            # the next layer stands at several places
            return
        following = self.by_conv[trace.following]
        ours = trace.layer.only_codes(done, following.layer)
        self._compare_codes(trace, ours, x, following)

    def _compare_codes(self, trace: Trace, ours: Tensor, x: Tensor,
                       reader: Trace) -> Tensor:
        """The codes of a trained layer's input ``x``.

        Ours may differ only where ``x`` is as good as between two.
        """
        layer = reader.layer
        scale, grid = layer.input_scale, layer.input_grid.tolist()
        theirs = layer.engine.quantize_codes(x, scale, grid)
        steps = x / scale
        differ = ours != theirs
        from_tie = (steps - steps.floor() - 0.5).abs()
        wrong = differ & (from_tie > TOLERANCE * _largest(steps))
        if wrong.any():
            raise VerificationError(
                f'{trace.conv}: {int(wrong.sum())} of {wrong.numel()} codes '
                f'handed to {reader.conv} differ from the trained model')
        self.checks[trace.conv].ties += int(differ.sum())
        return theirs

    def _compare_output(self, trace: Trace, y: Tensor) -> None:
        bits = self.seen[trace, 'bits']
        ours = trace.layer(bits, self.seen.pop((trace, 'residual'), None))
        self._compare_values(trace, ours, y)

    def _compare_values(self, trace: Trace, ours: Tensor, y: Tensor) -> None:
        # behind a ReLU all may be zero
        error = _largest(ours - y) / (_largest(y) or 1.0)
        allowed = TOLERANCE
        if isinstance(trace.layer, (PackedIntegerLayer, PackedProjections)):
            allowed = INTEGER_TOLERANCE
        # NaN is an error as well
        if not error <= allowed:
            raise VerificationError(
                f'{trace.conv}: an output differs by {error:.1e} of the '
                f'largest from the trained model, {allowed:.0e} is allowed '
                'for the roundings of folding')
        check = self.checks[trace.conv]
        check.error = max(check.error, error)

    def _compare_bits_out(self, trace: Trace, x: Tensor) -> None:
        following = self.by_conv[trace.following]
        bits = self.seen[trace, 'bits']
        ours = trace.layer.only_bits(bits, following.layer)
        self._compare_bits(following, ours, x)


def compare_with_trained(trained: nn.Module, traces: list[Trace],
                         batches: list) -> dict[str, LayerCheck]:
    """Compare folded layers with trained ones, on the same input bits.

    Args:
        trained (nn.Module): The model that was folded, in eval mode.
        traces (list[Trace]): From :class:`mmcompress.deploy.fold.Folding`.
        batches (list): Inputs, see :func:`predict`.

    Returns:
        dict[str, LayerCheck]: By the name of the trained layer.

    Raises:
        VerificationError: If integers differ, or outputs by more than
            ``TOLERANCE`` or ``INTEGER_TOLERANCE``; names the layer.
    """
    layers = _LayerByLayer(trained, traces)
    with layers.watch():
        for batch in batches:
            predict(trained, batch)
            layers.seen.clear()
    return layers.checks
