"""The dashboard: all rows of the store as data in one html file."""
import json
import os
from collections.abc import Callable
from pathlib import Path

from mmcompress.results.record import Latency
from .rows import Row
from .verdicts import Verdict

TEMPLATE = Path(__file__).parents[1] / 'dashboard.html'
MARK = '/* rows */ []'


def _how(latency: Latency) -> str:
    """How a latency was measured, in words."""
    size = ' x '.join(map(str, latency.size))
    what = dict(
        tensor='network alone', predict='whole call', step='training step')
    return ', '.join(
        filter(None, [
            what.get(latency.what, latency.what), size,
            f'batch {latency.batch}', latency.device,
            f'{latency.threads} thread{"s" * (latency.threads != 1)}',
            'CPU time' if latency.clock == 'cpu' else ''
        ]))


def _verdict(verdict: Verdict) -> list:
    spread = verdict.spread
    return [
        verdict.baseline, verdict.seeds,
        round(verdict.difference, 2), spread and round(spread, 2), verdict.says
    ]


def _name(row: Row, forms: int) -> str:
    """The method in its group; the form, where a run has several."""
    return f'{row.method}: {row.form}' if forms > 1 else row.method


def entry(row: Row, verdicts: list[Verdict], forms: int,
          link: Callable[[str], str]) -> dict:
    """A row as the page's script reads it; what is not known is left out.

    Args:
        row (Row): Of the store.
        verdicts (list[Verdict]): On it, the right baseline's first.
        forms (int): How many its run has.
        link (Callable): From a path in the checkout to a link's target.
    """
    record, latency = row.record, row.latency
    says = verdicts[0].says if verdicts else ''
    if not verdicts and row.scores:
        first = row.number == 0 and forms > 1
        says = ('reference'
                if first or not row.methods else 'no baseline measured')
    said = dict(
        task=row.task,
        model=row.model,
        methods=row.methods,
        group=row.group,
        name=_name(row, forms),
        bits=row.bits,
        kind=row.kind,
        metric=row.metric if row.scores else '',
        score=row.scores and round(row.mean, 2),
        sd=row.spread and round(row.spread, 2),
        seeds=[seed for seed in row.scores if seed is not None],
        says=says,
        verdicts=[_verdict(v) for v in verdicts],
        parameters=row.parameters,
        bytes=row.bytes,
        ms=latency and latency.median,
        interval=latency and latency.low and [latency.low, latency.high],
        how=latency and _how(latency),
        fast=row.times_as_fast,
        data=row.data,
        machine=row.machine,
        date=record.date,
        config=row.config and link(row.config),
        log=record.log
        and link(os.path.normpath(f'docs/results/{record.log}')),
        file=row.source,
        hash=record.config_hash,
        remarks=record.remarks)
    return {k: v for k, v in said.items() if v not in (None, '', [], {})}


def render_dashboard(rows: list[Row], verdicts: Callable[[Row], list[Verdict]],
                     link: Callable[[str], str]) -> str:
    """The whole page.

    Args:
        rows (list[Row]): Of the store.
        verdicts (Callable): From a row to the verdicts on it.
        link (Callable): From a path in the checkout to a link's target.
    """
    forms: dict[tuple, int] = {}
    for row in rows:
        forms[row.run] = forms.get(row.run, 0) + 1
    entries, seen = [], set()
    for row in rows:
        said = entry(row, verdicts(row), forms[row.run], link)
        # several runs of one model have its float form in common
        same = (row.model, row.group, row.form, row.data, row.bytes,
                tuple(row.scores.items()), said.get('ms'), said.get('how'))
        if row.number == 0 and forms[row.run] > 1:
            if same in seen:
                continue
            seen.add(same)
        entries.append(said)
    lines = ',\n'.join(
        json.dumps(each, ensure_ascii=False, separators=(',', ':'))
        for each in entries)
    # nothing in the data may end the script
    data = f'[\n{lines}\n]'.replace('</', '<\\/')
    text = TEMPLATE.read_text('utf-8')
    if text.count(MARK) != 1:
        raise ValueError(f'{TEMPLATE} has no single {MARK!r}')
    return text.replace(MARK, data)
