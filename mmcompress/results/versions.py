"""Versions of what computed a result."""
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmcompress.version import __version__

_PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmcv-lite', 'mmdet', 'mmpretrain',
             'mmsegmentation', 'mmpose', 'onnxruntime')


def _commit() -> str:
    """Of the checkout that the package is in; empty outside of one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / '.git').exists():
        return ''
    try:
        found = subprocess.run(
            ['git', '-C', folder, 'rev-parse', '--short=12', 'HEAD'],
            capture_output=True,
            text=True,
            timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Versions by package, of those that are installed.

    Returns:
        dict[str, str]: Of a checkout of ours with its ``commit``.
    """
    found = dict(mmcompress=__version__)
    commit = _commit()
    if commit:
        found['commit'] = commit
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
