"""The gallery of methods: what their metafiles and measurements say."""
import html
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comparison.gains import Summary, is_origin, summarize, verdict
from comparison.page import gains_of
from comparison.records import Records
from comparison.table import Table
from list_methods import LICENCES, TASKS, Method, read_methods

PAGE = 'methods.md'
RECORDS = 'docs/results/mini.json'
# code of others, at a commit or in a release
_FOREIGN = re.compile(r'@ ?[0-9a-f]{7}|\btorch \d')
STATUSES = {
    'stable':
    'verified, and trained with three seeds or more',
    'verified':
    'losses, layers or gradients equal stored numbers that code '
    'of others gave',
    'experimental':
    'nothing but the paper and our own tests says that it is '
    'right'
}
VERDICTS = {
    'gains': 'gains',
    'no clear difference': 'no clear difference',
    'loses': 'loses',
    '': 'not compared on the mini data'
}
INTRODUCTION = '''---
hide: [toc]
---

# Methods

Every method has a page: the idea, an example to paste, results as measured, what differs from the paper, the licence of its code.
Which one to take: [Which method first](docs/user_guide/which_method.md).

'''  # noqa: E501
MEANING = '''
## What the marks mean

A rule gives the status, from the stored numbers in `tests/data/golden` and the metafile:

{statuses}

"Equal" is to 1e-8 or better in almost all cases; each test states its tolerance. A status says how well an implementation is checked, not how much it helps.
That is the gain: the difference, on [the mini data](docs/benchmarks/mini.md), to the same student without the method, mean ± standard deviation over the seeds.
"Gains" means more than the spread of the seeds. Nothing was trained at full size here.
The licence is that of the authors' code. Ours is under Apache-2.0, was written from the papers, and needs none of theirs ([licences](docs/licences.md)).
'''  # noqa: E501


@dataclass(frozen=True)
class Measured:
    """A gain on the mini data.

    Args:
        text (str): For people.
        verdict (str): One of ``VERDICTS``.
    """
    text: str
    verdict: str


@dataclass(frozen=True)
class Card:
    """A method in the gallery.

    Args:
        method (Method): Its metafile.
        status (str): One of ``STATUSES``.
        gains (list[Measured]): In all tasks of the comparison.
    """
    method: Method
    status: str
    gains: list[Measured]

    @property
    def verdict(self) -> str:
        """The best of its gains."""
        verdicts = [gain.verdict for gain in self.gains]
        return next((v for v in VERDICTS if v in verdicts), '')


def has_numbers_of_others(golden: Path, folder: str) -> bool:
    """Whether stored numbers of a method are from code of others.

    Args:
        golden (Path): Folder of the fixtures.
        folder (str): Name of the method's folder in ``configs``.
    """
    for file in sorted(golden.glob(f'{folder}__*.npz')):
        with np.load(file) as arrays:
            if _FOREIGN.search(json.loads(str(arrays['meta']))['source']):
                return True
    return False


def num_seeds(verified_by: str) -> int:
    """Of trainings on the mini data, by ``Verified By`` of a metafile."""
    match = re.search(r'mini data, (\d+|one) seeds?', verified_by)
    if not match:
        return 0
    return 1 if match[1] == 'one' else int(match[1])


def status(equal: bool, seeds: int) -> str:
    """By the rule that the page states."""
    if not equal:
        return 'experimental'
    return 'stable' if seeds >= 3 else 'verified'


def _measured(name: str, task: str, summaries: dict[str, Summary],
              table: Table) -> Measured | None:
    gain = gains_of(summaries, table, task).get(name)
    if gain is None:
        return None
    other = table.entries[task, name].compared_with
    if is_origin(other):
        # of a quantizer, over the float model: a loss is expected
        said = ''
    else:
        said = verdict(summaries[other], summaries[name])
    spread = '' if gain.spread is None else f' ± {gain.spread:.1f}'
    text = f'{name}: {gain.mean:+.1f}{spread} over {other}, {task}'
    return Measured(text + (f'; {said}' if said else ''), said)


