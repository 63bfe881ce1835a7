"""The folder that keeps rendered data and small trained teachers."""
import hashlib
import os
from pathlib import Path

import torch

from mmcompress.pruning.structure import plain_tensor

CACHE_SCHEME = 'cache://'


def cache_folder() -> Path:
    """``$MMCOMPRESS_CACHE``, by default ``~/.cache/mmcompress``."""
    folder = os.environ.get('MMCOMPRESS_CACHE') or '~/.cache/mmcompress'
    return Path(folder).expanduser().absolute()


def cached_teacher(name: str) -> str:
    """Path of a cached teacher's checkpoint, which need not exist.

    Args:
        name (str): Its name, with or without ``cache://`` in front.
    """
    name = name.removeprefix(CACHE_SCHEME)
    return str(cache_folder() / 'teachers' / f'{name}.pth')


def _content_hash(checkpoint: dict) -> str:
    """Of all weights and of the data set's names, as hexadecimal digits."""
    digest = hashlib.sha256()
    digest.update(repr(checkpoint['meta'].get('dataset_meta')).encode())
    for name, value in checkpoint['state_dict'].items():
        tensor = plain_tensor(value).detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def seal(checkpoint: dict) -> dict:
    """Note the hash of a checkpoint's content under ``meta.sha256``.

    Args:
        checkpoint (dict): With ``state_dict``, and ``meta``, which is changed.

    Returns:
        dict: The same.
    """
    checkpoint['meta']['sha256'] = _content_hash(checkpoint)
    return checkpoint


def check_seal(checkpoint: dict, path: str) -> None:
    """Compare a loaded checkpoint with the hash that it was sealed with.

    Args:
        checkpoint (dict): One without a hash, as of other tools, passes.
        path (str): Its file.

    Raises:
        RuntimeError: If its content is not what was written.
    """
    meta = checkpoint.get('meta')
    sealed = meta.get('sha256') if isinstance(meta, dict) else None
    if sealed is not None and sealed != _content_hash(checkpoint):
        raise RuntimeError(
            damage(
                path, 'its content has not the hash that was stored with '
                'it when it was written'))


def damage(path: str, what: str) -> str:
    """A sentence that says how to mend a cached teacher.

    Args:
        path (str): Its file.
        what (str): What is wrong with it.
    """
    return (f'{path} is damaged: {what}. Delete the file, and train it once '
            'more, with `tools/train.py` and the config whose '
            f'CacheTeacherHook writes {Path(path).stem!r}')
