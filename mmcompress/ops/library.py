"""Registration: the compiled kernels, or the reference under their names.

``mmcompress/ops/_C*.so`` are loaded if they are there and
``MMCOMPRESS_ISA`` isn't ``reference``. Either way the operators
``torch.ops.mmcompress.*`` exist, with the same schemas; tensors on a device
that no kernel was built for take the reference.
"""
import json
import os
import warnings
from functools import cache, wraps
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

from . import reference
from .reference import (check_channels, check_convolution, check_weight_shape,
                        packed_bytes)
from .roi_align import fake_roi_align, roi_align_reference

_CONV = ('int[] weight_shape, int[2] stride, int[2] padding, '
         'int[2] dilation, int groups=1, int pad_value=0')
SCHEMAS = {
    'binary_pack':
    '(Tensor x, Tensor? threshold=None, Tensor? flip=None) -> Tensor',
    'binary_unpack':
    '(Tensor bits, int channels) -> Tensor',
    'binary_prepack':
    "(Tensor weight_bits, int[] weight_shape, int groups=1, str isa='') "
    '-> Tensor',
    'binary_conv2d':
    f'(Tensor bits, Tensor blob, {_CONV}) -> Tensor',
    'binary_conv2d_bits':
    f'(Tensor bits, Tensor blob, Tensor limit, Tensor flip, {_CONV}) '
    '-> Tensor',
    'binary_conv2d_fused':
    '(Tensor x, Tensor blob, Tensor scale, Tensor shift, Tensor? threshold, '
    'Tensor? flip, Tensor? residual, Tensor? pre, Tensor? slope, '
    'Tensor? post, Tensor? next_threshold, Tensor? next_flip, '
    f'{_CONV}, bool bits_only=False) -> (Tensor, Tensor)',
    'roi_align':
    '(Tensor x, Tensor rois, int[2] output_size, float spatial_scale, '
    'int sampling_ratio, bool aligned) -> Tensor',
}
_FOLDER = Path(__file__).parent


def _load(name: str) -> str:
    """Load a library of operators.

    Args:
        name (str): Its file.

    Returns:
        str: Why that failed, else empty.
    """
    try:
        torch.ops.load_library(_FOLDER / name)
    except OSError as error:
        return f'{name} does not load: {error.__cause__ or error}'
    return ''


def _load_kernels() -> str:
    """Load the kernels that are built.

    Returns:
        str: Why the reference serves, empty if it doesn't.
    """
    wanted = os.environ.get('MMCOMPRESS_ISA', '')
    if wanted == 'reference':
        return 'MMCOMPRESS_ISA=reference asks for it'
    if (_FOLDER / '_C.so').exists():
        reason = _load('_C.so')
    else:
        reason = 'no kernels are built, see docs/ops.md'
    if reason and wanted:
        raise RuntimeError(f'MMCOMPRESS_ISA={wanted} cannot be had: {reason}')
    # its operators are declared in the other file
    if not reason and (_FOLDER / '_C_cuda.so').exists():
        problem = _load('_C_cuda.so')
        if problem:
            warnings.warn(f'1-bit operators are slow on GPUs: {problem}',
                          RuntimeWarning)
    return reason


@cache
def _warn_of_slowness(device: str) -> None:
    reason = MISSING or f'no kernel is built for tensors on {device}'
    warnings.warn(
        f'1-bit operators run on the slow PyTorch reference: {reason}',
        RuntimeWarning)


def _slow(function: Callable) -> Callable:
    """Say once that this is not the fast path, unless it was asked for."""

    @wraps(function)
    def wrapper(x: Tensor, *args):
        if os.environ.get('MMCOMPRESS_ISA') != 'reference':
            _warn_of_slowness(x.device.type)
        return function(x, *args)

    return wrapper


def _fake_pack(x: Tensor, threshold=None, flip=None) -> Tensor:
    num, channels, height, width = x.shape
    return x.new_empty((num, height, width, packed_bytes(channels)),
                       dtype=torch.uint8)


def _empty_image(like: Tensor, shape: tuple, dtype: torch.dtype) -> Tensor:
    return torch.empty(
        shape,
        dtype=dtype,
        device=like.device,
        memory_format=torch.channels_last)


def _fake_unpack(bits: Tensor, channels: int) -> Tensor:
    num, height, width, _ = bits.shape
    return _empty_image(bits, (num, channels, height, width), torch.float32)


