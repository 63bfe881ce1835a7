"""What reports consist of, as Markdown and as HTML."""
import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PILImage


@dataclass(frozen=True)
class Heading:
    """A title; of level 1 the report's."""
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` stands between backticks."""
    text: str


@dataclass(frozen=True)
class Points:
    """A list."""
    items: list[str]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""
    text: str
    language: str = 'shell'


@dataclass(frozen=True)
class Cells:
    """A table; all but the first columns are of numbers.

    Attributes:
        head (list[str]): Names of the columns.
        rows (list[list[str]]): Cells.
        texts (int): How many columns have texts.
    """
    head: list[str]
    rows: list[list[str]]
    texts: int = 1


@dataclass(frozen=True)
class Plot:
    """A drawing.

    Attributes:
        name (str): Of its file, without suffix.
        svg (str): What is in it.
        alt (str): What it shows, in words.
    """
    name: str
    svg: str
    alt: str


@dataclass(frozen=True)
class Plots:
    """Drawings beside each other, where there is room."""
    plots: list[Plot]


@dataclass(frozen=True)
class Picture:
    """A picture in a file.

    Attributes:
        path (Path): Of the file.
        alt (str): What it shows, in words.
    """
    path: Path
    alt: str


Block = Heading | Text | Points | Code | Cells | Plots | Picture
# of a picture in a page, which is there to be looked at
_QUALITY = 88
_STYLE = '''
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24;
  max-width: 68rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .875rem; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #d7dce1; }
th { border-bottom: 2px solid #8b949e; }
th.text, td.text { text-align: left; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
.plots figure { margin: 0; flex: 1 1 18rem; max-width: 30rem; }
svg, img { max-width: 100%; height: auto; }
pre { background: #f3f5f7; padding: .7rem; overflow-x: auto;
  border-radius: 4px; font-size: .85rem; }
code { background: #f3f5f7; border-radius: 3px; overflow-wrap: anywhere; }
pre code { overflow-wrap: normal; }
li { margin: .2rem 0; }
'''


def _cell(text: str) -> str:
    return text.replace('|', '\\|')


def _markdown_of(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f'{"#" * block.level} {block.text}'
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Points):
        return '\n'.join(f'- {item}' for item in block.items)
    if isinstance(block, Code):
        return f'```{block.language}\n{block.text}\n```'
    if isinstance(block, Cells):
        aligned = [':--'] * block.texts
        aligned += ['--:'] * (len(block.head) - block.texts)
        rows = [block.head, aligned, *block.rows]
        return '\n'.join(f'| {" | ".join(map(_cell, row))} |' for row in rows)
    if isinstance(block, Picture):
        return f'![{block.alt}]({_beside(block.path, folder)})'
    lines = []
    for plot in block.plots:
        path = folder / 'plots' / f'{plot.name}.svg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(plot.svg)
        lines.append(f'![{plot.alt}](plots/{path.name})')
    return '\n'.join(lines)


def _beside(path: Path, folder: Path) -> str:
    """A file's path as a report in a folder writes it."""
    path, folder = path.absolute(), folder.absolute()
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return path.as_posix()


def _inline(text: str) -> str:
    """A text with its code as HTML."""
    return re.sub('`([^`]+)`', r'<code>\1</code>', html.escape(text, False))


def _svg_of(plot: Plot, number: int) -> str:
    """A drawing inside of a page; its names must be those of no other."""
    svg = plot.svg[plot.svg.index('<svg'):]
    own = f'plot{number}-'
    svg = re.sub(r'\bid="', f'id="{own}', svg)
    svg = re.sub(r'(href="#|url\(#)', rf'\g<1>{own}', svg)
    # it takes the width that there is
    svg = re.sub(r' (width|height)="[\d.]+pt"', '', svg, count=2)
    label = html.escape(plot.alt)
    return svg.replace('<svg', f'<svg role="img" aria-label="{label}"', 1)


def _jpeg(path: Path) -> str:
    """A picture as data inside of a page, smaller than a PNG."""
    file = io.BytesIO()
    PILImage.open(path).convert('RGB').save(file, 'JPEG', quality=_QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    return f'data:image/jpeg;base64,{data}'


def _table_of(block: Cells) -> str:

    def row(cells: Sequence[str], tag: str) -> str:
        return '<tr>' + ''.join(
            f'<{tag}{" class=text" if i < block.texts else ""}>'
            f'{_inline(cell)}</{tag}>'
            for i, cell in enumerate(cells)) + '</tr>'

    body = '\n'.join(row(cells, 'td') for cells in block.rows)
    return (f'<div class="scroll"><table>\n<thead>{row(block.head, "th")}'
            f'</thead>\n<tbody>\n{body}\n</tbody></table></div>')


def _html_of(block: Block, number: int) -> str:
    if isinstance(block, Heading):
        return f'<h{block.level}>{_inline(block.text)}</h{block.level}>'
    if isinstance(block, Text):
        return f'<p>{_inline(block.text)}</p>'
    if isinstance(block, Points):
        items = ''.join(f'<li>{_inline(item)}</li>\n' for item in block.items)
        return f'<ul>\n{items}</ul>'
    if isinstance(block, Code):
        return f'<pre><code>{html.escape(block.text, False)}</code></pre>'
    if isinstance(block, Cells):
        return _table_of(block)
    if isinstance(block, Picture):
        return (f'<p><img alt="{html.escape(block.alt)}" '
                f'src="{_jpeg(block.path)}"></p>')
    figures = ''.join(f'<figure>{_svg_of(plot, 100 * number + i)}</figure>\n'
                      for i, plot in enumerate(block.plots))
    return f'<div class="plots">\n{figures}</div>'


def as_markdown(blocks: Sequence[Block], folder: Path) -> str:
    """A report as Markdown; its drawings are written into a folder.

    Args:
        blocks (Sequence[Block]): The report.
        folder (Path): Where it will lie, with ``plots/`` beside it.
    """
    return '\n\n'.join(_markdown_of(block, folder) for block in blocks) + '\n'


def as_html(blocks: Sequence[Block], title: str) -> str:
    """A report as a page that needs no other file.

    Args:
        blocks (Sequence[Block]): The report.
        title (str): Of the page.
    """
    body = '\n'.join(_html_of(block, i) for i, block in enumerate(blocks))
    return ('<!doctype html>\n<html lang="en">\n<head>\n'
            '<meta charset="utf-8">\n<meta name="viewport" '
            'content="width=device-width, initial-scale=1">\n'
            f'<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n'
            f'</head>\n<body>\n{body}\n</body>\n</html>\n')
