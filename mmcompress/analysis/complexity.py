"""Count what a model holds and computes: parameters, bytes, operations."""
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.module import (register_module_forward_hook,
                                     register_module_forward_pre_hook)
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mmcompress.lowbit import FLOAT, LowBitModule, OperandBits, num_bytes
from mmcompress.ops import choose_engine
from mmcompress.quantization.quantizer import Quantizer


@dataclass(frozen=True)
class LayerCost:
    """What a module itself holds and computes, without what is below it.

    Attributes:
        name (str): Path of the module; empty for the model itself.
        kind (str): Class of the module.
        bits (tuple[int, int]): Of a weight and of an activation, in the
            products that the module computes.
        params (int): Number of parameters.
        bytes_stored (int): Of parameters and buffers, as they are in a
            checkpoint of this model.
        bytes_packed (int): The same once low-bit weights take their bits.
        macs (int): Multiply-accumulates, whatever their bits.
        flops (int): Those of floats. As in the papers of 1-bit
            networks, one counts as one FLOP.
        bops (int): Bit operations: multiply-accumulates of low-bit operands,
            times the bits of both.
    """
    name: str
    kind: str
    bits: tuple[int, int]
    params: int
    bytes_stored: int
    bytes_packed: int
    macs: int
    flops: int
    bops: int

    @property
    def is_low_bit(self) -> bool:
        """Whether integers can do the work."""
        return max(self.bits) < FLOAT

    @property
    def ops(self) -> float:
        """``bops / 64 + flops``, as Bi-Real Net defines it."""
        return self.bops / 64 + self.flops


def operand_bits(module: nn.Module) -> OperandBits:
    """Bits of what a module multiplies; those of floats, unless it is low."""
    if isinstance(module, LowBitModule):
        return module.operand_bits()
    return OperandBits(FLOAT, (FLOAT, ))


# ---- Operations ------------------------------------------------------------


