"""Reports of runs: a page to look at, and Markdown."""
from collections.abc import Sequence
from pathlib import Path

from .blocks import (Block, Cells, Code, Heading, Picture, Plot, Plots, Points,
                     Text, as_html, as_markdown)
from .comparison import comparison_blocks
from .metrics import describe
from .plots import Panel, bars
from .record import Form, Record
from .running import command_of, files_of, how_to_run
from .tables import (faster, form_rows, measured_on, of_bytes, part_rows,
                     three_digits)

Records = Sequence[Record] | dict[str, Record]
FORMATS = ('md', 'html')
PICTURE = 'picture.png'


def _with_ratio(text: str, form: Form, base: Form) -> str:
    ratio = faster(form, base)
    return text if form is base or ratio == '-' else f'{text} ({ratio})'


def panels(record: Record) -> list[Panel]:
    """Bars of the forms: metric, size and latency, those that there are."""
    forms, base = record.forms, record.forms[0]
    found = []
    if any(record.metric in form.metrics for form in forms):
        metric = describe(record.metric)
        values = [form.metrics.get(record.metric) for form in forms]
        found.append(
            Panel(metric.name, [
                None if v is None else max(0.0, metric.factor * v)
                for v in values
            ], [metric.text(v) for v in values], 'C2'))
    if any(form.bytes for form in forms):
        found.append(
            Panel('file, MB', [(form.bytes or 0) / 1e6 for form in forms],
                  [of_bytes(form.bytes) for form in forms], 'C0'))
    if any(form.latency for form in forms):
        timed = [form.latency for form in forms]
        found.append(
            Panel('latency, ms, with 95 % interval', [
                latency and latency.median for latency in timed
            ], [
                _with_ratio(three_digits(form.latency.median), form, base)
                if form.latency else '-' for form in forms
            ], 'C1',
                  [latency and (latency.low, latency.high)
                   for latency in timed]))  # yapf: disable
    return found


def _plots(record: Record) -> Plots:
    labels = [form.name for form in record.forms]
    return Plots([
        Plot(
            panel.name.partition(',')[0].replace(' ', '_'),
            bars(labels, panel), f'{panel.name}: ' +
            '; '.join(f'{label} {text}'
                      for label, text in zip(labels, panel.texts)))
        for panel in panels(record)
    ])


def _title(record: Record) -> str:
    return f'{record.model}: ' + ', '.join(record.methods or ['compressed'])


def record_blocks(record: Record, folder: Path,
                  plan: Sequence[str] = ()) -> list[Block]:
    """The report of one run.

    Args:
        record (Record): What was measured.
        folder (Path): Where its files are.
        plan (Sequence[str]): What was done, step by step.
    """
    blocks: list[Block] = [Heading(_title(record), 1)]
    command = command_of(record)
    if command or plan:
        blocks.append(Heading('What was done'))
    if command:
        blocks.append(Code(command))
    if plan:
        blocks.append(Points(list(plan)))
    blocks += [Heading('Result'), Cells(*form_rows(record), texts=2)]
    plots = _plots(record)
    if plots.plots:
        blocks.append(plots)
    blocks += [Text(sentence) for sentence in measured_on(record)]
    if record.remarks:
        blocks += [Heading('What to know'), Points(record.remarks)]
    picture = folder / PICTURE
    if picture.is_file():
        alt = f'Ground truth, {record.forms[0].name}, {record.forms[-1].name}'
        blocks += [Heading('What both find'), Picture(picture, alt)]
    parts = part_rows(record.forms)
    if parts[1]:
        blocks += [Heading('Where the time goes, ms'), Cells(*parts)]
    blocks += how_to_run(record, folder)
    blocks += files_of(folder)
    return blocks + _provenance(record)


def _provenance(record: Record) -> list[Block]:
    facts = [f'config `{record.config}`, hash `{record.config_hash}`']
    if record.seed is not None:
        facts.append(f'seed {record.seed}')
    facts += [f'{name} {version}' for name, version in record.versions.items()]
    if record.seconds is not None:
        minutes, seconds = divmod(round(record.seconds), 60)
        facts.append(f'took {minutes} min {seconds} s')
    facts += [record.date] if record.date else []
    return [Heading('How it came about'), Points(facts)]


def render(records: Records,
           folder: str | Path,
           formats: Sequence[str] = FORMATS,
           plan: Sequence[str] = ()) -> list[Path]:  # yapf: disable
    """Write the report of a run, or a comparison of several.

    Args:
        records (Sequence[Record] | dict): What was measured; by name of the
            run, if there are several.
        folder (str | Path): Where ``report.md`` and ``report.html`` go; of
            one run its folder, whose picture and files are shown.
        formats (Sequence[str]): ``'md'`` or ``'html'``.
        plan (Sequence[str]): Of one run, what was done.

    Returns:
        list[Path]: What was written.

    Raises:
        ValueError: If a format is another one, or there is no record.
    """
    unknown = [f for f in formats if f not in FORMATS]
    if unknown:
        raise ValueError(f'format {unknown[0]!r} of a report is none of '
                         f'{", ".join(FORMATS)}')
    if not records:
        raise ValueError('there is no record to report')
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    named = records
    if not isinstance(records, dict):
        named = {str(i + 1): record for i, record in enumerate(records)}
    blocks = (
        record_blocks(next(iter(named.values())), folder, plan)
        if len(named) == 1 else comparison_blocks(named))
    return [_write(blocks, folder, suffix) for suffix in formats]


def _write(blocks: list[Block], folder: Path, suffix: str) -> Path:
    path = folder / f'report.{suffix}'
    text = (
        as_markdown(blocks, folder) if suffix == 'md' else as_html(
            blocks, blocks[0].text))
    path.write_text(text)
    return path
