"""What a search is told, under the key ``diswot`` of a config."""
from dataclasses import dataclass, fields

from mmengine.config import Config

from .algorithms import ALGORITHMS
from .scoring import Scoring

# annotations of options, and what they take
_NUMBERS = {
    int: (int, ),
    float: (int, float),
    float | None: (int, float, type(None))
}


@dataclass(frozen=True)
class Settings:
    """Options of a search.

    Attributes:
        space (dict): Config of the search space; see
            :class:`diswot.space.ResNetSpace`.
        teacher (dict | str | None): See
            :class:`diswot.evaluate.Evaluator`.
        batch_size (int): Number of images, at least 2.
        data (str): ``'train'`` or ``'noise'``.
        seed (int): Of batch, initialisations and search.
        num_inits (int): Over how many distances are averaged.
        init (str): ``'normal'`` (the paper's) or ``'config'``.
        w_semantic (float): See :class:`diswot.scoring.Scoring`.
        w_relation (float): As before.
        combine (str): As before.
        algorithm (str): ``'evolution'`` or ``'random'``.
        evaluations (int): Of different candidates.
        population (int): See :func:`diswot.algorithms.evolution`.
        tournament (int): As before.
        num_parents (int): As before.
        max_params (float | None): Limit of the whole model's parameters.
        max_flops (float | None): Limit of its multiply-accumulates for one
            image.
    """
    space: dict
    teacher: dict | str | None = None
    batch_size: int = 64
    data: str = 'train'
    seed: int = 0
    num_inits: int = 3
    init: str = 'normal'
    w_semantic: float = 1.0
    w_relation: float = 1.0
    combine: str = 'sum'
    algorithm: str = 'evolution'
    evaluations: int = 1000
    population: int = 36
    tournament: int = 8
    num_parents: int = 5
    max_params: float | None = None
    max_flops: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            for kind, types in _NUMBERS.items():
                if field.type == kind and not isinstance(value, types):
                    raise ValueError(f'diswot.{field.name}={value!r} must be '
                                     f'of type {kind}')
        # wrong weights are an error before anything is computed
        self.scoring
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f'diswot.algorithm={self.algorithm!r} is none of '
                             f'{", ".join(ALGORITHMS)}')
        if self.evaluations < 1:
            raise ValueError(f'diswot.evaluations={self.evaluations} must be '
                             'at least 1')
        for key in ('max_params', 'max_flops'):
            limit = getattr(self, key)
            if limit is not None and limit <= 0:
                raise ValueError(f'diswot.{key}={limit} must be positive')

    @property
    def scoring(self) -> Scoring:
        """How candidates are compared."""
        return Scoring(self.w_semantic, self.w_relation, self.combine)


def settings_of(cfg: Config) -> Settings:
    """Read the key ``diswot`` of a config.

    Raises:
        ValueError: If there is none, or it has unknown keys or no space.
    """
    given = cfg.get('diswot')
    if not given or 'space' not in given:
        raise ValueError('the config has no `diswot = dict(space=dict(type='
                         "'ResNetSpace', ...), ...)`, which says what to "
                         'search')
    given = given.to_dict() if hasattr(given, 'to_dict') else dict(given)
    known = [field.name for field in fields(Settings)]
    unknown = set(given) - set(known)
    if unknown:
        raise ValueError(f'diswot: unknown keys {", ".join(sorted(unknown))}; '
                         f'there are {", ".join(known)}')
    return Settings(**given)
