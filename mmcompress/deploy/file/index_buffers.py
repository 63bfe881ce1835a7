"""Buffers that a config builds again, such as indices of positions."""
import torch
import torch.nn as nn

_OURS = 'mmcompress.'


def index_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Integers of more than one element that other libraries' modules keep.

    Such as Swin's relative positions: they follow from the architecture.

    Args:
        model (nn.Module): Of any kind.

    Returns:
        dict[str, Tensor]: By name.
    """
    found = {}
    for path, module in model.named_modules():
        # a class that a step has derived from a library's is that one's
        if all(cls.__module__.startswith(_OURS) for cls in _bases(module)):
            continue
        for name, buffer in module._buffers.items():
            if (buffer is not None and buffer.dtype == torch.int64
                    and buffer.numel() > 1
                    and name not in module._non_persistent_buffers_set):
                found[f'{path}.{name}' if path else name] = buffer
    return found


def _bases(module: nn.Module) -> list[type]:
    """Its class, and the one of a library that it was derived from."""
    own, *others = type(module).__mro__
    return [own, *others[:others.index(nn.Module)]]


def leave_out(model: nn.Module) -> None:
    """Don't store what a config builds again."""
    for name in index_buffers(model):
        path, _, buffer = name.rpartition('.')
        model.get_submodule(path)._non_persistent_buffers_set.add(buffer)


def check_index_buffers(trained: nn.Module, built: nn.Module) -> None:
    """Refuse a checkpoint whose indices are not those of its config.

    Args:
        trained (nn.Module): With the weights of the checkpoint.
        built (nn.Module): As the config builds it.

    Raises:
        ValueError: Names the first buffer that differs.
    """
    fresh = index_buffers(built)
    for name, buffer in index_buffers(trained).items():
        if not torch.equal(buffer.cpu(), fresh[name].cpu()):
            raise ValueError(
                f'{name} of the checkpoint is not what the config builds, so '
                'a packed file, which leaves such indices out, would compute '
                'something else. Use the config that the checkpoint was '
                'trained with')
