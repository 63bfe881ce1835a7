"""Show that packing changed nothing, on real inputs, before it is written."""
import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmcompress.ops import binary_unpack
from .fold import Trace
from .packed_layers import PackedConv2d

# folding rounds otherwise than the trained layers do
TOLERANCE = 1e-5


class VerificationError(RuntimeError):
    """The packed model doesn't compute what it stands for."""


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in a nested output or in data samples, in a fixed order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, BaseDataElement):
        value = dict(value.items())
    if isinstance(value, dict):
        return [t for key in sorted(value) for t in tensors_of(value[key])]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in tensors_of(item)]
    return []


@torch.no_grad()
def predict(model: nn.Module, batch: Any) -> list[Tensor]:
    """What a model gives for a batch.

    Args:
        model (nn.Module): Of an mm library, or any other module.
        batch (Any): From the test dataloader; a tensor for another module.

    Returns:
        list[Tensor]: Of all predictions.
    """
    # predictions are written into the samples
    batch = copy.deepcopy(batch)
    if hasattr(model, 'test_step'):
        return tensors_of(model.test_step(batch))
    return tensors_of(model(batch))


def _content(tensor: Tensor) -> Tensor:
    """The bytes of all values, in order."""
    values = tensor.flatten().clone(memory_format=torch.contiguous_format)
    return values.view(torch.uint8)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, NaN included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return _content(a).equal(_content(b))


# ---- Folded twin and trained model, layer by layer -------------------------


@dataclass
class LayerCheck:
    """What was seen of one layer.

    Attributes:
        runs (int): How often it ran.
        ties (int): Input bits that differ, all within rounding of the
            threshold.
        error (float): Largest difference of an output, in units of the
            largest output.
    """
    runs: int = 0
    ties: int = 0
    error: float = 0.0


