"""What the site's menu holds: named pages first, then all others by folder."""
import re
from pathlib import Path

from list_methods import read_methods

MENU = {
    'Start': [
        'about.md', 'docs/user_guide/which_method.md',
        'docs/user_guide/compress.md', 'docs/user_guide/own_data.md',
        'docs/user_guide/limits.md', 'docs/user_guide/coming_from.md'
    ],
    'Guides': [
        'docs/user_guide/distill.md', 'docs/user_guide/quantize.md',
        'docs/user_guide/low_bit.md', 'docs/user_guide/tokens.md',
        'docs/user_guide/prune.md', 'docs/user_guide/pack.md',
        'docs/user_guide/onnx.md', 'docs/user_guide/*.md'
    ],
    'Tutorials': ['docs/tutorials/*.md'],
    'Methods': [],
    'Benchmarks': [
        'docs/benchmarks/dashboard.html', 'docs/benchmarks/mini.md',
        'docs/benchmarks/*.md'
    ],
    'Errors': ['errors.md'],
    'Reference': [
        'docs/README.md', 'docs/ops.md', 'docs/quantizers.md',
        'docs/licences.md', 'docs/*.md', 'CHANGELOG.md', 'CONTRIBUTING.md',
        'projects/README.md'
    ],
    'Decisions': ['docs/decisions/*.md']
}
# where the heading of a page doesn't say it
NAMES = {
    'about.md': 'Overview, installation',
    'docs/README.md': 'Contents',
    'docs/benchmarks/dashboard.html': 'Dashboard'
}
KINDS = {
    'Distillation': 'distillation',
    '1-bit layers': '1-bit',
    'Quantization': 'quantization',
    'Fewer tokens, sparse attention': 'tokens|sparse',
    'Pruning': 'pruning'
}


def _methods(root: Path) -> list:
    """Methods by kind, each once."""
    left = {
        m.metafile.parent.relative_to(root).as_posix() + '/README.md': m
        for m in read_methods(root)
    }
    menu: list = ['methods.md']
    for title, pattern in {**KINDS, 'Other': ''}.items():
        pages = [
            p for p, m in left.items() if re.search(pattern, m.summary['Kind'])
        ]
        if pages:
            menu.append({title: [{left.pop(p).name: p} for p in pages]})
    return menu


def navigation(root: Path, staged: Path) -> list:
    """The ``nav`` of mkdocs.

    Args:
        root (Path): The checkout.
        staged (Path): Folder of the staged pages.
    """
    pages = sorted(
        p.relative_to(staged) for p in staged.rglob('*')
        if p.suffix in ('.md', '.html'))
    used: set[str] = set()
    menu: list = [{'Home': 'index.md'}]
    for title, patterns in MENU.items():
        found = _methods(root) if title == 'Methods' else []
        for pattern in patterns:
            for page in pages:
                if page.match(pattern) and page.as_posix() not in used and (
                        len(page.parts) == pattern.count('/') + 1):
                    used.add(page.as_posix())
                    name = NAMES.get(pattern)
                    found.append({name: pattern} if name else page.as_posix())
        if found:
            menu.append({title: found})
    return menu
