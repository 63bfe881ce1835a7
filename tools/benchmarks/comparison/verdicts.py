"""What a row of results is held against, and whether it differs.

The baseline of

- a form of a run, such as the packed one: the run's own form that differs in
  nothing else (``inherit``, ``student alone``), or its first one;
- a method of the comparison: what its metafile says, ``inherit`` where it
  begins with a teacher's weights;
- another training: ``compared_with`` of its record;
- a network that was quantized by training: the same float model quantized
  without (PTQ), at the same bits;
- a compressed network with a latency: the best float one that is as fast on
  the same machine.
"""
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from .gains import is_origin
from .rows import Row

# beside a run's result, what was trained likewise but without the method
CONTROLS = ('inherit', 'student alone')
# latencies that differ by less count as equal
SAME_LATENCY = 0.1


@dataclass(frozen=True)
class Verdict:
    """How a row differs from a baseline.

    Args:
        baseline (str): Its name.
        seeds (int): Of the baseline.
        difference (float): Of the means, in the row's unit.
        spread (float | None): Sample standard deviation of the differences,
            over the seeds; None for one.
        says (str): ``'gains'`` or ``'loses'`` where the difference is larger
            than each of three standard deviations: of the row's scores, of
            the baseline's and of the differences; ``'within noise'``
            otherwise; ``'one seed'`` where nobody knows. After ``'gains'``
            and ``'loses'``, ``', baseline once'`` where the baseline is one
            training.
    """
    baseline: str
    seeds: int
    difference: float
    spread: float | None
    says: str


def _deviation(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def judge(row: Row, other: Row, name: str) -> Verdict | None:
    """Hold a row against a baseline.

    Args:
        row (Row): With scores.
        other (Row): The baseline. Scores of the same seeds are paired; a
            single one stands for every seed.
        name (str): Of the baseline.

    Returns:
        Verdict | None: None if they have no score to compare.
    """
    once = len(other.scores) == 1
    theirs = other.scores
    if once:
        theirs = dict.fromkeys(row.scores, *other.scores.values())
    seeds = [seed for seed in row.scores if seed in theirs]
    if not seeds or row.metric != other.metric:
        return None
    differences = [row.scores[seed] - theirs[seed] for seed in seeds]
    mean, spread = statistics.mean(differences), _deviation(differences)
    if len(row.scores) < 2 or spread is None:
        says = 'one seed'
    else:
        noise = max(x or 0.0
                    for x in (spread, _deviation(list(row.scores.values())),
                              _deviation(list(other.scores.values()))))
        better = (mean > 0) == row.higher_is_better
        says = ('within noise' if abs(mean) <= noise else
                ('gains' if better else 'loses') +
                (', baseline once' if once else ''))
    return Verdict(name, len(other.scores), mean, spread, says)


def _is_quantized(row: Row) -> bool:
    return row.bits != 'float' and 'w1' not in row.bits


class Baselines:
    """Find what rows are held against.

    Args:
        rows (list[Row]): All there are.
        declared (Callable): From the comparison's task and the name of a
            method to what the metafiles say it is compared with; None if
            they don't know it.
        float_of (Callable): From the path of a config to that of the float
            model it starts from; None if it starts from none.
    """

    def __init__(self, rows: list[Row], declared: Callable[[str, str],
                                                           str | None],
                 float_of: Callable[[str], str | None]) -> None:
        self.rows = rows
        self.declared = declared
        self.float_of = float_of
        self._runs: dict[tuple, list[Row]] = {}
        for row in rows:
            self._runs.setdefault(row.run, []).append(row)

    def of(self, row: Row) -> list[Verdict]:
        """All verdicts on a row, that on the right baseline first."""
        found = {}
        for name, other in (self._without_training(row), self._named(row),
                            self._as_fast(row)):
            verdict = other and judge(row, other, name)
            if verdict:
                found.setdefault(name, verdict)
        return list(found.values())

    def _named(self, row: Row) -> tuple[str, Row | None]:
        forms = self._runs[row.run]
        if row is not forms[0]:
            if row.form in CONTROLS:
                return forms[0].form, forms[0]
            controls = {f.form: f for f in forms if f.form in CONTROLS}
            first = next((controls[c] for c in CONTROLS if c in controls),
                         forms[0])
            return first.form, first
        name = row.compared_with or self.declared(row.group, row.method)
        if not name or name == row.method or is_origin(row.method):
            return '', None
        return name, self._find(row, lambda other: other.method == name)

    def _find(self, row: Row, wanted: Callable[[Row], bool]) -> Row | None:
        return next((other for other in self.rows
                     if other.group == row.group and other.kind == row.kind
                     and other.form == row.form and wanted(other)), None)

    def _without_training(self, row: Row) -> tuple[str, Row | None]:
        start = self.float_of(row.config) if _is_quantized(row) else None
        if start is None or 'PTQ' in row.methods or len(
                self._runs[row.run]) > 1:
            return '', None
        name = f'PTQ {row.bits.upper()}'
        other = next(
            (other for other in self.rows
             if 'PTQ' in other.methods and other.config == start and other.bits
             == row.bits and other.data.startswith(row.data) and other.scores),
            None)
        if other and 0 in other.scores:
            # the float model that networks start from has seed 0
            other = other.only(0)
        return name, other

    def _as_fast(self, row: Row) -> tuple[str, Row | None]:
        if not row.latency or row.bits == 'float' or not row.machine:
            return '', None
        as_fast = [
            other for other in self.rows
            if other.bits == 'float' and other.latency and other.scores
            and other.place == row.place and other.metric == row.metric and
            abs(other.latency.median / row.latency.median - 1) <= SAME_LATENCY
        ]
        best = max(as_fast, key=lambda other: other.mean, default=None)
        return 'float of equal latency', best
