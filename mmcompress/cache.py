"""The folder that keeps rendered data and small trained teachers."""
import os
from pathlib import Path

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
