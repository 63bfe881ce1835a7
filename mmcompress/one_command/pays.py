"""Which low-bit layers are faster than float ones on this machine."""
import copy
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor

from mmcompress.analysis.timing import (device_clock, interleaved,
                                        keep_freed_memory, median_interval)
from mmcompress.deploy import pack
from mmcompress.distill.taps import map_tensors, tensors_of
from mmcompress.lowbit import LowBitLayer
from mmcompress.model.inputs import noise_batch
from mmcompress.ops import build_info

# a part is slower where the whole interval of its gain is below
SLOWER = 0.95
# measurements of a part, and seconds that it may take beyond the fewest
FEWEST, MOST, SECONDS = 7, 21, 1.0


@dataclass(frozen=True)
class LayerTime:
    """Time of a low-bit layer, or of a block that packs as one.

    Attributes:
        name (str): Of the layer or block in the model.
        kind (str): What it is, as ``'3x3 convolutions of 64 channels'``.
        shape (tuple[int, ...]): Of its first input.
        float_ms (float): Of the float layer or block with the norms in it, in
            the better of torch's memory layouts; median.
        packed_ms (float): Of the packed one; median.
        gain (tuple[float, float]): 95 % interval of the median of float time
            over packed time in a round.
        layers (tuple[str, ...]): The low-bit layers in it.
    """
    name: str
    kind: str
    shape: tuple[int, ...]
    float_ms: float
    packed_ms: float
    gain: tuple[float, float]
    layers: tuple[str, ...]

    @property
    def is_slower(self) -> bool:
        """Whether it is slower than in float, by a clear margin."""
        return self.gain[1] < SLOWER


# ---- What is compared ------------------------------------------------------


def _is_packed(module: nn.Module) -> bool:
    return (isinstance(module, LowBitLayer)
            or type(module).__module__.startswith('mmcompress.deploy.'))


def _units(packed: nn.Module, trained: nn.Module) -> dict[str, list[str]]:
    """Outermost packed modules, with the low-bit layers that they stand for.

    Args:
        packed (nn.Module): The packed model.
        trained (nn.Module): The model that was packed.
    """
    low_bit = [
        name for name, module in trained.named_modules()
        if isinstance(module, LowBitLayer)
    ]
    units: dict[str, list[str]] = {}
    for name, module in packed.named_modules():
        inside = any(name.startswith(f'{unit}.') for unit in units)
        if not name or inside or not _is_packed(module):
            continue
        layers = [
            layer for layer in low_bit
            if layer == name or layer.startswith(f'{name}.')
        ]
        if layers:
            units[name] = layers
    return units


def _describe(layers: list[nn.Module]) -> str:
    """What a layer is, or a block of several."""
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if len(layers) == 1 and convs:
        height, width = convs[0].kernel_size
        return (f'{height}x{width} convolutions of {convs[0].in_channels} '
                'channels')
    if len(layers) == 1 and linear:
        return f'linear layers of {linear[0].in_features} features'
    if convs:
        widths = max(conv.in_channels for conv in convs)
        return f'blocks of {len(convs)} convolutions of {widths} channels'
    if linear:
        widths = max(layer.in_features for layer in linear)
        return f'blocks of {len(linear)} linear layers of {widths} features'
    return f'{type(layers[0]).__name__}s'


@torch.no_grad()
def _inputs(model: nn.Module, names: Iterable[str],
            batch: dict) -> dict[str, list[tuple]]:
    """What modules are given in a forward, call by call."""
    calls: dict[str, list[tuple]] = defaultdict(list)
    handles = []
    for name in names:

        def note(module, args, kwargs, name=name):
            calls[name].append((map_tensors(args, Tensor.detach),
                                map_tensors(dict(kwargs), Tensor.detach)))

        handles.append(
            model.get_submodule(name).register_forward_pre_hook(
                note, with_kwargs=True))
    try:
        model(**batch, mode='tensor')
    finally:
        for handle in handles:
            handle.remove()
    return calls


# ---- Timing ----------------------------------------------------------------


def _all_calls(module: nn.Module, calls: list[tuple]) -> Callable[[], None]:

    def run() -> None:
        for args, kwargs in calls:
            module(*args, **kwargs)

    return run


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


def _parts(float_module: nn.Module, float_calls: list, packed: nn.Module,
           packed_calls: list) -> dict[str, Callable[[], None]]:
    parts = dict(
        packed=_all_calls(packed, packed_calls),
        float=_all_calls(
            float_module,
            [map_tensors(call, Tensor.contiguous) for call in float_calls]))
    if any(t.dim() == 4 for t in tensors_of(float_calls)):
        turned = copy.deepcopy(float_module)
        parts['channels_last'] = _all_calls(
            turned.to(memory_format=torch.channels_last),
            [map_tensors(call, _channels_last) for call in float_calls])
    return parts


