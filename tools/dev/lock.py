"""Write ``requirements/lock.txt``: the versions of the tested environment.

    .venv/bin/python tools/dev/lock.py            # renews it
    .venv/bin/python tools/dev/lock.py --check    # says what differs

Run it in the environment that ``make`` sets up, after its tests passed. The
file has names and versions only, no index and no paths. mmcv is the one
package that is compiled there, by ``tools/dev/build_mmcv.py``.
"""
import argparse
import re
import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'requirements'
LOCK = FOLDER / 'lock.txt'
# ours, and what an environment begins with
LEFT_OUT = {'mmcompress', 'pip'}
# environments of their own; only the gate's second one
OTHERS = {
    'lock.txt', 'onedl.txt', 'onedl_needs.txt', 'mim.txt', 'docs.txt',
    'light.txt'
}
HEAD = """\
# the environment that the tests pass in, on Python {}; by tools/dev/lock.py
# torch and torchvision: the builds for CPUs
"""


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub('[-_.]+', '-', name).lower()


def public(version: str) -> str:
    """A version without what names a build, as ``+cpu``."""
    return version.partition('+')[0]


def installed() -> dict[str, str]:
    """Versions by name, of this environment."""
    found = {
        canonical(d.metadata['Name']): public(d.version)
        for d in distributions()
    }
    return {k: v for k, v in sorted(found.items()) if k not in LEFT_OUT}


def locked(path: Path = LOCK) -> dict[str, str]:
    """Versions by name, of the lock file.

    Raises:
        ValueError: If a line is not ``name==version``.
    """
    versions = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith('#'):
            if not re.fullmatch(r'[a-z0-9-]+==[\w.!]+', line):
                raise ValueError(f'{path}: not name==version: {line}')
            name, _, version = line.partition('==')
            versions[name] = version
    return versions


def pins(folder: Path = FOLDER) -> list[tuple[str, Requirement]]:
    """What the requirement files ask for, with the file."""
    return [(path.name, Requirement(line.partition('#')[0].strip()))
            for path in sorted(folder.glob('*.txt')) if path.name not in OTHERS
            for line in path.read_text().splitlines()
            if line.partition('#')[0].strip()]


def disagreements(versions: dict[str, str]) -> list[str]:
    """Where versions are not what the requirement files ask for.

    Args:
        versions (dict[str, str]): By name.

    Returns:
        list[str]: Sentences.
    """
    problems = []
    for file, pin in pins():
        version = versions.get(canonical(pin.name))
        if version is None:
            problems.append(f'{pin} of {file} is not there')
        elif not pin.specifier.contains(version, prereleases=True):
            problems.append(f'{pin.name} is {version}, {file} asks for '
                            f'{pin.specifier}')
    return problems


def differences() -> list[str]:
    """Where this environment is not what the lock file says."""
    here, there = installed(), locked()
    return [
        f'{name}: {there.get(name, "none")} in the file, '
        f'{here.get(name, "none")} here'
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def main() -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true')
    if parser.parse_args().check:
        problems = differences() + disagreements(locked())
        print(*problems, sep='\n', end='\n' if problems else '')
        return bool(problems)
    versions = installed()
    problems = disagreements(versions)
    if problems:
        print('this environment is not the one of make:', *problems, sep='\n')
        return 1
    python = '.'.join(map(str, sys.version_info[:2]))
    LOCK.write_text(
        HEAD.format(python) + ''.join(f'{name}=={version}\n'
                                      for name, version in versions.items()))
    print(f'Wrote {LOCK}: {len(versions)} packages')
    return 0


if __name__ == '__main__':
    sys.exit(main())
