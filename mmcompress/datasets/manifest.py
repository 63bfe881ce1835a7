"""Folders that are made once, and checked whenever they are used."""
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from mmengine.logging import print_log

MANIFEST = 'manifest.json'


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob('*') if p.is_file())
    return {
        p.relative_to(folder).as_posix():
        hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files if p != folder / MANIFEST
    }


def write_manifest(folder: Path, settings: dict) -> None:
    """Record what the folder was made from, and a hash of every file.

    Args:
        folder (Path): A folder whose files are all written.
        settings (dict): What the files depend on. Numbers, strings, lists.
    """
    manifest = dict(settings=settings, files=_hashes(folder))
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def find_damage(folder: Path, settings: dict) -> str | None:
    """Compare a folder with its manifest.

    Args:
        folder (Path): May be absent.
        settings (dict): What the files should have been made from.

    Returns:
        str | None: What is wrong, in words. None if all is well.
    """
    if not folder.is_dir():
        return 'it does not exist'
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        recorded, expected = manifest['settings'], manifest['files']
    except (OSError, ValueError, KeyError, TypeError):
        return f'{MANIFEST} is missing or cannot be read'
    if recorded != settings:
        return f'it was made from {recorded} instead of {settings}'
    found = _hashes(folder)
    for what, names in [('missing', expected.keys() - found.keys()),
                        ('not ours', found.keys() - expected.keys()),
                        ('changed', {
                            name
                            for name in expected.keys() & found.keys()
                            if expected[name] != found[name]
                        })]:
        if names:
            return f'{len(names)} file(s) {what}, such as {min(names)}'
    return None


def ensure_folder(folder: Path, settings: dict, write: Callable[[Path],
                                                                None]) -> Path:
    """Return a complete folder; write it if it is absent or damaged.

    The folder appears under its name only when it is complete, by renaming.
    Of several processes one writes and the others wait for it. The lock is
    the operating system's: it ends with the process that holds it.

    Args:
        folder (Path): Where the files belong. A damaged one is replaced.
        settings (dict): What the files depend on.
        write (Callable): Called with an empty folder, which it fills.

    Returns:
        Path: ``folder``.

    Raises:
        RuntimeError: If the folder cannot be written.
    """
    # without the lock: the cache may be read-only
    if find_damage(folder, settings) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f'{folder.name}.lock'):
            damage = find_damage(folder, settings)
            if damage is None:
                return folder
            if folder.exists():
                print_log(
                    f'{folder} is damaged and made anew: {damage}',
                    logger='current',
                    level=logging.WARNING)
                shutil.rmtree(folder)
            # left by processes that were killed
            for leftover in folder.parent.glob(f'.{folder.name}.*'):
                shutil.rmtree(leftover)
            # a folder of its own: it vanishes also when writing fails
            with tempfile.TemporaryDirectory(
                    prefix=f'.{folder.name}.', dir=folder.parent) as temporary:
                new = Path(temporary) / folder.name
                new.mkdir()
                write(new)
                write_manifest(new, settings)
                new.rename(folder)
    except OSError as error:
        raise RuntimeError(
            f'cannot write {folder} ({error}): make the folder writable, '
            'free space, or set MMCOMPRESS_CACHE to another folder') from error
    return folder
