"""Which modules of a model can be tapped."""
import difflib

import torch.nn as nn


def has_forward(module: nn.Module) -> bool:
    """Whether a module can be called; containers such as ModuleList can't."""
    return 'forward' in vars(module) or \
        type(module).forward is not nn.Module.forward


def check_path(tap: str, path: str, modules: dict[str, nn.Module],
               owner: str) -> None:
    """Refuse what a model lacks, and containers.

    Args:
        tap (str): As written, for messages.
        path (str): Name of its module.
        modules (dict): All modules of the model by name; itself as ``''``.
        owner (str): Whose tap it is, for messages.

    Raises:
        KeyError: If the model lacks the module; names the closest paths.
        ValueError: If the module is never called.
    """
    if path not in modules:
        paths = [name for name in modules if name]
        close = difflib.get_close_matches(path, paths, 3, 0.3)
        raise KeyError(
            f'the {owner} ({type(modules[""]).__name__}) has no module '
            f'{path!r} (tap {tap!r}); closest: '
            f'{", ".join(close) or ", ".join(paths[:5])}; '
            'tools/misc/list_taps.py lists all')
    module = modules[path]
    if has_forward(module):
        return
    inside = [
        f'{path}.{name}' for name, part in module.named_modules()
        if name and has_forward(part)
    ]
    raise ValueError(
        f'tap {tap!r}: {path} of the {owner} is a {type(module).__name__}, '
        f'which is never called itself; tap a module in it, such as '
        f'{inside[0]!r}, or a list of them'
        if inside else f'tap {tap!r}: {path} of the {owner} is an empty '
        f'{type(module).__name__}')