def _fake_prepack(weight_bits: Tensor,
                  weight_shape: list[int],
                  groups: int = 1,
                  isa: str = '') -> Tensor:
    check_weight_shape(weight_shape, groups)
    # only the kernels know how large their layout is
    size = torch.library.get_ctx().new_dynamic_size()
    return weight_bits.new_empty(size)


def _fake_conv2d(bits: Tensor,
                 blob: Tensor,
                 weight_shape: list[int],
                 stride: list[int],
                 padding: list[int],
                 dilation: list[int],
                 groups: int = 1,
                 pad_value: int = 0) -> Tensor:
    out = check_convolution(bits.shape[1:3], bits.shape[3], weight_shape,
                            stride, padding, dilation, groups, pad_value)
    return _empty_image(bits, (bits.shape[0], weight_shape[0], *out),
                        torch.int32)


def _fake_conv2d_bits(bits: Tensor, blob: Tensor, limit: Tensor, flip: Tensor,
                      *conv) -> Tensor:
    return _fake_pack(_fake_conv2d(bits, blob, *conv))


def _fake_conv2d_fused(x: Tensor,
                       blob: Tensor,
                       scale: Tensor,
                       shift: Tensor,
                       threshold: Tensor | None,
                       flip: Tensor | None,
                       residual: Tensor | None,
                       pre: Tensor | None,
                       slope: Tensor | None,
                       post: Tensor | None,
                       next_threshold: Tensor | None,
                       next_flip: Tensor | None,
                       weight_shape: list[int],
                       stride: list[int],
                       padding: list[int],
                       dilation: list[int],
                       groups: int = 1,
                       pad_value: int = 0,
                       bits_only: bool = False) -> tuple[Tensor, Tensor]:
    check_channels(x, weight_shape, groups)
    bits = x if x.dtype == torch.uint8 else _fake_pack(x)
    k = _fake_conv2d(bits, blob, weight_shape, stride, padding, dilation,
                     groups, pad_value)
    out = x.new_empty(0, dtype=torch.uint8)
    if next_threshold is not None:
        out = _fake_pack(k)
    if bits_only:
        return x.new_empty(0, dtype=torch.float32), out
    return _empty_image(x, k.shape, torch.float32), out


_FAKES = {
    'binary_pack': _fake_pack,
    'binary_unpack': _fake_unpack,
    'binary_prepack': _fake_prepack,
    'binary_conv2d': _fake_conv2d,
    'binary_conv2d_bits': _fake_conv2d_bits,
    'binary_conv2d_fused': _fake_conv2d_fused,
    'roi_align': fake_roi_align,
}

_DEFINITIONS = {
    name: getattr(reference, name)
    for name in SCHEMAS if name != 'roi_align'
}
_DEFINITIONS['roi_align'] = roi_align_reference


def _register() -> torch.library.Library:
    """Give every operator its reference, shapes and rule under autocast."""
    library = torch.library.Library('mmcompress', 'FRAGMENT')
    for name, schema in SCHEMAS.items():
        if MISSING:
            library.define(name + schema)
        function = _DEFINITIONS[name]
        if 'conv2d' in name:
            function = _slow(function)
        library.impl(name, function, 'CompositeExplicitAutograd')
        torch.library.register_fake(
            f'mmcompress::{name}', _FAKES[name], lib=library)
        # half precision cannot hold the sums
        for device in ('cpu', 'cuda'):
            torch.library.register_autocast(
                f'mmcompress::{name}', device, torch.float32, lib=library)
    return library


# why no kernels are there, empty if they are
MISSING = _load_kernels()
_LIBRARY = _register()


def build_info() -> dict:
    """Say which kernels are built and which run.

    Returns:
        dict: ``extension`` (list of the loaded files), ``built`` (instruction
        sets that the CPU kernels were compiled for), ``runnable`` (those that
        this machine has, the slowest first), ``isa`` (the one in use: the
        last of them, or what ``MMCOMPRESS_ISA`` asks for) and ``reason`` (why
        the reference runs, empty if it doesn't).
    """
    if MISSING:
        return dict(
            extension=[],
            built=[],
            runnable=['reference'],
            isa='reference',
            reason=MISSING)
    files = [
        str(path) for path in sorted(_FOLDER.glob('_C*.so'))
        if str(path) in torch.ops.loaded_libraries
    ]
    kernels = json.loads(torch.ops.mmcompress.build_info())
    return dict(extension=files, **kernels, reason='')
