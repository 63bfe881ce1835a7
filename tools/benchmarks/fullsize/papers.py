"""What papers report, from the tables of the methods' pages."""
import re
from functools import cache
from pathlib import Path

_LINK = re.compile(r'\[([^\]]*)\]\(([\w./-]+)\.py\)')
# a number of a row belongs to what its last stage trains
_FIRST = re.compile(r'(stage|step) 1|first stage')
# cells that hold no number of a paper
_NOTHING = re.compile(r'^(not |none$|see |-?$)')
_KEYS = re.compile(r'^(?!.*(FLOPs|MACs)).*(reported|paper|with [A-Z])|^plain$')


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip('|').split('|')]


def _tables(text: str) -> list[list[list[str]]]:
    """Tables of a page: header and rows, as cells."""
    blocks = re.findall(r'(?:^\|.*\n)+', text + '\n', re.M)
    return [[_cells(line) for line in block.splitlines()] for block in blocks]


@cache
def _page(path: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for header, *lines in _tables(path.read_text('utf-8')):
        for cells in lines:
            stems = [
                Path(link).name for name, cell in zip(header, cells)
                for text, link in _LINK.findall(cell)
                if not _FIRST.search(f'{name} {text}')
            ]
            said = {
                name: cell
                for name, cell in zip(header, cells) if _KEYS.search(name)
                and not _NOTHING.search(cell) and re.search(r'\d', cell)
            }
            # what it takes or makes, not what it reaches
            for stem in stems if len(cells) == len(header) else []:
                found.setdefault(stem, said)
    return found


def reported(root: Path, folder: str, stem: str) -> dict[str, str]:
    """Numbers of papers for a config, as its method's page has them.

    Args:
        root (Path): The checkout.
        folder (str): Of the method, in ``configs``.
        stem (str): Base name of the config.

    Returns:
        dict[str, str]: Cells by the header of their column, such as
        ``'with FGD, paper': '40.7'``; empty where none is known.
    """
    return _page(root / 'configs' / folder / 'README.md').get(stem, {})