def read_cards(root: Path) -> list[Card]:
    """Of all methods.

    Args:
        root (Path): The checkout.

    Raises:
        ValueError: If there are no records of trainings.
    """
    records = Records(root / RECORDS).read()
    if not records:
        raise ValueError(f'{RECORDS} holds no trainings to read gains from')
    table = Table(root)
    summaries = {task: summarize(records, task) for task in table.tasks}
    cards = []
    for method in read_methods(root):
        folder = method.metafile.parent.name
        gains = [
            _measured(entry.name, entry.task, summaries[entry.task], table)
            for entry in table.methods()
            # with options, a config is a baseline: something is turned off
            if Path(entry.config).parent.name == folder and not entry.options
        ]
        equal = has_numbers_of_others(root / 'tests/data/golden', folder)
        seeds = num_seeds(method.summary['Verified By'])
        cards.append(
            Card(method, status(equal, seeds), [g for g in gains if g]))
    return cards


def _select(name: str, label: str, values: dict[str, str] | list[str]) -> str:
    options = ''.join(f'<option>{html.escape(v)}</option>' for v in values
                      if v)
    return (f'<label>{label} <select name="{name}"><option value="">all'
            f'</option>{options}</select></label>')


def _code(method: Method) -> str:
    rows = []
    for code in method.code:
        name = html.escape(code['Repository'])
        licence = LICENCES[code['Licence']].split(':')[0].strip('*')
        licence = {'none': 'no licence'}.get(licence, f'licence {licence}')
        rows.append(f'<a href="https://github.com/{name}">{name}</a>, '
                    f'{html.escape(licence)}')
    return '<br>'.join(rows) or 'no official code'


def _card(card: Card) -> str:
    method, summary = card.method, card.method.summary
    kinds = summary['Kind'].split(', ')[0]
    licences = {c['Licence'] for c in method.code}
    gains = '<br>'.join(html.escape(gain.text) for gain in card.gains)
    if len(card.gains) > 4:
        gains = (f'<details><summary>{len(card.gains)} comparisons</summary>'
                 f'{gains}</details>')
    page = f'{method.metafile.parent.name}/README.md'
    rows = {
        'Tasks': html.escape(', '.join(summary['Tasks'])),
        'Has': html.escape(summary['Status']),
        'Checked by': html.escape(summary['Verified By']),
        'Gain': gains or f'<a href="configs/{page}">on its page</a>',
        'Code': _code(method)
    }
    rows = ''.join(f'<dt>{k}</dt><dd>{v}</dd>' for k, v in rows.items())
    return (
        f'<article class="card" data-task="{"|".join(summary["Tasks"])}" '
        f'data-kind="{kinds}" data-status="{card.status}" '
        f'data-gain="{VERDICTS[card.verdict]}" '
        f'data-licence="{"|".join(sorted(licences) or ["no official code"])}">'
        f'<h2 id="{method.metafile.parent.name}"><a href="configs/{page}">'
        f'{html.escape(method.name)}</a></h2><p><span class="kind">'
        f'{html.escape(summary["Kind"])}</span> <span class="status '
        f'{card.status}">{card.status}</span></p><dl>{rows}</dl></article>')


def gallery_page(cards: list[Card]) -> str:
    """The page in Markdown, with links from the root of the repository."""
    kinds = sorted({c.method.summary['Kind'].split(', ')[0] for c in cards})
    licences = sorted({x['Licence'] for c in cards for x in c.method.code})
    filters = [
        _select('task', 'Task', list(TASKS)),
        _select('kind', 'Kind', kinds),
        _select('status', 'Status', STATUSES),
        _select('gain', 'Gain', list(VERDICTS.values())),
        _select('licence', 'Code', [*licences, 'no official code'])
    ]
    statuses = '\n'.join(f'- **{k}**: {v}.' for k, v in STATUSES.items())
    return (INTRODUCTION +
            f'<form class="filters" id="gallery-filter" hidden>\n'
            f'{"".join(filters)}\n<p class="count" role="status"></p>\n'
            f'</form>\n\n<div class="gallery">\n' +
            '\n'.join(map(_card, cards)) + '\n</div>\n\n' +
            MEANING.lstrip().format(statuses=statuses))
