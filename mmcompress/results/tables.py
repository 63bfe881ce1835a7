"""What was measured, as tables that people read."""
import textwrap
from collections.abc import Iterator, Sequence
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .metrics import common_metrics, describe
from .record import Form, Record

NONE = '-'


def three_digits(value: float) -> str:
    """A positive number with three digits that count, without an exponent."""
    for digits in (3, 2, 1):
        if round(value, digits) < 10**(3 - digits):
            return f'{value:.{digits}f}'
    return f'{value:,.0f}'


def of_weights(count: int | None) -> str:
    """A number of weights, as ``'11.2 M'``."""
    if count is None:
        return NONE
    for unit, size in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if count >= size:
            return f'{three_digits(count / size)} {unit}'
    return str(count)


def of_bytes(size: int | None) -> str:
    """Bytes in MB, a million bytes each."""
    return NONE if size is None else three_digits(size / 1e6)


def of_latency(form: Form) -> str:
    """Median and interval in milliseconds, as ``'12.1 [11.8, 12.6]'``."""
    if form.latency is None:
        return NONE
    values = (form.latency.median, form.latency.low, form.latency.high)
    median, low, high = map(three_digits, values)
    return f'{median} [{low}, {high}]'


def smaller(form: Form, base: Form) -> str:
    """How many times smaller than another a form's file is."""
    if not form.bytes or not base.bytes:
        return NONE
    return f'{base.bytes / form.bytes:.1f} x'


def comparable(form: Form, base: Form) -> bool:
    """Whether latencies were measured in the same way."""
    a, b = form.latency, base.latency
    return a is not None and b is not None and all(
        getattr(a, key) == getattr(b, key)
        for key in ('batch', 'what', 'clock', 'device', 'threads'))


def faster(form: Form, base: Form) -> str:
    """How many times as fast as another a form is, by the medians."""
    if not comparable(form, base):
        return NONE
    return f'{base.latency.median / form.latency.median:.2f} x'


def metric_text(form: Form, key: str) -> str:
    """Name and value of a metric, as ``'box AP 41.2'``; or nothing."""
    if key not in form.metrics:
        return ''
    metric = describe(key)
    value = metric.text(form.metrics[key])
    if metric.name.endswith(' %'):
        return f'{metric.name[:-2]} {value} %'
    return f'{metric.name} {value}'


def columns(keys: Sequence[str]) -> list[str]:
    """Heads of the table of forms.

    Args:
        keys (Sequence[str]): Of the metrics, that which counts first.
    """
    names = [describe(key).name for key in keys]
    first = [*names[:1], 'difference'] if names else []
    return [
        'form', 'bits', *first, 'parameters', 'file, MB', 'smaller',
        'latency, ms [95 %]', 'times as fast', *names[1:]
    ]


def row(form: Form, base: Form, keys: Sequence[str]) -> list[str]:
    """Cells of a form, compared with another one.

    Args:
        form (Form): What was measured.
        base (Form): What it is compared with.
        keys (Sequence[str]): As for :func:`columns`.
    """
    cells = [describe(key).text(form.metrics.get(key)) for key in keys]
    first = cells[:1]
    if cells:
        first.append(
            NONE if form is base else describe(keys[0]).
            difference(form.metrics.get(keys[0]), base.metrics.get(keys[0])))
    return [
        form.name, form.bits, *first,
        of_weights(form.parameters),
        of_bytes(form.bytes), NONE if form is base else smaller(form, base),
        of_latency(form), NONE if form is base else faster(form, base),
        *cells[1:]
    ]


def form_rows(record: Record) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of a record's forms."""
    keys = common_metrics(record.forms, record.metric)
    return columns(keys), [
        row(form, record.forms[0], keys) for form in record.forms
    ]


def part_rows(forms: Sequence[Form]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of where the time of forms goes, in milliseconds."""
    timed = [f for f in forms if f.latency is not None and f.latency.parts]
    names = list(dict.fromkeys(p for f in timed for p in f.latency.parts))
    names.sort(key=lambda name: name == 'rest')
    return ['form', *names], [[
        form.name, *(three_digits(form.latency.parts[name])
                     if name in form.latency.parts else NONE for name in names)
    ] for form in timed]


def drawn(title: str,
          head: list[str],
          rows: list[list[str]],
          texts: int = 2) -> str:
    """A table as plain text, as narrow as it can be.

    Args:
        title (str): Above it.
        head (list[str]): Names of the columns.
        rows (list[list[str]]): Cells.
        texts (int): How many columns have texts; the others have numbers.
    """
    result = Table(
        title=title or None, title_justify='left', box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0))  # yapf: disable
    for i, name in enumerate(head):
        # in two lines
        name = name.replace(', ', ',\n').replace('times as', 'times\nas')
        result.add_column(name, justify='left' if i < texts else 'right')
    for cells in rows:
        result.add_row(*cells)
    out = StringIO()
    # so wide that nothing else is broken
    Console(
        file=out,
        force_jupyter=False,
        width=240,
        markup=False,
        highlight=False).print(result)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return '\n'.join(lines).strip('\n')


def measured_on(record: Record) -> Iterator[str]:
    """Sentences that say what the numbers are of."""
    if record.data:
        yield f'Metric on {record.data}.'
    timed = [form.latency for form in record.forms if form.latency]
    if timed:
        first = timed[0]
        size = ' x '.join(map(str, first.size)) or 'unknown size'
        what = dict(
            predict='`predict` of the whole model, without preprocessing',
            tensor='the network alone',
            step='a step of training').get(first.what, first.what)
        images = f'{first.batch} image{"s" * (first.batch != 1)}'
        rounds = [latency.rounds for latency in timed]
        yield (f'Latency: {what}, {images} of {size}, median of '
               f'{min(rounds)} rounds, forms in turn; '
               f'{record.machine or "unknown machine"}.')


def table(record: Record) -> str:
    """All that a terminal shows of a run.

    Args:
        record (Record): What was measured.

    Returns:
        str: A table of the forms, one of where their time goes, and remarks.
    """
    blocks = [drawn(record.model, *form_rows(record))]
    parts = part_rows(record.forms)
    if parts[1]:
        blocks.append(drawn('Where the time goes, ms', *parts, texts=1))
    sentences = [*measured_on(record), *record.remarks]
    blocks.append('\n'.join(textwrap.fill(s, 100) for s in sentences))
    return '\n\n'.join(block for block in blocks if block) + '\n'
