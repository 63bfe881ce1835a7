"""Files that are complete or not there."""
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _sync(path: Path) -> None:
    """Have the operating system write what it holds of a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems sync no folders, or nothing at all
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place in the end, or never.

    It is on the disk before it takes the place: neither a process that is
    killed nor a machine that loses power leaves half a file as ``path``.

    Args:
        path (Path): May exist. Its folder does.

    Yields:
        Path: The file to write; it goes if writing fails.
    """
    path = Path(path)
    beside = path.with_name(f'.{path.name}.{os.getpid()}.tmp{path.suffix}')
    try:
        yield beside
        _sync(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _sync(path.parent)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove_leftovers(folder: Path, names: str = '*') -> list[Path]:
    """Remove what :func:`replacing` was writing in processes that were killed.

    Args:
        folder (Path): Need not exist.
        names (str): Pattern of the files they would have become.

    Returns:
        list[Path]: What was removed.
    """
    removed = []
    for path in Path(folder).glob(f'.{names}.*.tmp*'):
        pid = path.name.partition('.tmp')[0].rpartition('.')[2]
        if pid.isdigit() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed
