"""The page of a shared model: what it is, what was measured, how to run it."""
from pathlib import Path

import torch.nn as nn
from mmengine.config import Config

from mmcompress.model.config import inner_model
from mmcompress.results.record import Form, Latency, Record
from mmcompress.version import __version__
from .source import Source

# as the hub names them
_TASKS = dict(
    detection='object-detection',
    classification='image-classification',
    segmentation='image-segmentation',
    pose='keypoint-detection')


def _text(value: object) -> str:
    """A value in a cell of a table, or in a line of YAML's."""
    return ' '.join(str(value).replace('|', '/').split())


def _quoted(value: object) -> str:
    text = _text(value).replace('\\', '\\\\').replace('"', '\\"')
    return f'"{text}"'


def _front_matter(licence: str, record: Record | None) -> list[str]:
    lines = [
        '---', f'license: {_quoted(licence)}', 'library_name: mmcompress',
        'tags:', '- mmcompress', '- openmmlab'
    ]
    if record is not None:
        lines += [f'- {_quoted(method)}' for method in record.methods]
        if record.task in _TASKS:
            lines.append(f'pipeline_tag: {_TASKS[record.task]}')
    return [*lines, '---', '']


def _time(latency: Latency | None) -> str:
    if latency is None:
        return ''
    return (f'{latency.median:.3g} ms ({latency.low:.3g} to '
            f'{latency.high:.3g})')


def _size(number: int | None) -> str:
    return '' if number is None else f'{number / 1e6:.3g} MB'


def _row(form: Form, metrics: list[str], shared: str | None) -> str:
    name = _text(form.name)
    cells = [
        f'**{name}**' if form.name == shared else name,
        _text(form.bits),
        *(f'{form.metrics[key]:.4g}' if key in form.metrics else ''
          for key in metrics),
        '' if form.parameters is None else f'{form.parameters:,}',
        _size(form.bytes),
        _time(form.latency)
    ]
    return f'| {" | ".join(cells)} |'


def _measured(record: Record, shared: str | None) -> list[str]:
    """The table of all forms, and how it was measured."""
    metrics = [record.metric] if record.metric else sorted(
        {key
         for form in record.forms
         for key in form.metrics})
    columns = [
        'form', 'bits', *map(_text, metrics), 'parameters', 'weights',
        'latency'
    ]
    lines = [
        '## Measured', '', f'| {" | ".join(columns)} |',
        '| :-- | :-- |' + ' --: |' * (len(columns) - 2),
        *(_row(form, metrics, shared) for form in record.forms), ''
    ]
    timed = next((f.latency for f in record.forms if f.latency), None)
    facts = []
    if record.data:
        facts.append(f'Metric on {_text(record.data)}.')
    if timed is not None:
        size = ' x '.join(map(str, timed.size))
        facts.append(
            f'Latency of `{timed.what}`, batch {timed.batch}'
            f'{f", {size}" if size else ""}, {timed.threads} thread(s), '
            f'{timed.device}: median of {timed.rounds} calls with its 95 % '
            'interval.')
    if record.machine:
        facts.append(f'{_text(record.machine)}.')
    versions = [f'{k} {v}' for k, v in sorted(record.versions.items())]
    if versions:
        facts.append(f'With {_text(", ".join(versions))}.')
    if facts:
        lines += [' '.join(facts), '']
    return lines + [f'- {_text(remark)}' for remark in record.remarks
                    ] + ([''] if record.remarks else [])


def model_card(name: str, licence: str, cfg: Config, model: nn.Module,
               weights: Path, source: Source,
               teacher: dict | str | None) -> str:
    """Write the page.

    Args:
        name (str): Of the repository.
        licence (str): Of the weights.
        cfg (Config): As it is shared.
        model (nn.Module): As it was loaded.
        weights (Path): Their file.
        source (Source): With what was measured.
        teacher (dict | str | None): Config of the model that it learned
            from.

    Returns:
        str: Markdown, with a head in YAML.
    """
    record = source.record
    inner, steps = inner_model(cfg.model.to_dict())
    title = record.model if record else str(inner.get('type', 'model'))
    lines = _front_matter(licence, record)
    lines += [f'# {_text(name)}', '']
    what = f'{_text(title)}, compressed with mmcompress {__version__}'
    if record is not None and record.methods:
        what += f' by {_text(", ".join(record.methods))}'
    lines += [f'{what}.', '']
    facts = [('licence of the weights', licence),
             ('weights', f'`{weights.name}`, '
              f'{_size(weights.stat().st_size)}')]
    if steps:
        kinds = ', '.join(str(step.get('type')) for step in steps)
        facts.append(('steps', kinds))
    if source.form is not None:
        facts.append(('form', source.form))
    if teacher is not None:
        named = teacher if isinstance(teacher, str) else teacher.get(
            'model', teacher).get('type', 'a config of its own')
        facts.append(('teacher', Path(named).name if str(named).startswith(
            ('/', '~')) else named))
    classes = model.dataset_meta.get('classes')
    if classes:
        facts.append(('classes', len(classes)))
    lines += [f'- {key}: {_text(value)}' for key, value in facts] + ['']
    lines += [
        '## Use', '', '```shell', 'pip install "mmcompress[hub]"', '```', '',
        '```python', 'from mmcompress.hub import from_pretrained', '',
        f'model = from_pretrained({name!r}, device=\'cpu\')', '```', '',
        'A model in eval mode, with `model.cfg` and `model.dataset_meta`; '
        '`config.py` is its whole config.', ''
    ]
    if record is not None:
        lines += _measured(record, source.form)
    else:
        lines += ['Nothing was measured by the run that this comes from.', '']
    return '\n'.join(lines)
