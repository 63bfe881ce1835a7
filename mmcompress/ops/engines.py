"""Who computes with integers: oneDNN, our kernels, or float32 products.

All give the same bits, those of the definition, or they are not used: an
engine is compared with the definition when the first model is loaded, see
:mod:`mmcompress.ops.engine_probe`, whatever the processor says about itself.
"""
import os
from dataclasses import dataclass
from functools import cache
from typing import Callable

import torch

from . import layer_norm  # noqa: F401  registers its operator
from . import integer, integer_blob, library, onednn
from .engine_probe import difference

_FUNCTIONS = ('integer_prepack', 'integer_conv2d', 'integer_conv2d_codes',
              'integer_linear')


@dataclass(frozen=True)
class Engine:
    """The integer operators, called as their schemas say, by position.

    A blob belongs to the engine that made it.
    """
    name: str
    # without the instruction set
    integer_prepack: Callable
    integer_conv2d: Callable
    integer_conv2d_codes: Callable
    integer_linear: Callable
    quantize_codes: Callable = library.operators.quantize_codes
    layer_norm_codes: Callable = library.operators.layer_norm_codes

    def __reduce__(self) -> tuple:
        # operators can't be pickled
        return _usable, (self.name, )


def _engine(name: str, prefix: str) -> Engine:
    operators = (
        getattr(library.operators, f.replace('integer', prefix))
        for f in _FUNCTIONS)
    return Engine(name, *operators)


def _define(name: str, functions: dict) -> Engine:
    """Make operators named after the engine, so that graphs can hold them."""
    for function in _FUNCTIONS:
        library.define(
            function.replace('integer', name),
            library.SCHEMAS[function].replace(", str isa=''",
                                              ''), *functions[function])
    return _engine(name, name)


_FLOAT = dict(
    integer_prepack=(library.reference.integer_prepack,
                     integer_blob.fake_integer_prepack),
    integer_conv2d=(library.reference.integer_conv2d,
                    integer.fake_integer_conv2d),
    integer_conv2d_codes=(library.reference.integer_conv2d_codes,
                          integer.fake_integer_conv2d_codes),
    integer_linear=(library.reference.integer_linear,
                    integer.fake_integer_linear))

# the fastest first, as ops/benchmarks measured, see `_fastest`
_ENGINES = {
    'kernels': _engine('kernels', 'integer'),
    'onednn': _define('onednn', onednn.OPERATORS),
    'float': _define('float', _FLOAT)
}


def _missing(name: str, device: str) -> str:
    """Why an engine isn't there, empty if it is."""
    if name == 'onednn':
        if device != 'cpu':
            return f'computes on the CPU, not on {device}'
        return onednn.missing()
    if name == 'kernels':
        if library.MISSING:
            return library.MISSING
        built = torch._C._dispatch_has_kernel_for_dispatch_key(
            'mmcompress::integer_conv2d', device.upper())
        return '' if built else f'no integer kernels are built for {device}'
    return ''


@cache
def why_not(name: str, device: str = 'cpu') -> str:
    """Say why an engine can't be used here.

    Args:
        name (str): ``'onednn'``, ``'kernels'`` or ``'float'``.
        device (str): Type of the device. Defaults to ``'cpu'``.

    Returns:
        str: Empty if it can: it is there, and a probe found its results equal
        to those of the definition.
    """
    reason = _missing(name, device)
    # the definition itself
    if reason or name == 'float':
        return reason
    try:
        return difference(_ENGINES[name], torch.device(device))
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        # names and arguments of oneDNN's operators are not public
        return f'fails: {type(error).__name__}: {error}'


@cache
def _fastest(device: str) -> list[Engine]:
    """The engines, the fastest first."""
    # loops without vectors take five times as long as float products
    is_slow = device == 'cpu' and library.kernel_info()['isa'] == 'portable'
    return sorted(
        _ENGINES.values(), key=lambda e: is_slow and e.name == 'kernels')


def choose_engine(device: str | torch.device = 'cpu') -> Engine:
    """Take the fastest engine whose results are exact here.

    ``MMCOMPRESS_ENGINE`` forces one. The first call takes a tenth of a
    second.

    Args:
        device (str | torch.device): Where the layers are.

    Returns:
        Engine: Its operators.

    Raises:
        RuntimeError: If the one that is asked for can't be used.
    """
    kind = torch.device(device).type
    wanted = os.environ.get('MMCOMPRESS_ENGINE', '')
    if not wanted:
        return next(e for e in _fastest(kind) if not why_not(e.name, kind))
    if wanted not in _ENGINES:
        raise RuntimeError(f'MMCOMPRESS_ENGINE={wanted} is none of '
                           f'{", ".join(_ENGINES)}')
    reason = why_not(wanted, kind)
    if reason:
        raise RuntimeError(
            f'MMCOMPRESS_ENGINE={wanted} cannot be had: {reason}')
    return _ENGINES[wanted]


def _usable(name: str) -> Engine:
    """What a pickled engine becomes."""
    reason = why_not(name)
    if reason:
        raise RuntimeError(
            f"the engine '{name}' of this model cannot be had here: {reason}")
    return _ENGINES[name]


def build_info() -> dict:
    """Say which kernels are built and which run.

    Returns:
        dict: ``extension`` (list of the loaded files), ``built`` (instruction
        sets that the CPU kernels were compiled for), ``runnable`` (those that
        this machine has, the slowest first), ``isa`` (the one in use: the
        last of them, or what ``MMCOMPRESS_ISA`` asks for), ``reason`` (why
        the reference runs, empty if it doesn't), ``engine`` (which one
        computes with integers on the CPU) and ``engines`` (all of them, and
        why one can't be used here, else empty).
    """
    return dict(
        library.kernel_info(),
        engine=choose_engine().name,
        engines={name: why_not(name)
                 for name in _ENGINES})
