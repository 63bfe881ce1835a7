"""All error messages that the guides explain, on one page."""
import html
import re
from dataclasses import dataclass
from pathlib import Path

from .markdown import map_links

_TABLE = re.compile(
    r'^#+ (?:\d+\. )?What the errors mean\n+(?:[^|#\n].*\n+)*'
    r'\|.*\|\n\|[ :|-]+\|\n((?:\|.*\|\n?)+)', re.M)
_CELLS = re.compile(r'(?:\\\||`[^`]*`|[^|])+')
PAGE = 'errors.md'
INTRODUCTION = '''---
hide: [navigation, toc]
---

# Errors by their text

Paste a message, or some words of it; "..." stands for what differs from case to case.
Every row is from the guide that it names.

<div class="filters" id="error-filter" hidden>
<input type="search" placeholder="Paste an error message" aria-label="Error message" autocomplete="off">
<p class="count" role="status"></p>
</div>

'''  # noqa: E501


@dataclass(frozen=True)
class Explained:
    """A row of a table.

    Args:
        message (str): What is raised or warned, Markdown.
        remedy (str): What to do, Markdown; links begin at the repository.
        page (str): Path of the guide.
        title (str): Of the guide.
    """
    message: str
    remedy: str
    page: str
    title: str


def read_errors(root: Path) -> list[Explained]:
    """The rows of all tables "What the errors mean".

    Raises:
        ValueError: If a page has the heading without such a table.
    """
    rows = []
    for file in sorted(root.glob('docs/**/*.md')):
        text = file.read_text('utf-8')
        tables = _TABLE.findall(text)
        headings = re.findall('^#+ .*What the errors mean$', text, re.M)
        if len(tables) != len(headings):
            raise ValueError(f'{file}: below "What the errors mean" there is '
                             'no table of messages and remedies')
        page = file.relative_to(root).as_posix()
        folder = Path(page).parent.as_posix()
        title = re.search('^# (.*)', text, re.M)
        for line in '\n'.join(tables).splitlines():
            cells = [c.strip() for c in _CELLS.findall(line)]
            if len(cells) == 2:
                rows.append(
                    Explained(
                        cells[0],
                        map_links(cells[1],
                                  lambda target: f'{folder}/{target}'), page,
                        title[1]))
            elif cells:
                raise ValueError(f'{page}: two cells expected in {line}')
    return rows


def errors_page(root: Path) -> str:
    """The page in Markdown, with links from the root of the repository."""
    parts = [INTRODUCTION]
    for number, row in enumerate(read_errors(root), 1):
        plain = html.escape(row.message.replace('`', ''))
        remedy = row.remedy
        if '](' not in remedy and remedy[-1:] not in '.:':
            remedy += '.'
        # anchors within the guide are meant for its own page
        remedy = re.sub(r'\]\((?=#)', f']({row.page}', remedy)
        parts.append(f'<div class="error" markdown>\n<h2 id="error-{number}">'
                     f'<code>{plain}</code></h2>\n\n'
                     f'{remedy[:1].upper()}{remedy[1:]}\n\n'
                     f'<small>[{row.title}]({row.page})</small>\n\n'
                     '</div>\n\n')
    return ''.join(parts)
