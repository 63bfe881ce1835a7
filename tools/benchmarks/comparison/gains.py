"""What methods gain over what they start from, by records of trainings."""
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


def is_origin(method: str) -> bool:
    """Whether a name is that of a model that methods start from.

    Those, teachers and the float models of quantized ones, are trained once,
    with seed 0, and compared with nothing.
    """
    return method == 'float' or method.startswith('teacher')


@dataclass(frozen=True)
class Summary:
    """Scores of one method on one task.

    Args:
        method (str): Its name.
        scores (dict[int, float]): By seed.
    """
    method: str
    scores: dict[int, float]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.mean(self.scores.values())

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None for one seed."""
        return _deviation(self.scores.values())


@dataclass(frozen=True)
class Gain:
    """Differences of a method to another, of the same seed each.

    Args:
        differences (tuple[float, ...]): In the order of the seeds.
    """
    differences: tuple[float, ...]

    @classmethod
    def between(cls, other: Summary, method: Summary) -> 'Gain':
        """Of a method over another, on the seeds that both have.

        What was trained once stands for every seed.
        """
        if is_origin(other.method):
            other = Summary(other.method,
                            dict.fromkeys(method.scores, other.mean))
        seeds = sorted(other.scores.keys() & method.scores.keys())
        if not seeds:
            raise ValueError(f'{method.method} and {other.method} have no '
                             'seed in common')
        return cls(
            tuple(method.scores[seed] - other.scores[seed] for seed in seeds))

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.mean(self.differences)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation of the differences."""
        return _deviation(self.differences)


def _deviation(values: Iterable[float]) -> float | None:
    values = list(values)
    return statistics.stdev(values) if len(values) > 1 else None


def summarize(records: list[dict], task: str) -> dict[str, Summary]:
    """Scores of a task by method.

    Where a method has records of several settings, those of its newest
    setting count.

    Args:
        records (list[dict]): Oldest first.
        task (str): Name of the task.

    Returns:
        dict[str, Summary]: By method, in the order of the records.
    """
    records = [r for r in records if r['task'] == task]
    newest = {r['method']: r['hash'] for r in records}
    return {
        method:
        Summary(
            method, {
                r['seed']: r['score']
                for r in records
                if (r['method'], r['hash']) == (method, config_hash)
            })
        for method, config_hash in newest.items()
    }


def verdict(other: Summary, method: Summary) -> str:
    """Whether a gain is more than the spread of the seeds.

    Returns:
        str: ``'gains'`` or ``'loses'`` if the mean difference is larger than
        each of three standard deviations: of the other's scores, of the
        method's and of the differences. Otherwise ``'no clear difference'``.
        ``'too few seeds'`` below two. Empty where the other was trained once,
        since nobody knows its spread.
    """
    if is_origin(other.method):
        return ''
    gain = Gain.between(other, method)
    if gain.spread is None:
        return 'too few seeds'
    if abs(gain.mean) <= max(other.spread, method.spread, gain.spread):
        return 'no clear difference'
    return 'gains' if gain.mean > 0 else 'loses'
