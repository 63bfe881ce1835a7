"""Registration: the compiled kernels, or the reference under their names.

``mmcompress/ops/_C*.so`` are loaded if they are there and
``MMCOMPRESS_ISA`` isn't ``reference``. Either way the operators
``torch.ops.mmcompress.*`` exist, with the same schemas; tensors on a device
that no kernel was built for take the reference.

What an operator is stands in the file of its family, which hands it to
:func:`register`.
"""
import json
import os
import warnings
from functools import cache, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Callable

import torch
from torch import Tensor

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


# why no kernels are there, empty if they are
MISSING = _load_kernels()

# the operators, and their references and schemas by name
operators = torch.ops.mmcompress
reference = SimpleNamespace()
SCHEMAS: dict[str, str] = {}
_LIBRARY = torch.library.Library('mmcompress', 'FRAGMENT')


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


def _in_float32(definition: Callable) -> Callable:
    """A definition that computes in float32 under autocast, too.

    Twins in plain PyTorch call it past the operator.
    """

    @wraps(definition)
    def wrapper(x: Tensor, *args, **kwargs):
        with torch.autocast(x.device.type, enabled=False):
            return definition(x, *args, **kwargs)

    return wrapper


def register(name: str,
             schema: str,
             definition: Callable,
             fake: Callable,
             warns: bool = False,
             elsewhere: Callable | None = None) -> None:
    """Make ``torch.ops.mmcompress.NAME``.

    Its kernels are those that the loaded libraries hold. Everywhere else the
    definition runs, or ``elsewhere``. Under autocast it computes in float32:
    half precision cannot hold the sums.

    Args:
        name (str): Of the operator.
        schema (str): Arguments and results, the same as in
            ``ops/csrc/binding.cpp``.
        definition (Callable): The operator in plain PyTorch, the reference
            of the kernels.
        fake (Callable): Its checks, and tensors of the result's shape, dtype
            and strides.
        warns (bool): Say once where the definition runs although nobody asked
            for it, because it is much slower. Defaults to False.
        elsewhere (Callable | None): The same by other operators, which have
            kernels where this one may have none.
    """
    SCHEMAS[name] = schema
    definition = _in_float32(definition)
    setattr(reference, name, definition)
    function = elsewhere or definition
    define(name, schema, _slow(function) if warns else function, fake)


def define(name: str, schema: str, function: Callable, fake: Callable) -> None:
    """Make ``torch.ops.mmcompress.NAME`` of a function.

    It runs wherever the loaded libraries hold no kernel of that name. Under
    autocast the operator computes in float32.

    Args:
        name, schema, fake: As for :func:`register`.
        function (Callable): Takes what the schema says.
    """
    # the loaded libraries declare those that they have kernels for
    if not hasattr(torch.ops.mmcompress, name):
        _LIBRARY.define(name + schema)
    _LIBRARY.impl(name, function, 'CompositeExplicitAutograd')
    full_name = f'mmcompress::{name}'
    torch.library.register_fake(full_name, fake, lib=_LIBRARY)
    for device in ('cpu', 'cuda'):
        torch.library.register_autocast(
            full_name, device, torch.float32, lib=_LIBRARY)


def kernel_info() -> dict:
    """What :func:`build_info` says of the kernels."""
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
