"""Is this checkout ready to be released? A checklist that runs.

    .venv/bin/python tools/dev/release.py --check             # minutes
    .venv/bin/python tools/dev/release.py --check --no-wheels # seconds

Every item says ok or failed, and what to do then. The suite is not run: it is
`.ci/run`. A release is then the tag that the last line names, and the wheels
in ``dist``.
"""
import argparse
import datetime
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from build_wheel import build
from check_wheel import problems_of
from lock import differences, disagreements, locked
from manylinux import MACHINES
from wheel_trial import try_wheel

from list_methods import render

ROOT = Path(__file__).resolve().parents[2]
SEMANTIC = re.compile(r'\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?')
# `## [1.2.3] - 2026-12-31`
SECTION = re.compile(r'^## \[([^\]]+)\](?: - (\S+))?$', re.MULTILINE)
# folders of somebody's machine, and hosts that only some can reach
PRIVATE = re.compile(
    r'(?<![\w.$}])/(?:home|Users|root)/(?!me\b)[\w.-]+'
    r'|file:///\w|https?://(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d'
    r'|https?://[\w.-]+\.(?:internal|local|corp|lan)\b')
LINK = re.compile(r'\]\(([^()\s]+)\)')


def version(root: Path) -> str:
    """The package's version."""
    scope: dict = {}
    exec((root / 'mmcompress' / 'version.py').read_text(), scope)
    return scope['__version__']


def changelog_section(root: Path) -> tuple[str, str | None]:
    """Version and date of the changelog's first section with a version."""
    for name, date in SECTION.findall((root / 'CHANGELOG.md').read_text()):
        if name != 'Unreleased':
            return name, date
    return '', None


def _git(root: Path, *arguments: str) -> list[str]:
    return subprocess.run(['git', *arguments],
                          cwd=root,
                          capture_output=True,
                          text=True,
                          check=True).stdout.splitlines()


def _tracked(root: Path, *patterns: str) -> list[Path]:
    return [root / name for name in _git(root, 'ls-files', *patterns)]


def check_versions(root: Path) -> list[str]:
    """version.py, CHANGELOG.md and CITATION.cff say the same version."""
    own = version(root)
    citation = yaml.safe_load((root / 'CITATION.cff').read_text())
    others = {
        'CHANGELOG.md': changelog_section(root)[0],
        'CITATION.cff': str(citation.get('version'))
    }
    problems = [
        f'{name} says {other or "none"}, mmcompress/version.py {own}'
        for name, other in others.items() if other != own
    ]
    if not SEMANTIC.fullmatch(own):
        problems.append(f'{own} is no semantic version, as 1.2.3')
    return problems


def check_dates(root: Path) -> list[str]:
    """The release is dated in CHANGELOG.md and CITATION.cff."""
    name, date = changelog_section(root)
    citation = yaml.safe_load((root / 'CITATION.cff').read_text())
    try:
        given = datetime.date.fromisoformat(date or '')
    except ValueError:
        return [f'CHANGELOG.md: write "## [{name}] - YYYY-MM-DD", it has '
                f'{date}']  # yapf: disable
    released = str(citation.get('date-released'))
    if released != str(given):
        return [f'CITATION.cff: date-released is {released}, not {given}']
    return []


def check_tree(root: Path) -> list[str]:
    """Everything is committed, and the tag is free."""
    problems = [
        f'not committed: {line}'
        for line in _git(root, 'status', '--porcelain')
    ]
    tag = f'v{version(root)}'
    if _git(root, 'tag', '--list', tag):
        problems.append(f'there is a tag {tag}: raise the version')
    return problems


def check_lists(root: Path) -> list[str]:
    """The lists of methods are those of the metafiles."""
    return [
        f'{path.relative_to(root)} is outdated: python '
        'tools/dev/list_methods.py' for path, text in render(root).items()
        if path.read_text('utf-8') != text
    ]


def check_lock(root: Path) -> list[str]:
    """requirements/lock.txt is this environment, and fits the pins."""
    problems = disagreements(locked()) + differences()
    return [f'{p}; python tools/dev/lock.py, in the environment of `make`'
            for p in problems]  # yapf: disable


def check_private(root: Path) -> list[str]:
    """No path of somebody's machine, no host that only some can reach."""
    problems = []
    for path in _tracked(root):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            text = path.read_text('utf-8')
        except UnicodeDecodeError:
            continue
        problems += [
            f'{path.relative_to(root)}:{i}: {found[0]}'
            for i, line in enumerate(text.splitlines(), 1)
            if (found := PRIVATE.search(line))
        ]
    return problems


def check_links(root: Path) -> list[str]:
    """Relative links of all pages lead somewhere."""
    problems = []
    for page in _tracked(root, '*.md'):
        text = re.sub('```.*?```', '', page.read_text('utf-8'), flags=re.S)
        for link in LINK.findall(text):
            target = link.partition('#')[0]
            if target and '://' not in target and not target.startswith(
                    'mailto:') and not (page.parent / target).exists():
                problems.append(f'{page.relative_to(root)}: no {target}')
    return problems


def check_wheels(root: Path) -> list[str]:
    """Wheels build, hold what they should, and need no compiler."""
    out = root / 'dist'
    shutil.rmtree(out, ignore_errors=True)
    problems = []
    for machine in MACHINES:
        try:
            wheel = str(build(machine, out))
        except SystemExit as error:
            problems.append(str(error))
            continue
        problems += problems_of(wheel)
        if machine == 'x86_64':
            problems += try_wheel(wheel, sys.executable)
    return problems


CHECKS: list[Callable[[Path], list[str]]] = [
    check_versions, check_dates, check_tree, check_lists, check_lock,
    check_private, check_links, check_wheels
]


def report(root: Path, checks: list[Callable[[Path], list[str]]]) -> bool:
    """Run checks, print what each found.

    Args:
        root (Path): The checkout.
        checks (list[Callable]): Each returns problems, in sentences.

    Returns:
        bool: Whether all are well.
    """
    is_ready = True
    for check in checks:
        problems = check(root)
        title = check.__doc__.strip()
        print(f'{"failed" if problems else "ok":6s}  {title}', flush=True)
        for problem in problems[:10]:
            print(f'        - {problem}')
        if len(problems) > 10:
            print(f'        - and {len(problems) - 10} more')
        is_ready = is_ready and not problems
    return is_ready


def main() -> int:
    """Run the checklist."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--check', action='store_true', required=True, help='check, only')
    parser.add_argument(
        '--no-wheels', action='store_true', help='leave the wheels out')
    args = parser.parse_args()
    checks = [c for c in CHECKS if not (args.no_wheels and c is check_wheels)]
    if not report(ROOT, checks):
        print('not ready')
        return 1
    if args.no_wheels:
        print('ready, apart from the wheels')
    else:
        print(f'ready: after .ci/run passed, git tag v{version(ROOT)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