def _sdpa(query, key, value, *args, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(query, key, value)


def _addmm(total, a, b, *args, out_shape=None, **kwargs) -> int:
    return 2 * a.numel() * b[1]


def _num_pixels(out_shape: torch.Size, packed: bool) -> int:
    """Of all images; packed bits are (N, H, W, bytes)."""
    channels = out_shape[-1 if packed else 1]
    return out_shape.numel() // channels


def _names_of_arguments(name: str) -> list[str]:
    operator = getattr(torch.ops.mmcompress, name)
    return [argument.name for argument in operator.default._schema.arguments]


def _packed_linear(name: str) -> Callable:
    names = _names_of_arguments(name)

    def flops(tokens: torch.Size, *args, out_shape=None, **kwargs) -> int:
        sizes = {**dict(zip(names[1:], args)), **kwargs}
        return 2 * math.prod(
            tokens[:-1]) * sizes['num_outputs'] * sizes['channels']

    return flops


def _packed_conv(name: str) -> Callable:
    names = _names_of_arguments(name)

    def flops(*args, out_shape=None, **kwargs) -> int:
        shape = {**dict(zip(names, args)), **kwargs}['weight_shape']
        if isinstance(out_shape, torch.Size):
            pixels = _num_pixels(out_shape, packed=name.endswith('bits'))
        else:
            # one of the two may be left out
            values, bits = out_shape
            packed = values.numel() == 0
            pixels = _num_pixels(bits if packed else values, packed)
        return 2 * pixels * math.prod(shape)

    return flops


def _integers(name: str) -> Callable:
    names = _names_of_arguments(name)

    def flops(x: torch.Size, *args, out_shape=None, **kwargs) -> int:
        shape = {**dict(zip(names[1:], args)), **kwargs}['weight_shape']
        if name.endswith('linear'):
            return 2 * math.prod(x[:-1]) * math.prod(shape)
        # values, and codes, which are as many or left out
        out = out_shape if isinstance(out_shape, torch.Size) else out_shape[0]
        return 2 * _num_pixels(out, False) * math.prod(shape)

    return flops


def _routed_attention(q: torch.Size,
                      k: torch.Size,
                      v: torch.Size,
                      routes: torch.Size,
                      grid: list[int],
                      *args,
                      out_shape=None,
                      **kwargs) -> int:
    keys = routes[2] * k[1] * k[2] // math.prod(grid)
    return 2 * math.prod(q[:3]) * keys * (q[3] + v[3])


def _match_merge(keys: torch.Size, *args, out_shape=None, **kwargs) -> int:
    # sources by destinations; keys are averaged over heads first
    batch, _, num, channels = keys
    return 2 * batch * (num // 2) * ((num + 1) // 2) * channels


_INTEGERS = {
    getattr(torch.ops.mmcompress, f'{engine}_{operator}'):
    _integers(f'{engine}_{operator}')
    for engine in ('integer', 'onednn', 'float')
    for operator in ('conv2d', 'conv2d_codes', 'linear')
    if hasattr(torch.ops.mmcompress, f'{engine}_{operator}')
}
PACKED = {
    getattr(torch.ops.mmcompress, f'{kind}{result}'): formula(kind + result)
    for kind, formula in (('binary_conv2d', _packed_conv), ('binary_linear',
                                                            _packed_linear))
    for result in ('', '_bits', '_fused')
}
# what torch's table of formulas lacks
_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa,
    # mmcv's deformable convolutions
    torch.ops.aten.addmm_: _addmm,
    torch.ops.mmcompress.routed_attention: _routed_attention,
    torch.ops.mmcompress.match_merge: _match_merge,
    **PACKED,
    **_INTEGERS
}


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Let torch's attention layers compute by operators that count."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _MacsByModule:
    """Attributes what a flop counter counts to the innermost module."""

    def __init__(self, model: nn.Module, counter: FlopCounterMode) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.counter = counter
        self.macs: dict[str, Counter] = defaultdict(Counter)
        # for each module that runs: the counts at its start, and what modules
        # below it have added
        self.running: list[tuple[Counter, Counter]] = []

    def _now(self) -> Counter:
        # torch counts a multiplication and an addition
        flops = self.counter.get_flop_counts().get('Global', {})
        return Counter({op: count // 2 for op, count in flops.items()})

    def _enter(self, module: nn.Module, args: tuple) -> None:
        if module in self.names:
            self.running.append((self._now(), Counter()))

    def _leave(self, module: nn.Module, args: tuple, output) -> None:
        if module not in self.names:
            return
        start, below = self.running.pop()
        added = self._now() - start
        self.macs[self.names[module]] += added - below
        if self.running:
            self.running[-1][1].update(added)

    def _watched(self, module: nn.Module, method: Callable) -> Callable:

        def watched(*args, **kwargs):
            self._enter(module, args)
            try:
                return method(*args, **kwargs)
            finally:
                self._leave(module, args, None)

        return watched

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Attribute what is counted meanwhile."""
        handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True)
        ]
        # packed layers in a row call each other past `forward`
        patched = [(module, name) for module in self.names
                   if isinstance(module, LowBitModule)
                   for name in module.other_calls]
        for module, name in patched:
            setattr(module, name, self._watched(module, getattr(module, name)))
        try:
            yield
        finally:
            for module, name in patched:
                delattr(module, name)
            for handle in handles:
                handle.remove()


@contextmanager
def _without_gradients(model: nn.Module) -> Iterator[None]:
    """Parameters that need none: ``torch.no_grad`` is not enough.

    Pieces of a split parameter say that they need one, as the queries of
    Deformable DETR do, and torch's counter asks for it.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with torch.no_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def count_macs(model: nn.Module, batch: dict) -> dict[str, Counter]:
    """Multiply-accumulates of a forward, by the module that computes them.

    Convolutions, matrix products and attention count, however they are
    called; norms, activations, pooling and sums don't. A product that a
    method computes outside of any layer counts for the module whose
    ``forward`` runs.

    Args:
        model (nn.Module): A model of an mm library, in eval mode.
        batch (dict): Preprocessed; the model runs in mode ``'tensor'``.

    Returns:
        dict[str, Counter]: By the module's name and the operator.
    """
    # what tries the engines is no part of the model
    choose_engine()
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    by_module = _MacsByModule(model, counter)
    with _without_gradients(model), _without_fast_path(), counter, \
            by_module.watch():
        model(**batch, mode='tensor')
    return dict(by_module.macs)


def _operations(macs: Counter, bits: OperandBits) -> tuple[int, int]:
    """FLOPs and BOPs of a module."""
    packed = sum(macs[operator] for operator in PACKED)
    others = macs.total() - packed
    if bits.are_low:
        return 0, packed + others * math.prod(bits.factors)
    return others, packed


# ---- Memory ----------------------------------------------------------------


def _own_tensors(module: nn.Module, seen: set[Tensor]) -> list[Tensor]:
    """Parameters and saved buffers of a module that were not seen before.

    Scales of its quantizers are its own.
    """
    owners = [
        module,
        *(child for child in module.children() if isinstance(child, Quantizer))
    ]
    tensors = [
        tensor for owner in owners
        for name, tensor in (*owner._parameters.items(),
                             *owner._buffers.items())
        if tensor is not None and name not in owner._non_persistent_buffers_set
        and tensor not in seen
    ]
    seen.update(tensors)
    return tensors


def _num_params(module: nn.Module, tensors: list[Tensor]) -> int:
    """Number of parameters, of which packed layers keep codes."""
    codes = 0
    if isinstance(module, LowBitModule):
        codes = module.num_packed_weights()
    return codes + sum(t.numel()
                       for t in tensors if isinstance(t, nn.Parameter))


def _packed_bytes(module: nn.Module, tensors: list[Tensor]) -> int:
    """Bytes of a module once its weight takes as few bits as it needs."""
    packed = None
    # what others share counts for the first
    if isinstance(module, LowBitModule) and tensors:
        packed = module.inference_bytes()
    return num_bytes(tensors) if packed is None else packed


def complexity(model: nn.Module, batch: dict) -> list[LayerCost]:
    """Cost of every module that holds or computes something itself.

    Args:
        model (nn.Module): A model of an mm library, in eval mode.
        batch (dict): See :func:`count_macs`; counts are for all its images.

    Returns:
        list[LayerCost]: In the model's order. What several modules share
        counts for the first; what a distiller adds is left out, because the
        trained model does without.
    """
    macs = count_macs(model, batch)
    seen: set[Tensor] = set()
    costs = []
    for name, module in model.named_modules():
        if name.split('.')[0] == 'distill' or isinstance(module, Quantizer):
            continue
        tensors = _own_tensors(module, seen)
        if not tensors and not macs.get(name):
            continue
        bits = operand_bits(module)
        own = macs.get(name, Counter())
        flops, bops = _operations(own, bits)
        costs.append(
            LayerCost(
                name=name,
                kind=type(module).__name__,
                bits=bits.factors,
                params=_num_params(module, tensors),
                bytes_stored=num_bytes(tensors),
                bytes_packed=_packed_bytes(module, tensors),
                macs=own.total(),
                flops=flops,
                bops=bops))
    return costs


def total(costs: list[LayerCost]) -> LayerCost:
    """Sum over modules, under the name ``'total'``."""
    sums = {
        field: sum(getattr(cost, field) for cost in costs)
        for field in ('params', 'bytes_stored', 'bytes_packed', 'macs',
                      'flops', 'bops')
    }
    return LayerCost(name='total', kind='', bits=(FLOAT, FLOAT), **sums)
