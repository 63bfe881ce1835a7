"""What a packed model knows about itself, so that no wrong file fills it."""
import hashlib

import torch
import torch.nn as nn
from torch import Tensor

from .packed_layers import PackedBackbone, PackedLayer

# raised when files of before can't be read any more
FORMAT_VERSION = 1
_GEOMETRY = ('stride', 'padding', 'dilation', 'groups', 'eps')
_RECORD = 'packed'


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
                                *module._buffers.items()) if tensor is not None
            and key not in module._non_persistent_buffers_set
        }
        if not tensors and not isinstance(module, PackedBackbone):
            continue
        if name == _RECORD:
            continue
        if isinstance(module, PackedLayer):
            geometry = module.conv
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
        if name == f'{_RECORD}.checksum':
            continue
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()
        digest.update(f'{name} {tuple(tensor.shape)} '.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


class PackedRecord(nn.Module):
    """Format version, fingerprint and checksum, as tensors of a state dict.

    Args:
        architecture (Tensor): See :func:`fingerprint`.
    """

    def __init__(self, architecture: Tensor) -> None:
        super().__init__()
        self.register_buffer('version', torch.tensor(FORMAT_VERSION))
        self.register_buffer('fingerprint', architecture)
        self.register_buffer('checksum', torch.zeros(32, dtype=torch.uint8))

    def _apply(self, fn, recurse: bool = True) -> 'PackedRecord':
        # no part of the computation: stays where it is
        return self


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
    version = state.get(f'{_RECORD}.version')
    if version is None:
        raise RuntimeError(
            f'the weights for this packed {name} are not packed: run '
            'tools/deploy/pack.py on them, and load what it writes')
    if int(version) > FORMAT_VERSION:
        raise RuntimeError(
            f'the packed file has format {int(version)}, this version of '
            f'mmcompress reads up to {FORMAT_VERSION}: update mmcompress')
    digests = {
        key: state.get(f'{_RECORD}.{key}', torch.empty(0)).cpu()
        for key in ('fingerprint', 'checksum')
    }
    if not torch.equal(digests['checksum'], checksum(state)):
        raise RuntimeError(
            'the packed file is damaged: its values do not have the checksum '
            'that was stored with them. Copy it again, or pack again')
    own = model.get_submodule(_RECORD)
    if not torch.equal(digests['fingerprint'], own.fingerprint):
        raise RuntimeError(
            f'the packed file is of another architecture than this {name}: '
            f'{_differing_keys(model, state)}. Use the config that '
            'tools/deploy/pack.py wrote beside it')


def attach_record(model: nn.Module) -> None:
    """Give a packed model its record, and the check when it is loaded."""
    model.packed = PackedRecord(fingerprint(model))
    model.register_load_state_dict_pre_hook(check_packed_state)
