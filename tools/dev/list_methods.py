"""Write the lists of methods, from their metafiles, into what has such lists.

These are ``model-index.yml`` and what stands between two marks in README.md,
CHANGELOG.md, docs/README.md and docs/licences.md. Run it after adding a method
or changing ``Summary`` or ``Official Code`` of a metafile; a test tells when
that was forgotten.

  python tools/dev/list_methods.py
"""
import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# several times as fast where libyaml is there
LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
TASKS = ('classification', 'detection', 'instance segmentation',
         'semantic segmentation', 'pose', 'point clouds', 'retrieval')
LICENCES = {
    'none': '**none**: code and weights can\'t be copied or redistributed',
    'not confirmed': 'not confirmed: read its page',
    'Apache-2.0': 'Apache-2.0',
    'MIT': 'MIT',
    'BSD-3-Clause': 'BSD-3-Clause',
    'CC-BY-NC-4.0': 'CC BY-NC 4.0: no commercial use of code or weights',
}
ROLES = {'': '', 'port': ' (a port)', 'reference': ' (what ours equals)'}
BLOCK = re.compile(
    r'(<!-- methods, by tools/dev/list_methods.py -->\n).*?(<!-- end -->\n)',
    re.S)


@dataclass(frozen=True)
class Method:
    """What a metafile says of its method.

    Args:
        metafile (Path): The file.
        name (str): Of its collections.
        summary (dict): ``Kind``, ``Tasks``, ``Status``, ``Verified By``.
        code (list[dict]): ``Repository``, ``Commit``, ``Licence``, perhaps a
            ``Role``, of official code.
    """
    metafile: Path
    name: str
    summary: dict
    code: list[dict]

    def link(self, folder: Path) -> str:
        """To its page."""
        page = os.path.relpath(self.metafile.parent / 'README.md', folder)
        return f'[{self.name}]({page})'


def read_methods(root: Path) -> list[Method]:
    """All methods, in the order of their folders."""
    methods = []
    for file in sorted(root.glob('configs/*/metafile.yml')):
        text = file.read_text('utf-8')
        collections = yaml.load(text, LOADER)['Collections']
        metadata = collections[0]['Metadata']
        methods.append(
            Method(file, ', '.join(c['Name'] for c in collections),
                   metadata['Summary'], metadata.get('Official Code', [])))
    return methods


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, [':--'] * len(header), *rows]
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)


def summary_table(methods: list[Method], folder: Path) -> str:
    """What there is, 1-bit layers first."""
    rows = [[
        m.link(folder), m.summary['Kind'], ', '.join(m.summary['Tasks']),
        m.summary['Status'], m.summary['Verified By']
    ] for m in sorted(methods, key=lambda m: '1-bit' not in m.summary['Kind'])]
    return _table(['method', 'kind', 'tasks', 'status', 'verified by'], rows)


def changes(methods: list[Method], folder: Path) -> str:
    """Names by kind."""
    kinds = sorted({m.summary['Kind'] for m in methods})
    return ''.join(f'- {kind}: ' + ', '.join(
        m.link(folder) for m in methods if m.summary['Kind'] == kind) + '\n'
                   for kind in kinds)


def task_table(methods: list[Method], folder: Path) -> str:
    """Methods by task."""
    rows = [[
        task, ', '.join(
            m.link(folder) for m in methods if task in m.summary['Tasks'])
    ] for task in TASKS]
    return _table(['task', 'methods'], rows)


def licence_table(methods: list[Method], folder: Path) -> str:
    """Official code by method."""
    rows = []
    for m in methods:
        for code in m.code:
            name = code['Repository']
            rows.append([
                m.link(folder), f'[{name}](https://github.com/{name})' +
                ROLES[code.get('Role', '')], f'`{code["Commit"]}`',
                LICENCES[code['Licence']]
            ])
        if not m.code:
            rows.append([m.link(folder), 'no official code', '', ''])
    return _table(['method', 'repository', 'read at', 'licence'], rows)


def render(root: Path) -> dict[Path, str]:
    """What each file should hold."""
    methods = read_methods(root)
    files = {
        root / 'model-index.yml':
        'Import:\n' +
        ''.join(f'  - {m.metafile.relative_to(root).as_posix()}\n'
                for m in methods)
    }
    tables = {
        'README.md': summary_table,
        'CHANGELOG.md': changes,
        'docs/README.md': task_table,
        'docs/licences.md': licence_table
    }
    for name, table in tables.items():
        path = root / name
        text, count = BLOCK.subn(
            lambda m: m[1] + table(methods, path.parent) + m[2],
            path.read_text('utf-8'))
        if count != 1:
            raise ValueError(f'{path} has {count} lists of methods instead '
                             'of one')
        files[path] = text
    return files


def main() -> None:
    """Run the tool."""
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for path, text in render(ROOT).items():
        if path.read_text('utf-8') != text:
            path.write_text(text, 'utf-8')
            print(f'Wrote {path}')


if __name__ == '__main__':
    main()
