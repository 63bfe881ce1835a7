"""What a packed model knows about itself, so that no wrong file fills it."""
import hashlib
import os
import struct
import zipfile

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import LowBitModule
from ..packed_layers import PackedBackbone
from .values import impossible_value

# raised when files of before can't be read any more
FORMAT_VERSION = 2
_GEOMETRY = ('stride', 'padding', 'dilation', 'groups', 'eps')
# buffers of the root
_RECORD = ('packed_version', 'packed_fingerprint', 'packed_checksum')


def _digest(text: bytes) -> Tensor:
    return torch.tensor(list(hashlib.sha256(text).digest()), dtype=torch.uint8)


def fingerprint(model: nn.Module) -> Tensor:
    """Digest of the architecture: classes, shapes, strides, no values.

    Args:
        model (nn.Module): A packed model.

    Returns:
        Tensor: uint8, shape (32, ).
    """
    lines = []
    for name, module in model.named_modules():
        tensors = {
            key: tuple(tensor.shape)
            for key, tensor in (*module._parameters.items(),
                                *module._buffers.items())
            if tensor is not None and key not in (
                *module._non_persistent_buffers_set, *_RECORD)
        }
        if not tensors and not isinstance(module, PackedBackbone):
            continue
        if isinstance(module, LowBitModule):
            geometry = module.record()
        elif isinstance(module, PackedBackbone):
            geometry = module.out_indices
        else:
            geometry = [getattr(module, key, None) for key in _GEOMETRY]
        lines.append(f'{name} {type(module).__name__} {geometry} {tensors}')
    return _digest('\n'.join(lines).encode())


def checksum(state_dict: dict[str, Tensor]) -> Tensor:
    """Digest of all values.

    Floats count as float32, so that what was stored in half precision has the
    same digest once it is loaded.

    Args:
        state_dict (dict[str, Tensor]): Of a packed model; its checksum itself
            is left out.

    Returns:
        Tensor: uint8, shape (32, ).
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        if name == 'packed_checksum':
            continue
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()
        digest.update(f'{name} {tuple(tensor.shape)} '.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return 'none'
    return f'{tuple(tensor.shape)}, {str(tensor.dtype).removeprefix("torch.")}'


def _fits(own: Tensor, theirs: Tensor) -> bool:
    """Whether a value of the file can be one of the model."""
    dtypes = [own.dtype]
    if own.is_floating_point():
        dtypes.append(torch.float32)
        if own.dim() > 1:
            # what pack.py stores in half precision
            dtypes.append(torch.float16)
    return own.shape == theirs.shape and theirs.dtype in dtypes


def _is_dense(value: Tensor) -> bool:
    """Whether a tensor has a place in memory for each of its values."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    formats = [torch.contiguous_format]
    if value.dim() == 4:
        formats.append(torch.channels_last)
    return any(value.is_contiguous(memory_format=f) for f in formats)


def _difference(own: dict[str, Tensor], theirs: dict) -> str | None:
    """The first key that doesn't fit; None if all do."""
    for key, value in theirs.items():
        if not isinstance(value, Tensor):
            return f'{key} is a {type(value).__name__}, not a tensor'
        if not _is_dense(value):
            return (f'{key} is no dense tensor, or claims more bytes than the '
                    'file has')
    for key in (*own, *theirs):
        ours, found = own.get(key), theirs.get(key)
        if ours is None or found is None or not _fits(ours, found):
            return (f'{key} has shape {_describe(found)} in the file, '
                    f'{_describe(ours)} in the model')
    return None


def _check_version(version: object) -> None:
    number = None
    if (isinstance(version, Tensor) and version.numel() == 1
            and version.dtype == torch.int64):
        number = int(version)
    if number is None or number < 1:
        raise RuntimeError(f'the packed file is damaged: its format version '
                           f'is {version}')
    if number > FORMAT_VERSION:
        raise RuntimeError(
            f'the packed file has format {number}, this version of '
            f'mmcompress reads up to {FORMAT_VERSION}: update mmcompress')


def _check(model: nn.Module, state: dict) -> None:
    """Raise a ``RuntimeError`` unless a state belongs to a model."""
    name = type(model).__name__
    if 'packed_version' not in state:
        raise RuntimeError(
            f'the weights for this packed {name} are not packed: run '
            'tools/deploy/pack.py on them, and load what it writes')
    _check_version(state['packed_version'])
    advice = ('Use the config that tools/deploy/pack.py wrote beside it, or '
              'pack again')
    difference = _difference(model.state_dict(), state)
    if difference is not None:
        raise RuntimeError('the packed file is damaged or of another '
                           f'architecture than this {name}: {difference}. '
                           f'{advice}')
    if not torch.equal(state['packed_fingerprint'].cpu(), fingerprint(model)):
        raise RuntimeError(
            'the packed file is damaged or of another architecture than this '
            f'{name}: all shapes agree, strides or classes of layers differ. '
            f'{advice}')
    if not torch.equal(state['packed_checksum'].cpu(), checksum(state)):
        raise RuntimeError(
            'the packed file is damaged: its values do not have the checksum '
            'that was stored with them. Copy it again, or pack again')
    problem = impossible_value(model, state)
    if problem is not None:
        raise RuntimeError(
            f'the packed file is damaged: {problem}, which no packing wrote. '
            'Copy it again, or pack again')


def _check_meta(file: str) -> None:
    """Raise a ``RuntimeError`` if what lies beside the values was changed.

    Names of classes do. The archive keeps a sum of theirs, at which torch
    doesn't look.
    """
    with open(file, 'rb') as opened:
        if opened.read(2) != b'PK':
            # torch's format of before
            return
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith('/data.pkl'):
                    # compares
                    archive.read(name)
    except (EOFError, NotImplementedError, OSError, ValueError, struct.error,
            zipfile.BadZipFile) as error:
        raise RuntimeError(f'the packed file is damaged: {error}. Copy it '
                           'again, or pack again') from None


def check_packed_state(model: nn.Module, state_dict: dict, prefix: str,
                       local_metadata: dict, *args) -> None:
    """Hook in front of loading: refuse what doesn't belong here.

    mmengine loads with ``strict=False`` and warns; here nothing is loaded.
    The architecture is compared key by key before any value is looked at.

    Raises:
        RuntimeError: If the weights are not packed, of a newer format, of
            another architecture, or damaged; names the file, where the
            loader said it.
    """
    state = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items() if key.startswith(prefix)
    }
    file = local_metadata.get('file')
    try:
        _check(model, state)
        if file and os.path.isfile(file):
            _check_meta(file)
    except RuntimeError as error:
        raise RuntimeError(f'{file}: {error}' if file else str(error)) \
            from None


def attach_record(model: nn.Module) -> None:
    """Give a packed model its record, and the check when it is loaded.

    Format version, fingerprint and checksum are buffers, so they are in every
    state dict.
    """
    values = (torch.tensor(FORMAT_VERSION), fingerprint(model),
              torch.zeros(32, dtype=torch.uint8))
    for name, value in zip(_RECORD, values):
        model.register_buffer(name, value)
    model.register_load_state_dict_pre_hook(check_packed_state)


def seal(model: nn.Module) -> None:
    """Store the checksum of the values as they are now."""
    model.packed_checksum.copy_(checksum(model.state_dict()))