def _as_image(x: Tensor, features_last: bool) -> Tensor:
    """Channels second, two dimensions behind them."""
    if features_last and x.dim() > 2:
        x = x.flatten(0, -2)
    while x.dim() < 4:
        x = x.unsqueeze(-1)
    return x


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
        last = isinstance(self._trained_layer(trace), nn.Linear)

        def on_input(name: str, call: Callable, *args):
            return self.trained.get_submodule(
                name).register_forward_pre_hook(lambda _, inputs: call(
                    trace, _as_image(inputs[0], last), *args))

        def on_output(name: str, call: Callable, *args):
            return self.trained.get_submodule(name).register_forward_hook(
                lambda _, inputs, y: call(trace, _as_image(y, last), *args))

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
            handles.append(on_input(trace.following, self._compare_bits_out))
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
        wrong = differ & (distance > TOLERANCE * distance.max())
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
        alpha = rule.alpha.double().view(-1, 1, 1)
        k = trace.layer.count(self.seen[trace, 'bits'])
        wrong = ((y / alpha).round() != k) & (alpha > 0)
        if wrong.any():
            raise VerificationError(
                f'{trace.conv}: {int(wrong.sum())} of {k.numel()} integers '
                'differ from the trained layer. With zero_as=\'zero\', an '
                'input of exactly 0 is neither of the two bits; train with '
                'the default then')
        self.checks[trace.conv].runs += 1

    def _compare_output(self, trace: Trace, y: Tensor) -> None:
        bits = self.seen[trace, 'bits']
        ours = trace.layer(bits, self.seen.pop((trace, 'residual'), None))
        error = float((ours - y).abs().max() / y.abs().max())
        # NaN is an error as well
        if not error <= TOLERANCE:
            raise VerificationError(
                f'{trace.conv}: an output differs by {error:.1e} of the '
                f'largest from the trained model, {TOLERANCE:.0e} is allowed '
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
            ``TOLERANCE``; names the layer.
    """
    layers = _LayerByLayer(trained, traces)
    with layers.watch():
        for batch in batches:
            predict(trained, batch)
            layers.seen.clear()
    return layers.checks


# ---- Packed model and folded twin, end to end ------------------------------


def _digest(tensor: Tensor) -> str:
    content = tensor.detach().cpu().contiguous().numpy().tobytes()
    return f'{tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}'


@contextmanager
def _digests(model: nn.Module) -> Iterator[list[tuple[str, list[str]]]]:
    """Name and digests of the outputs of every module that is called."""
    found: list[tuple[str, list[str]]] = []

    def watch(name: str) -> Callable:

        def keep(module: nn.Module, args: tuple, output: Any) -> None:
            found.append((name, [_digest(t) for t in tensors_of(output)]))

        return keep

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules() if name
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def compare_twins(folded: nn.Module, packed: nn.Module, batches: list) -> None:
    """Run both end to end; everything must be equal bit for bit.

    Args:
        folded (nn.Module): The folded twin.
        packed (nn.Module): The packed model.
        batches (list): Inputs, see :func:`predict`.

    Raises:
        VerificationError: Names the first layer that differs.
    """
    for batch in batches:
        with _digests(folded) as expected:
            predictions = predict(folded, batch)
        with _digests(packed) as found:
            others = predict(packed, batch)
        for (name, wanted), (_, got) in zip(expected, found):
            if wanted != got:
                raise VerificationError(
                    f'{name}: the packed model differs from its folded twin')
        if len(predictions) != len(others) or not all(
                map(same_bits, predictions, others)):
            raise VerificationError(
                'predictions of the packed model differ from those of its '
                'folded twin')


# ---- Memory layouts --------------------------------------------------------


def compare_layouts(folded: nn.Module, batches: list) -> None:
    """Check that foreign layers read channels-last memory right.

    Packed layers give it, and a kernel that ignores strides takes it for
    something else. Every layer that isn't torch's or ours, and gets such a
    tensor, runs again on a copy in the usual layout.

    Args:
        folded (nn.Module): The folded twin.
        batches (list): Inputs, see :func:`predict`.

    Raises:
        VerificationError: If a layer's outputs differ; names it.
    """

    def watch(name: str) -> Callable:

        def compare(module: nn.Module, args: tuple, output: Any) -> None:
            if all(t.is_contiguous() for t in tensors_of(args)):
                return
            usual = [
                arg.contiguous() if isinstance(arg, Tensor) else arg
                for arg in args
            ]
            for a, b in zip(
                    tensors_of(output), tensors_of(module.forward(*usual))):
                if not torch.allclose(a, b, 1e-3, 1e-3 * float(b.abs().max())):
                    raise VerificationError(
                        f'{name}: {type(module).__name__} ignores the memory '
                        'layout of its input (channels-last) and computes '
                        'something else')

        return compare

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in folded.named_modules()
        if not type(module).__module__.startswith(('torch.nn.', 'mmcompress.'))
        and not list(module.children())
    ]
    try:
        for batch in batches:
            predict(folded, batch)
    finally:
        for handle in handles:
            handle.remove()


# ---- Folded twin and trained model, end to end -----------------------------


@contextmanager
def _outputs(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Outputs of a model's direct children."""
    found: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Callable:

        def keep(module: nn.Module, args: tuple, output: Any) -> None:
            found.setdefault(name, []).extend(tensors_of(output))

        return keep

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_children()
        if name != 'data_preprocessor'
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _size(predictions: list[Tensor]) -> Tensor:
    """Sum of what is predicted; the number of boxes may differ."""
    floats = [t for t in predictions if t.is_floating_point()]
    return sum((t.double().abs().sum() for t in floats),
               torch.zeros((), dtype=torch.float64))


def end_to_end_difference(trained: nn.Module, folded: nn.Module,
                          batches: list) -> dict[str, float]:
    """How far the roundings of folding carry.

    A sign that flips cascades, so this isn't zero and isn't required to be.

    Args:
        trained (nn.Module): The model that was folded.
        folded (nn.Module): Its folded twin.
        batches (list): Inputs, see :func:`predict`.

    Returns:
        dict[str, float]: By the name of a part of the model (such as
        ``backbone``): the norm of the difference of its outputs, relative to
        the norm of the outputs. ``predictions`` is for the sums of all scores
        and coordinates of each batch.
    """
    sums: dict[str, list[float]] = {}
    for batch in batches:
        with _outputs(trained) as expected:
            expected['predictions'] = [_size(predict(trained, batch))]
        with _outputs(folded) as found:
            found['predictions'] = [_size(predict(folded, batch))]
        for name in expected:
            for a, b in zip(expected[name], found.get(name, [])):
                if a.shape == b.shape and a.is_floating_point():
                    squares = sums.setdefault(name, [0.0, 0.0])
                    squares[0] += float((a - b).double().square().sum())
                    squares[1] += float(a.double().square().sum())
    return {
        name: (difference / total)**0.5 if total else difference**0.5
        for name, (difference, total) in sums.items()
    }
