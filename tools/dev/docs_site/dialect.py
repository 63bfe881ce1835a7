"""Whether the site shows a page as a code host does.

A code host reads CommonMark with tables, the site's generator reads Markdown
in its own way. Both texts and the numbers of blocks are compared.
"""
import re
from html.parser import HTMLParser
from pathlib import Path

from .markdown import without_code

_BLOCKS = {'h1', 'h2', 'h3', 'h4', 'li', 'tr', 'pre', 'blockquote', 'img'}


class _Content(HTMLParser):
    """Text without spaces, and blocks, of an article."""

    def __init__(self, only: str = '') -> None:
        super().__init__()
        self.only, self.depth, self.inside = only, 0, not only
        self.text: list[str] = []
        self.blocks: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag == self.only:
            self.inside = True
        if self.inside and tag in _BLOCKS:
            self.blocks[tag] = self.blocks.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if tag == self.only:
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text.append(data)


def _content(text: str, only: str = '') -> tuple[str, dict[str, int]]:
    content = _Content(only)
    content.feed(text)
    joined = ''.join(content.text).replace('¶', '')
    return re.sub(r'\s+', '', joined), content.blocks


def difference(source: str, built: str) -> str:
    """What a built page shows differently; empty if nothing.

    Args:
        source (str): Markdown, as a code host has it.
        built (str): The page in html, whose ``article`` is compared.
    """
    from markdown_it import MarkdownIt
    formula = re.search(r'\$\$|\$[^\s$][^$\n]*\$', without_code(source))
    if formula:
        return (f'{formula[0]!r} is a formula on a code host only; write it '
                'as code')
    parser = MarkdownIt('commonmark', {'html': True}).enable('table')
    rendered = parser.render(source)
    if '<h1>' not in rendered:
        # the site gives such a page the name of its file
        built = re.sub('<h1>.*?</h1>', '', built, count=1, flags=re.S)
    expected, blocks = _content(rendered)
    got, got_blocks = _content(built, 'article')
    for tag in sorted(blocks.keys() | got_blocks.keys()):
        if blocks.get(tag, 0) != got_blocks.get(tag, 0):
            return (f'{got_blocks.get(tag, 0)} <{tag}> instead of '
                    f'{blocks.get(tag, 0)}')
    if '<p>|' in rendered:
        return 'a row of a table stands alone'
    if expected != got:
        at = next((i for i, (a, b) in enumerate(zip(expected, got)) if a != b),
                  min(len(expected), len(got)))
        start = max(0, at - 30)
        return (f'{got[start:at + 30]!r} instead of '
                f'{expected[start:at + 30]!r}')
    return ''


def differences(root: Path, site: Path, pages: list[str]) -> list[str]:
    """Of all pages that are in the repository as they are on the site.

    Args:
        root (Path): The checkout.
        site (Path): The built site.
        pages (list[str]): Paths of pages, the same in both.
    """
    found = []
    for page in pages:
        source = (root / page).read_text('utf-8')
        # cells with blocks in them become columns
        if '<table>' in source:
            continue
        built = site / re.sub(r'(^|/)README\.md$', r'\1index.md', page)
        wrong = difference(source, built.with_suffix('.html').read_text())
        if wrong:
            found.append(f'{page}: {wrong}')
    return found
