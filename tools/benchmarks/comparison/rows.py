"""Records of one kind of run, put together over their seeds."""
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmcompress.results.record import Form, Latency, Record, read_records
from .metrics import metric_name, to_percent


@dataclass(frozen=True)
class Row:
    """One form of what several runs, alike but for the seed, gave.

    Args:
        run (tuple): What tells these runs from others.
        number (int): Of the form in its run.
        form (str): Its name.
        record (Record): The newest.
        scores (dict): In percent where the metric is known, by seed.
        bytes (int | None): The mean over the runs.
        source (str): File of the store.
    """
    run: tuple
    number: int
    form: str
    record: Record
    scores: dict = field(default_factory=dict)
    bytes: int | None = None
    source: str = ''

    def __getattr__(self, name: str):
        """What the newest record, or its form, says."""
        if name in ('kind', 'task', 'model', 'methods', 'data', 'machine',
                    'higher_is_better'):
            return getattr(self.record, name)
        if name in ('bits', 'parameters', 'latency'):
            return getattr(self._form, name)
        raise AttributeError(name)

    @property
    def _form(self) -> Form:
        return self.record.forms[self.number]

    @property
    def config(self) -> str:
        """Of the run."""
        return self.record.config

    @property
    def group(self) -> str:
        """What it belongs to, as ``'quantized DeiT'``."""
        return self.record.settings.get('task', '')

    @property
    def method(self) -> str:
        """Its name in the group."""
        return self.record.settings.get('method', '')

    @property
    def compared_with(self) -> str:
        """Name of the baseline in the group, by the record."""
        return self.record.settings.get('compared_with', '')

    @property
    def metric(self) -> str:
        """For people."""
        return metric_name(self.record.metric)

    @property
    def mean(self) -> float | None:
        """Over the seeds."""
        return statistics.mean(self.scores.values()) if self.scores else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds."""
        if len(self.scores) < 2:
            return None
        return statistics.stdev(self.scores.values())

    @property
    def place(self) -> tuple:
        """Where and how a latency was measured, and on which data."""
        t: Latency = self.latency
        return (self.task, self.data, self.machine, t.what, t.clock, t.batch,
                tuple(t.size), t.device, t.threads)

    @property
    def times_as_fast(self) -> list[float]:
        """As the run's first form: median, and its 95 % interval if kept."""
        kept = self.record.settings.get('times_as_fast', {})
        if self.form in kept or not self.latency:
            return kept.get(self.form, [])
        first = self.record.forms[0].latency
        if self.number == 0 or not first:
            return []
        return [round(first.median / self.latency.median, 3)]

    def only(self, seed: int) -> 'Row':
        """The same of one seed."""
        return replace(self, scores={seed: self.scores[seed]})


def _run(record: Record) -> tuple:
    settings = record.settings
    latency = next((f.latency for f in record.forms if f.latency), None)
    return (record.kind, record.task, record.model, tuple(record.methods),
            record.config, record.data, settings.get('task'),
            settings.get('method'), record.metric, latency
            and (latency.batch, tuple(latency.size)))


def read_store(folder: Path) -> list[tuple[str, Record]]:
    """All records of the store, with the name of their file."""
    return [(path.name, record) for path in sorted(folder.glob('*.json'))
            for record in read_records(path)]


def _score(record: Record, form: Form) -> float | None:
    value = form.metrics.get(record.metric)
    # one decimal more than any table shows
    return None if value is None else round(value *
                                            to_percent(record.metric), 3)


def make_rows(store: Iterable[tuple[str, Record]]) -> list[Row]:
    """Put records together over their seeds.

    Those that chose settings (``tuning``) are left out. Where a run has
    records of several settings, those of its newest count.

    Args:
        store (Iterable): Records with the name of their file, oldest first.
    """
    runs: dict[tuple, list[tuple[str, Record]]] = {}
    for source, record in store:
        if not record.settings.get('tuning'):
            runs.setdefault(_run(record), []).append((source, record))
    rows = []
    for run, entries in runs.items():
        newest = entries[-1][1]
        alike = [
            record for _, record in entries
            if record.config_hash == newest.config_hash
        ]
        for number, form in enumerate(newest.forms):
            same = [(r.seed, f) for r in alike if (f := r.form(form.name))]
            scores = {
                seed: _score(newest, f)
                for seed, f in same if newest.metric in f.metrics
            }
            sizes = [f.bytes for _, f in same if f.bytes]
            rows.append(
                Row(run, number, form.name, newest, scores,
                    round(statistics.mean(sizes)) if sizes else None,
                    entries[-1][0]))
    return rows
