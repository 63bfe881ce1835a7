"""The metafiles of the methods, each read once."""
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

# of libyaml, ten times as fast, where PyYAML was built with it
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


@cache
def _read(path: Path, changed: int) -> dict:
    return yaml.load(path.read_text('utf-8'), _LOADER)


def read_metafiles(root: Path) -> Iterator[tuple[Path, dict]]:
    """All metafiles of a checkout, in the order of their folders.

    Args:
        root (Path): The checkout.

    Yields:
        tuple[Path, dict]: The file, and what it says; not to be changed.
    """
    for path in sorted(root.glob('configs/*/metafile.yml')):
        yield path, _read(path, path.stat().st_mtime_ns)
