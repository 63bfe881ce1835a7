"""Several runs in one table, and what of them may not be compared."""
from collections.abc import Iterator, Mapping
from pathlib import Path

from .blocks import Block, Cells, Heading, Plot, Plots, Points, Text
from .metrics import describe
from .plots import Point, points
from .record import Form, Latency, Record, read_record
from .tables import (NONE, drawn, faster, metric_text, of_bytes, of_latency,
                     of_weights, smaller)

Runs = Mapping[str, Record]


def read_runs(paths: list[str | Path]) -> dict[str, Record]:
    """Read records of runs.

    Args:
        paths (list[str | Path]): Folders of runs, or their ``record.json``.

    Returns:
        dict[str, Record]: By a name that is short and its own.

    Raises:
        FileNotFoundError: If there is none; says what writes it.
        ValueError: If one is no record, or given twice.
    """
    files = [_record_in(Path(path)) for path in paths]
    twice = [f for i, f in enumerate(files) if f in files[:i]]
    if twice:
        raise ValueError(f'{twice[0]} is given twice')
    return dict(zip(_names(files), map(read_record, files)))


def _record_in(path: Path) -> Path:
    if path.is_file():
        return path.absolute()
    if not path.exists():
        raise FileNotFoundError(f'there is no {path}')
    record = path / 'record.json'
    if record.is_file():
        return record.absolute()
    found = sorted(
        str(p.relative_to(path)) for p in path.glob('*/record.json'))
    if found:
        raise FileNotFoundError(
            f'{path} is no run, it holds {len(found)}: give {path}/*, or '
            f'those that count, such as {path / found[0]}')
    raise FileNotFoundError(
        f'{path} has no record.json: the run is not finished, or was none of '
        'tools/compress.py. Run that with --work-dir of this folder once '
        'more: it goes on where it stopped')


def _names(files: list[Path]) -> list[str]:
    """The end of each path by which it differs from all others."""
    parts = [
        f.parent.parts if f.name == 'record.json' else
        (*f.parent.parts, f.stem) for f in files
    ]

    def name(own: tuple[str, ...]) -> str:
        depth = 1
        while sum(p[-depth:] == own[-depth:] for p in parts) > 1:
            depth += 1
        return '/'.join(own[-depth:])

    return [name(own) for own in parts]


def _latencies(record: Record) -> list[Latency]:
    return [form.latency for form in record.forms if form.latency]


def _differ(runs: Runs, of: Mapping[str, object]) -> str:
    """What differs between runs, as ``'A (run1, run2), B (run3)'``."""
    values: dict[object, list[str]] = {}
    for name in runs:
        values.setdefault(of[name], []).append(name)
    if len(values) < 2:
        return ''
    return '; '.join(f'{value or "not said"} ({", ".join(names)})'
                     for value, names in values.items())


def _timed_how(record: Record) -> str:
    timed = _latencies(record)[0]
    size = ' x '.join(map(str, timed.size))
    return (f'{timed.what} of {timed.batch} x {size}, {timed.threads} threads '
            f'of {timed.device}, {timed.clock} time')


def warnings_of(runs: Runs) -> list[str]:
    """Sentences about what must not be compared across runs.

    Args:
        runs (Mapping[str, Record]): By name.
    """
    found = []
    scored = {n: r for n, r in runs.items() if any(f.metrics for f in r.forms)}
    data = _differ(scored, {n: r.data for n, r in scored.items()})
    if data:
        found.append('These runs were measured on different data, so compare '
                     f'metrics only within a run: {data}.')
    timed = {n: r for n, r in runs.items() if _latencies(r)}
    machines = _differ(timed, {n: r.machine for n, r in timed.items()})
    if machines:
        found.append('These runs were timed on different machines, so compare '
                     f'only how many times as fast a form is: {machines}.')
    how = _differ(timed, {n: _timed_how(r) for n, r in timed.items()})
    if how:
        found.append(f'Latencies are not of the same thing: {how}.')
    return found


def _metrics(runs: Runs) -> list[str]:
    return list(dict.fromkeys(r.metric for r in runs.values() if r.metric))


def _score(record: Record, form: Form, named: bool) -> list[str]:
    """Metric that counts, and how much it is above the first form's."""
    if record.metric not in form.metrics:
        return [NONE, NONE]
    metric, value = describe(record.metric), form.metrics[record.metric]
    base = record.forms[0]
    text = metric.text(value)
    difference = NONE if form is base else metric.difference(
        value, base.metrics.get(record.metric))
    return [metric_text(form, record.metric) if named else text, difference]


