"""Evaluations on the disk, so that a search can go on."""
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmcompress.atomic import remove_leftovers, replacing
from mmcompress.model.config import without_distillation
from .evaluate import Cost, Evaluator
from .scoring import Distances
from .space import Candidate


@dataclass(frozen=True)
class Record:
    """One candidate that was evaluated.

    Attributes:
        candidate (Candidate): Which.
        cost (Cost): Of its whole model.
        distances (Distances): Mean over the initialisations.
        inits (list[Distances]): One for each initialisation.
        seconds (float): That the evaluation took.
    """
    candidate: Candidate
    cost: Cost
    distances: Distances
    inits: list[Distances]
    seconds: float

    def as_dict(self) -> dict:
        """As stored."""
        return dict(
            name=self.candidate.name,
            candidate=self.candidate.as_dict(),
            cost=asdict(self.cost),
            distances=asdict(self.distances),
            inits=[asdict(d) for d in self.inits],
            seconds=round(self.seconds, 3))

    @classmethod
    def from_dict(cls, stored: dict) -> 'Record':
        """Of what :meth:`as_dict` gave."""
        candidate = stored['candidate']
        return cls(
            Candidate(**{
                **candidate, 'stage_blocks':
                tuple(candidate['stage_blocks'])
            }), Cost(**stored['cost']), Distances(**stored['distances']),
            [Distances(**d) for d in stored['inits']], stored['seconds'])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def conditions(evaluator: Evaluator) -> dict:
    """All that distances and costs depend on, beside the candidate.

    Distances shrink with the batch, and change with images, seeds and
    initialisation: what was measured under other conditions can not be
    compared.
    """
    batch, teacher = evaluator.batch, evaluator.teacher_cfg
    return dict(
        batch_size=batch.size,
        data=batch.source,
        batch=evaluator.batch_fingerprint,
        # on which operations are counted
        image_size=list(evaluator.image_size),
        seed=evaluator.seed,
        num_inits=evaluator.num_inits,
        init=evaluator.init,
        teacher=_digest([
            without_distillation(teacher.model),
            teacher.get('data_preprocessor')
        ]),
        student=_digest(without_distillation(evaluator.cfg.model)))


class Records:
    """The file of a search's evaluations; written after each of them.

    Args:
        path (Path): A json file; its folder exists.
        conditions (dict): See :func:`conditions`.
        resume (bool): Whether to go on with what the file has.

    Raises:
        FileExistsError: If there is a file and ``resume`` is False.
        ValueError: If it is of other conditions, or damaged.
    """

    def __init__(self, path: Path, conditions: dict, resume: bool) -> None:
        self.path = Path(path)
        self.conditions = conditions
        self.records: dict[Candidate, Record] = {}
        remove_leftovers(self.path.parent, self.path.name)
        if not self.path.is_file():
            return
        if not resume:
            raise FileExistsError(
                f'{self.path} has evaluations of an earlier search; go on '
                'with --resume, or give another --work-dir')
        self._read()

    def _read(self) -> None:
        try:
            stored = json.loads(self.path.read_text())
            before = stored['conditions']
            records = [Record.from_dict(r) for r in stored['evaluations']]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{self.path} can not be read as the evaluations '
                             f'of a search: {error!r}') from error
        differing = [
            f'{key}: {before.get(key)} there, {value} now'
            for key, value in self.conditions.items()
            if before.get(key) != value
        ]
        if differing:
            raise ValueError(
                f'{self.path} was measured under other conditions, and '
                'distances of both must not be compared ('
                f'{"; ".join(differing)}). Give another --work-dir')
        self.records = {r.candidate: r for r in records}

    def add(self, record: Record) -> None:
        """Keep an evaluation, on the disk when this returns."""
        self.records[record.candidate] = record
        text = json.dumps(
            dict(
                conditions=self.conditions,
                evaluations=[r.as_dict() for r in self.records.values()]),
            indent=1)
        with replacing(self.path) as path:
            path.write_text(f'{text}\n')
