"""Whether onnxruntime computes what the quantized model does."""
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from .codes import Affine
from .nodes import codes_of
from .packages import needs
from .packed import CollectedBits, bits_of, count_different
from .session import Session
from .writing import Exported


class Agreement(NamedTuple):
    """A network on onnxruntime, beside the same in PyTorch.

    Attributes:
        difference (float): Norm of the difference of outputs in units of
            their norm, the largest of all outputs.
        largest (float): The largest difference of two values, in units of
            the largest value of that output.
        codes (int): How many codes of activations were compared.
        equal (float): Share of them that are equal.
        nearly (float): Share of those that differ by 1 at most.
        worst (str): The quantizer with the fewest equal codes.
        bits (int): How many bits of packed layers were compared.
        different_bits (int): How many of them differ.
    """
    difference: float
    largest: float
    codes: int
    equal: float
    nearly: float
    worst: str
    bits: int = 0
    different_bits: int = 0


def _with_codes(proto: bytes) -> tuple[bytes, list[str], list[int]]:
    """A file that also gives what is inside.

    Returns:
        tuple[bytes, list[str], list[int]]: With the codes of activations and
        the bits of packed layers; names of the codes; channels of the bits.
    """
    ir, onnx = needs('onnx_ir'), needs('onnx')
    model = ir.from_proto(onnx.load_from_string(proto))
    codes, bits = codes_of(model.graph), bits_of(model.graph)
    model.graph.outputs.extend(codes.values())
    model.graph.outputs.extend(value for value, _ in bits.values())
    channels = [number for _, number in bits.values()]
    return ir.to_proto(model).SerializeToString(), list(codes), channels


class _Codes:
    """Collects the codes of all quantizers of a network, by their names."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.found: dict[str, Tensor] = {}
        self.handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in network.named_modules()
            if isinstance(module, Affine)
        ]

    def _hook(self, module_name: str):

        def hook(module: Affine, args: tuple, y: Tensor) -> None:
            name, count = module_name, 1
            while name in self.found:
                count += 1
                name = f'{module_name}:{count}'
            codes = (y / module.scale).round() + module.zero_point
            self.found[name] = codes.to(torch.int16)

        return hook

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


@torch.no_grad()
def compare(exported: Exported, images: Iterable[Tensor]) -> Agreement:
    """Compare a written network with the model, on some images.

    One code that is rounded to the other side changes what follows, so that
    not all are equal; likewise a bit of a value beside its threshold.

    Args:
        exported (Exported): What was written.
        images (Iterable[Tensor]): Preprocessed, shape (1, 3, H, W).
    """
    network = exported.network
    proto, names, channels = _with_codes(exported.proto)
    session = Session(proto)
    num_outputs = len(network.output_names())
    difference = largest = 0.
    counts: dict[str, Tensor] = {}
    num_bits = different_bits = 0
    for image in images:
        image = network.reads(image)
        collected = _Codes(network.model)
        with CollectedBits() as bits:
            expected = network(image)
        collected.close()
        actual = session(image)
        for a, b in zip(actual[:num_outputs], network.comparable(expected)):
            unit = b.norm().clamp(min=1e-12)
            difference = max(difference, float((a - b).norm() / unit))
            unit = b.abs().amax().clamp(min=1e-12)
            largest = max(largest, float((a - b).abs().amax() / unit))
        for name, codes in zip(names, actual[num_outputs:]):
            if codes.shape != collected.found[name].shape:
                # of regions, of which one may have more
                continue
            gap = (codes.to(torch.int16) - collected.found[name]).abs()
            count = torch.tensor([
                gap.numel(), (gap == 0).sum(), (gap <= 1).sum()
            ])  # yapf: disable
            counts[name] = counts.get(name, 0) + count
        found = actual[num_outputs + len(names):]
        for a, b, number in zip(found, bits.found, channels, strict=True):
            num_bits += a.numel() // a.shape[-1] * number
            different_bits += count_different(a, b)
    total = sum(counts.values(), torch.zeros(3))
    shares = {name: float(c[1] / c[0]) for name, c in counts.items()}
    worst = min(shares, key=shares.get, default='')
    of = max(int(total[0]), 1)
    return Agreement(difference, largest, int(total[0]), float(total[1] / of),
                     float(total[2] / of), worst
                     and f'{worst}, {100 * shares[worst]:.2f} %', num_bits,
                     different_bits)