def comparison_rows(runs: Runs) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of all forms of all runs.

    Args:
        runs (Mapping[str, Record]): By name.
    """
    metrics = _metrics(runs)
    several = len(metrics) > 1
    name = describe(metrics[0]).name if len(metrics) == 1 else 'metric'
    head = [
        'run', 'model', 'form', 'bits', name, 'difference', 'parameters',
        'file, MB', 'smaller', 'latency, ms [95 %]', 'times as fast'
    ]
    rows = []
    for run, record in runs.items():
        base = record.forms[0]
        for form in record.forms:
            first = form is base
            rows.append([
                run, record.model, form.name, form.bits,
                *_score(record, form, several),
                of_weights(form.parameters),
                of_bytes(form.bytes), NONE if first else smaller(form, base),
                of_latency(form), NONE if first else faster(form, base)
            ])
    return head, rows


def comparison_table(runs: Runs) -> str:
    """The same for a terminal, with what must not be compared.

    Args:
        runs (Mapping[str, Record]): By name.
    """
    head, rows = comparison_rows(runs)
    # of a run and of its model, once is enough
    for row, above in reversed(list(zip(rows[1:], rows))):
        if row[0] == above[0]:
            row[:2] = ['', '']
    return '\n'.join([drawn('', head, rows, texts=4), *warnings_of(runs), ''])


def _points(runs: Runs, metric: str, cost: str) -> list[Point]:
    """Forms of runs that have both a metric and what they cost."""
    shown = describe(metric)
    found = []
    for run, record in runs.items():
        for form in record.forms:
            value, timed = form.metrics.get(metric), form.latency
            if record.metric != metric or value is None or value < 0:
                continue
            score = shown.factor * value
            if cost == 'size' and form.bytes:
                found.append(Point(form.bytes / 1e6, score, form.name, run))
            elif cost == 'latency' and timed:
                found.append(
                    Point(timed.median, score, form.name, run, timed.low,
                          timed.high))
    return found


def timed_alike(runs: Runs) -> Iterator[tuple[str, Runs]]:
    """Runs whose latencies may be compared, by where they were measured.

    Args:
        runs (Mapping[str, Record]): By name.

    Yields:
        tuple[str, Mapping]: The machine and how it was timed; the runs.
    """
    groups: dict[str, dict[str, Record]] = {}
    for name, record in runs.items():
        if _latencies(record):
            how = f'{record.machine}, {_timed_how(record)}'
            groups.setdefault(how, {})[name] = record
    yield from groups.items()


def _plots(runs: Runs) -> Iterator[Plot]:
    for i, metric in enumerate(_metrics(runs)):
        name = describe(metric).name
        found = _points(runs, metric, 'size')
        if len(found) > 1:
            yield Plot(f'size_{i}', points(found, 'file, MB', name),
                       f'{name} over the size of the file')
        for j, (how, group) in enumerate(timed_alike(runs)):
            found = _points(group, metric, 'latency')
            if len(found) > 1:
                machine = how.partition(',')[0]
                yield Plot(f'latency_{i}_{j}',
                           points(found, 'latency, ms', name, machine),
                           f'{name} over the latency on {machine}')


def comparison_blocks(runs: Runs) -> list[Block]:
    """The report of several runs.

    Args:
        runs (Mapping[str, Record]): By name.
    """
    head, rows = comparison_rows(runs)
    blocks: list[Block] = [
        Heading(f'Comparison of {len(runs)} runs', 1),
        Cells(head, rows, texts=4)
    ]
    warned = warnings_of(runs)
    if warned:
        blocks += [Heading('What must not be compared'), Points(warned)]
    plots = list(_plots(runs))
    if plots:
        blocks += [Plots(plots)]
    blocks.append(Heading('Runs'))
    for name, record in runs.items():
        facts = [
            f'methods: {", ".join(record.methods) or "none"}',
            f'config `{record.config}`, hash `{record.config_hash}`'
        ]
        facts += [f'data: {record.data}'] if record.data else []
        facts += [record.machine] if record.machine else []
        facts += [f'seed {record.seed}'] if record.seed is not None else []
        facts += [record.date] if record.date else []
        blocks += [Heading(name, 3), Points(facts + record.remarks)]
    blocks.append(
        Text('Differences, and how many times smaller and as fast a form is, '
             'are to the first form of its run.'))
    return blocks
