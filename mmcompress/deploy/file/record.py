"""What a packed model knows about itself, so that no wrong file fills it."""
import hashlib

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import LowBitModule
from ..packed_layers import PackedBackbone

# raised when files of before can't be read any more
FORMAT_VERSION = 1
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


def _differing_keys(model: nn.Module, state_dict: dict) -> str:
    own = {key: tuple(t.shape) for key, t in model.state_dict().items()}
    theirs = {key: tuple(t.shape) for key, t in state_dict.items()}
    for key in (*own, *theirs):
        if own.get(key) != theirs.get(key):
            return (f'{key} has shape {theirs.get(key, "none")} in the file, '
                    f'{own.get(key, "none")} in the model')
    return 'all shapes agree, strides or classes of layers differ'


def check_packed_state(model: nn.Module, state_dict: dict, prefix: str,
                       *args) -> None:
    """Hook in front of loading: refuse what doesn't belong here.

    mmengine loads with ``strict=False`` and warns; here nothing is loaded.

    Raises:
        RuntimeError: If the weights are not packed, of a newer format, of
            another architecture, or damaged.
    """
    state = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items() if key.startswith(prefix)
    }
    name = type(model).__name__
    version = state.get('packed_version')
    if version is None:
        raise RuntimeError(
            f'the weights for this packed {name} are not packed: run '
            'tools/deploy/pack.py on them, and load what it writes')
    if int(version) > FORMAT_VERSION:
        raise RuntimeError(
            f'the packed file has format {int(version)}, this version of '
            f'mmcompress reads up to {FORMAT_VERSION}: update mmcompress')
    architecture, stored = (
        state.get(key, torch.empty(0)).cpu()
        for key in ('packed_fingerprint', 'packed_checksum'))
    if not torch.equal(stored, checksum(state)):
        raise RuntimeError(
            'the packed file is damaged: its values do not have the checksum '
            'that was stored with them. Copy it again, or pack again')
    if not torch.equal(architecture, model.packed_fingerprint.cpu()):
        raise RuntimeError(
            f'the packed file is of another architecture than this {name}: '
            f'{_differing_keys(model, state)}. Use the config that '
            'tools/deploy/pack.py wrote beside it')


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
