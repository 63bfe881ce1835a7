"""The page of full-size configs: papers' numbers, and ours."""
from collections.abc import Callable
from pathlib import Path

from fullsize import FullConfig, read_catalogue, reported
from mmcompress.results.record import Record
from .metrics import metric_name, to_percent

INTRODUCTION = '''# Full-size configs

```shell
python tools/benchmarks/full.py --method fgd --dry-run    # what is missing
python tools/benchmarks/full.py --method fgd --launcher local --gpus 8
python tools/benchmarks/report.py                         # this page
```

Every config for a paper's data, by method: what the method's page says that
papers report, and what was measured with this code. "Not run" means just
that: {ran} of {all} have been run. How to run them, on one machine or with
Slurm, is [here](README.md#full-size-configs).
'''


def _measured(record: Record) -> str:
    form = record.forms[-1]
    value = form.metrics[record.metric] * to_percent(record.metric)
    text = f'{metric_name(record.metric)} {value:.2f}'
    return text if record.seed is None else f'{text}, seed {record.seed}'


def _row(entry: FullConfig, records: list[Record], root: Path,
         link: Callable[[str], str]) -> str:
    said = reported(root, entry.folder, entry.stem)
    cells = [
        f'[{entry.stem}]({link(entry.config)})', entry.data, entry.epochs
        or '', '; '.join(f'{name}: {value}' for name, value in said.items()),
        '; '.join(map(_measured, records)) or 'not run'
    ]
    return f'| {" | ".join(map(str, cells))} |'


def render_full(records: list[Record], root: Path, link: Callable[[str],
                                                                  str]) -> str:
    """The page in Markdown.

    Args:
        records (list[Record]): Of the store.
        root (Path): The checkout.
        link (Callable): From a path in the checkout to a link's target.
    """
    catalogue = read_catalogue(root)
    ran: dict[str, list[Record]] = {}
    for record in records:
        if record.kind == 'full':
            ran.setdefault(record.config, []).append(record)
    parts = [
        INTRODUCTION.format(
            ran=sum(e.config in ran for e in catalogue.values()),
            all=len(catalogue))
    ]
    for method in dict.fromkeys(e.collection for e in catalogue.values()):
        entries = [e for e in catalogue.values() if e.collection == method]
        page = link(f'configs/{entries[0].folder}/README.md')
        lines = [
            '| config | data | epochs | reported | measured |',
            '| :-- | :-- | --: | :-- | :-- |'
        ]
        lines += [_row(e, ran.get(e.config, []), root, link) for e in entries]
        parts.append(f'## {method}\n\n[Its page]({page})\n\n' +
                     '\n'.join(lines) + '\n')
    return '\n'.join(parts)