@contextmanager
def _clock(device: str) -> Iterator[Callable[[], float]]:
    """A clock that a busy machine doesn't disturb, where there is one."""
    if torch.device(device).type != 'cpu':
        yield device_clock(device)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield time.thread_time
    finally:
        torch.set_num_threads(threads)


def _time(parts: dict, clock: Callable) -> tuple[float, float, tuple]:
    """Milliseconds in float and packed, and the interval of the gain."""
    with torch.no_grad():
        start = time.perf_counter()
        seconds = interleaved(parts, FEWEST, clock=clock)
        spent = (time.perf_counter() - start) / FEWEST
        more = min(MOST - FEWEST, int(SECONDS / spent))
        for name, values in interleaved(parts, more, 0, clock).items():
            seconds[name] += values
    packed = seconds.pop('packed')
    best = min(seconds.values(), key=median)
    gains = [f / p for f, p in zip(best, packed)]
    return (1e3 * median(best), 1e3 * median(packed), median_interval(gains))


def _without_kernels(model: nn.Module) -> str:
    """Why the packed layers would run in plain PyTorch; empty if not."""
    info = build_info()
    bits = [
        m.operand_bits().weight for m in model.modules()
        if isinstance(m, LowBitLayer)
    ]
    if 1 in bits and info['isa'] == 'reference':
        return info['reason'] or 'MMCOMPRESS_ISA asks for the reference'
    if set(bits) - {1} and info['engine'] == 'reference':
        return '; '.join(filter(None, info['engines'].values()))
    return ''


def _prepared(model: nn.Module, device: str) -> nn.Module:
    model = copy.deepcopy(model).to(device).float()
    model.eval()
    return model.requires_grad_(False)


def what_pays(
        float_model: nn.Module,
        compressed_model: nn.Module,
        cfg: Config,
        device: str = 'cpu',
        progress: Callable[[Iterable], Iterable] = iter) -> list[LayerTime]:
    """Time the packed layers of a model against the float ones.

    Each gets the input that it has in its own model, on an image of noise of
    the size that the config tests on. Both run in one process, in turns.
    Layers that pack as one, such as a residual block, are timed as one. On a
    processor one thread works, and the time that it ran counts.

    Args:
        float_model (nn.Module): Left as it is.
        compressed_model (nn.Module): The same network with low-bit layers,
            trained, calibrated or not; left as it is.
        cfg (Config): Whole config of either.
        device (str): As for torch.
        progress (Callable): Wraps the layers while they are timed.

    Returns:
        list[LayerTime]: In the model's order; empty if there is no low-bit
        layer, and where the kernels are not built, of which a warning tells.
    """
    if not any(isinstance(m, LowBitLayer) for m in compressed_model.modules()):
        return []
    missing = _without_kernels(compressed_model)
    if missing and torch.device(device).type == 'cpu':
        print_log(
            'Packed layers were not timed: the kernels do not run here '
            f'({missing}), so PyTorch would stand in for them. '
            'docs/ops.md says how to build them',
            logger='current',
            level=logging.WARNING)
        return []
    keep_freed_memory()
    float_model = _prepared(float_model, device)
    trained = _prepared(compressed_model, device)
    with torch.random.fork_rng(devices=[]):
        batch = noise_batch(cfg, copy.deepcopy(float_model))
    packed = pack(trained)[1].to(device)
    modules = dict(float_model.named_modules())
    units = {n: v for n, v in _units(packed, trained).items() if n in modules}
    given = _inputs(float_model, units, batch), _inputs(packed, units, batch)
    called = [name for name in units if all(name in calls for calls in given)]
    times = []
    for name in progress(called):
        parts = _parts(modules[name], given[0][name],
                       packed.get_submodule(name), given[1][name])
        with _clock(device) as clock:
            in_float, in_bits, gain = _time(parts, clock)
        layers = [trained.get_submodule(layer) for layer in units[name]]
        first = tensors_of(given[0][name])[0]
        times.append(
            LayerTime(name, _describe(layers), tuple(first.shape), in_float,
                      in_bits, gain, tuple(units[name])))
    return times


def slower(times: list[LayerTime]) -> tuple[list[str], list[str]]:
    """What does not pay.

    Args:
        times (list[LayerTime]): What :func:`what_pays` measured.

    Returns:
        tuple[list[str], list[str]]: Names of the low-bit layers that had
        better stay float, and a sentence for each kind of them.
    """
    kinds: dict[str, list[LayerTime]] = defaultdict(list)
    for measured in times:
        if measured.is_slower:
            kinds[measured.kind].append(measured)
    names = [
        n for found in kinds.values() for time in found for n in time.layers
    ]
    sentences = []
    for kind, found in kinds.items():
        gain = (
            sum(time.float_ms for time in found) / sum(time.packed_ms
                                                       for time in found))
        sentences.append(f'{kind} ({len(found)}): slower than float '
                         f'({gain:.2g} x); left float')
    return names, sentences
