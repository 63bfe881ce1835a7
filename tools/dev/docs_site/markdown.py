"""Links and blocks of Markdown pages, as a code host reads them."""
import re
from collections.abc import Callable

# code, in which nothing is a link: fenced blocks and spans
_CODE = re.compile(
    r'^(?P<fence>[ \t]*(`{3,}|~{3,})).*?^[ \t]*\2[`~]*[ \t]*$|'
    r'(?<!`)(`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)\3(?!`)', re.M | re.S)
_TARGET = re.compile(
    r'(?<=\]\()([^)\s]+)|(?<=\bsrc=")([^"]+)|'
    r'(?<=\bhref=")([^"]+)|^\[[^\]]+\]: *(\S+)', re.M)
_ITEM = re.compile(r'([-*+]|\d+[.)]) ')
_EXTERNAL = re.compile(r'[a-z][a-z0-9+.-]*:|//', re.I)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Change a page, but for its code.

    Args:
        text (str): Markdown.
        change (Callable): From a part without code to what replaces it.
    """
    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [change(text[end:code.start()]), code[0]]
        end = code.end()
    return ''.join([*parts, change(text[end:])])


def without_code(text: str) -> str:
    """A page without its code."""
    return _CODE.sub(' ', text)


def is_external(target: str) -> bool:
    """Whether a link leads out of the repository."""
    return bool(_EXTERNAL.match(target))


def map_links(text: str, change: Callable[[str], str]) -> str:
    """Replace the targets of a page's links and images within the repository.

    Args:
        text (str): Markdown; links in its code are left.
        change (Callable): From a relative target without its anchor to another
            one. It isn't called for anchors alone, nor for other hosts.
    """

    def replace(match: re.Match) -> str:
        target = match[match.lastindex]
        path, sharp, anchor = target.partition('#')
        if not path or is_external(target):
            return match[0]
        return match[0].replace(target, change(path) + sharp + anchor)

    # a link's text may be code, its target never is
    spans = []

    def keep(match: re.Match) -> str:
        if match['fence'] is None:
            spans.append(match[0])
            return f'\0{len(spans) - 1}\0'
        return match[0]

    text = _CODE.sub(keep, text)
    text = outside_code(text, lambda part: _TARGET.sub(replace, part))
    return re.sub('\0(\\d+)\0', lambda m: spans[int(m[1])], text)


def as_on_a_code_host(text: str) -> str:
    """Write out what Python-Markdown reads differently than CommonMark.

    There a list may follow a paragraph without an empty line, and an item's
    children stand below its text; Python-Markdown wants the line, and children
    four columns further in.
    """
    lines, fence, indents, in_items = [], '', [], False
    for line in text.split('\n'):
        stripped = line.lstrip(' ')
        indent = len(line) - len(stripped)
        mark = re.match(r'`{3,}|~{3,}', stripped)
        if fence:
            if mark and stripped.startswith(fence):
                fence = ''
        elif mark:
            fence = mark[0]
        if not stripped:
            lines.append('')
            continue
        while indents and indent < indents[-1]:
            indents.pop()
        item = not fence and not mark and _ITEM.match(stripped)
        begins = not lines or not lines[-1]
        if item and not begins and not in_items:
            lines.append('')
        in_items = bool(item) or in_items and not begins
        if indents:
            extra = indent - indents[-1]
            line = ' ' * (4 * len(indents) + extra) + stripped
        lines.append(line)
        if item:
            indents.append(indent + len(item[0]))
    return '\n'.join(lines)


def beside(text: str) -> str:
    """Make tables whose cells hold blocks into columns that can wrap."""

    def table(match: re.Match) -> str:
        heads = re.findall(r'<th>(.*?)</th>', match[1])
        rows = re.split(r'</td></tr><tr><td>', match[2])
        parts = ['<div class="beside" markdown>']
        for row in rows:
            for head, cell in zip(heads, row.split('</td><td>'), strict=True):
                parts.append(f'<div markdown>\n\n**{head}**\n{cell}\n</div>')
        return '\n'.join([*parts, '</div>'])

    return re.sub(
        r'<table><tr>((?:<th>.*?</th>)+)</tr><tr><td>\n(.*?)'
        r'</td></tr></table>',
        table,
        text,
        flags=re.S)
