"""Scores of candidates from their distances, and how well they rank."""
from collections.abc import Sequence
from dataclasses import dataclass

COMBINATIONS = ('sum', 'rank_sum')


@dataclass(frozen=True)
class Distances:
    """Of a candidate to the teacher, each the mean over initialisations.

    Attributes:
        relation (float): See :func:`diswot.distances.relation_distance`.
        semantic (float | None): See
            :func:`diswot.distances.semantic_distance`; None where classes or
            channels differ, or there is no linear classifier.
    """
    relation: float
    semantic: float | None = None


@dataclass(frozen=True)
class Scoring:
    """What candidates are compared by; larger is better.

    ``'sum'`` is the paper's score, ``-w_semantic * D_sem - w_relation *
    D_rel``. As ``D_sem`` is some hundred times as large, that is nearly the
    semantic distance alone. ``'rank_sum'`` adds the ranks of the candidates
    by each distance instead, so that both count; it depends on which others
    they are compared with.

    Args:
        w_semantic (float): Weight of the semantic distance; 0 leaves it out,
            as where it is not defined.
        w_relation (float): Weight of the relation distance.
        combine (str): ``'sum'`` or ``'rank_sum'``.

    Raises:
        ValueError: If a weight is negative, both are 0, or ``combine`` is
            another word.
    """
    w_semantic: float = 1.0
    w_relation: float = 1.0
    combine: str = 'sum'

    def __post_init__(self) -> None:
        if min(self.w_semantic, self.w_relation) < 0 or \
                self.w_semantic == self.w_relation == 0:
            raise ValueError(
                f'w_semantic={self.w_semantic}, w_relation={self.w_relation}: '
                'weights of distances are at least 0, and one is above')
        if self.combine not in COMBINATIONS:
            raise ValueError(f'combine={self.combine!r} is none of '
                             f'{", ".join(COMBINATIONS)}')

    def scores(self, distances: Sequence[Distances]) -> list[float]:
        """Score candidates against each other.

        Args:
            distances (Sequence[Distances]): One for each candidate.

        Raises:
            ValueError: If the semantic distance has a weight and is not
                defined for one of them.
        """
        total = [0.0] * len(distances)
        for name, weight in (('semantic', self.w_semantic), ('relation',
                                                             self.w_relation)):
            if not weight:
                continue
            values = [getattr(d, name) for d in distances]
            if None in values:
                raise ValueError(
                    'the semantic distance is not defined between this '
                    'teacher and all candidates: they need linear '
                    'classifiers of equal classes on equally many channels. '
                    'Compare by the relation distance alone: w_semantic=0')
            if self.combine == 'rank_sum':
                # takes a second to import, which trainings don't need
                from scipy.stats import rankdata
                values = rankdata(values).tolist()
            total = [t - weight * v for t, v in zip(total, values)]
        return total


def kendall_tau(values: Sequence[float], others: Sequence[float]) -> float:
    """How alike two orders are: Kendall's tau-b, in [-1, 1].

    Args:
        values (Sequence[float]): One for each candidate.
        others (Sequence[float]): The same candidates', by another measure.
    """
    from scipy.stats import kendalltau
    return float(kendalltau(values, others).statistic)
