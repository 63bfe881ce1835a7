"""Show that packing changed nothing, on real inputs, before it is written.

Whole models are compared here, single layers in layers.py.
"""
import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn as nn
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor


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
    if not isinstance(model, BaseModel):
        return tensors_of(model(batch))
    if hasattr(model, 'predict_all'):
        # predictions for retrieval need all of the test data, features don't
        batch = model.data_preprocessor(batch, False)
        return tensors_of(model(**batch, mode='tensor'))
    return tensors_of(model.test_step(batch))


def _content(tensor: Tensor) -> Tensor:
    """The bytes of all values, in order."""
    values = tensor.flatten().clone(memory_format=torch.contiguous_format)
    return values.view(torch.uint8)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, NaN included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return _content(a).equal(_content(b))


@contextmanager
def _watched(modules: Iterable[tuple[str, nn.Module]],
             call: Callable[[str, nn.Module, tuple, Any], None]) -> Iterator:
    """Call a function with each module's name, itself, inputs and output."""
    handles = [
        module.register_forward_hook(partial(call, name))
        for name, module in modules
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# ---- Packed model and folded twin, end to end -------------------------------


def _digest(tensor: Tensor) -> str:
    content = tensor.detach().cpu().contiguous().numpy().tobytes()
    return f'{tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}'


@contextmanager
def _digests(model: nn.Module) -> Iterator[list[tuple[str, list[str]]]]:
    """Name and digests of the outputs of every module that is called."""
    found: list[tuple[str, list[str]]] = []

    def keep(name: str, module: nn.Module, args: tuple, output: Any) -> None:
        found.append((name, [_digest(t) for t in tensors_of(output)]))

    with _watched(((n, m) for n, m in model.named_modules() if n), keep):
        yield found


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


# ---- Memory layouts ---------------------------------------------------------


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

    def compare(name: str, module: nn.Module, args: tuple,
                output: Any) -> None:
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

    foreign = [
        (name, module) for name, module in folded.named_modules()
        if not type(module).__module__.startswith(
            ('torch.nn.', 'mmcompress.')) and not list(module.children())
    ]
    with _watched(foreign, compare):
        for batch in batches:
            predict(folded, batch)


# ---- Folded twin and trained model, end to end ------------------------------


@contextmanager
def part_outputs(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Outputs of a model's direct children."""
    found: dict[str, list[Tensor]] = {}

    def keep(name: str, module: nn.Module, args: tuple, output: Any) -> None:
        found.setdefault(name, []).extend(tensors_of(output))

    children = dict(model.named_children())
    children.pop('data_preprocessor', None)
    with _watched(children.items(), keep):
        yield found


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
        with part_outputs(trained) as expected:
            expected['predictions'] = [_size(predict(trained, batch))]
        with part_outputs(folded) as found:
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
