"""Tables of the store in pages that people write."""
import re
import statistics
from collections.abc import Callable

from .rows import Row

_BLOCK = re.compile(
    r'(<!-- table (\S+), by tools/benchmarks/report.py -->\n).*?'
    r'(<!-- end -->\n)', re.S)
# decimals that a metric's validation images can tell apart
_DECIMALS = {'top-1': 2}
_BITS = ('w8a8', 'w4a8', 'w3a8', 'w4a4', 'w2a8')


def _table(header: list[str], align: str, rows: list[list]) -> str:
    marks = [':--' if a == 'l' else '--:' for a in align]
    return ''.join(f'| {" | ".join(map(str, cells))} |\n'
                   for cells in (header, marks, *rows))


def _packed(rows: list[Row], link: Callable[[str], str]) -> str:
    """Metric and bytes, before and after packing."""
    runs: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row.group == 'packed':
            runs.setdefault(row.run, {})[row.form] = row
    lines = []
    for forms in runs.values():
        trained, packed = forms['as trained'], forms['packed']
        name, _, rest = trained.method.partition(', ')
        scores = [f'{forms[f].mean:.4g}' for f in forms]
        lines.append([
            f'[{name}]({link(trained.config)})' +
            (f', {rest}' if rest else ''), trained.metric, *scores,
            f'{trained.bytes:,}', f'{packed.bytes:,}',
            f'{trained.bytes / packed.bytes:.1f}'
        ])
    return _table([
        'config', 'metric', 'trained', 'folded', 'packed', 'trained, bytes',
        'packed, bytes', 'ratio'
    ], 'llrrrrrr', lines)


def _post_training(rows: list[Row]) -> dict[tuple, dict[str, Row]]:
    """By model and config: the float form and those of each bits."""
    models: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row.group == 'without training':
            models.setdefault((row.model, row.config), {})[row.bits] = row
    return models


def _quantized(rows: list[Row], link: Callable[[str], str]) -> str:
    """Means over the seeds, and what is lost."""
    lines = []
    for (model, config), forms in _post_training(rows).items():
        start = forms['float']
        digits = _DECIMALS.get(start.metric, 1)
        cells = [
            f'[{model}]({link(config)}), {start.metric}',
            len(start.scores), f'{start.mean:.{digits}f}'
        ]
        for bits in _BITS:
            lost = statistics.mean(
                score - start.scores[seed]
                for seed, score in forms[bits].scores.items())
            cells.append(f'{forms[bits].mean:.{digits}f} '
                         f'({lost:+.{digits}f})')
        lines.append(cells)
    return _table(['model', 'seeds', 'float', *map(str.upper, _BITS)],
                  'lrrrrrrr', lines)


def _quantized_by_seed(rows: list[Row], link: Callable[[str], str]) -> str:
    """Scores of each seed."""
    lines = []
    for (model, _), forms in _post_training(rows).items():
        digits = _DECIMALS.get(forms['float'].metric, 1)
        for seed in forms['float'].scores:
            lines.append([model, seed] + [
                f'{forms[bits].scores[seed]:.{digits}f}'
                for bits in ('float', *_BITS)
            ])
    return _table(['model', 'seed', 'float', *map(str.upper, _BITS)],
                  'lrrrrrrr', lines)


TABLES = dict(
    packed=_packed, quantized=_quantized, quantized_by_seed=_quantized_by_seed)


def fill_tables(text: str, rows: list[Row], link: Callable[[str], str],
                where: str) -> str:
    """A page with its tables as the store has them.

    Args:
        text (str): The page; a table stands between
            ``<!-- table NAME, by tools/benchmarks/report.py -->`` and
            ``<!-- end -->``.
        rows (list[Row]): Of the store.
        link (Callable): From a path in the checkout to a link's target.
        where (str): Of the page, for messages.

    Raises:
        ValueError: If there is no such table.
    """

    def fill(match: re.Match) -> str:
        if match[2] not in TABLES:
            raise ValueError(f'{where}: no table {match[2]!r}; there are '
                             f'{", ".join(TABLES)}')
        return match[1] + TABLES[match[2]](rows, link) + match[3]

    return _BLOCK.sub(fill, text)
