"""Distances and cost of candidates, each computed once."""
import copy
from dataclasses import dataclass

import torch
from mmengine.config import Config

from mmcompress.analysis.complexity import complexity, total
from mmcompress.model import inputs as model_inputs
from mmcompress.model.config import (build_model, has_preprocessor,
                                     read_config, teacher_of)
from .batch import Batch, draw_batch
from .distances import relation_distance, semantic_distance
from .observe import (INITS, Observation, linear_classifier, observe, seed_of,
                      seeded)
from .scoring import Distances
from .space import Candidate, ResNetSpace


@dataclass(frozen=True)
class Cost:
    """What a candidate's whole model holds and computes.

    Attributes:
        params (int): Number of parameters.
        flops (int): Multiply-accumulates for one image.
    """
    params: int
    flops: int


def compare(student: Observation, teacher: Observation) -> Distances:
    """Distances of two networks that saw the same batch.

    The relation distance is the mean over what the backbones yield, level by
    level.

    Raises:
        ValueError: If they yield different numbers of levels.
    """
    if len(student.features) != len(teacher.features):
        raise ValueError(
            f'the backbone of the student yields {len(student.features)} '
            f'levels, that of the teacher {len(teacher.features)}; give both '
            'the same number of `out_indices`')
    relations = [
        relation_distance(s, t).item()
        for s, t in zip(student.features, teacher.features)
    ]
    semantic = None
    gradients = student.gradient, teacher.gradient
    if all(g is not None for g in gradients) and \
            gradients[0].shape == gradients[1].shape:
        semantic = semantic_distance(*gradients).item()
    return Distances(sum(relations) / len(relations), semantic)


def mean(distances: list[Distances]) -> Distances:
    """Of several initialisations."""
    num = len(distances)
    semantic = [d.semantic for d in distances]
    return Distances(
        sum(d.relation for d in distances) / num,
        None if None in semantic else sum(semantic) / num)


def without_search(cfg: Config) -> Config:
    """A config without what only the search reads."""
    cfg = copy.deepcopy(cfg)
    cfg.pop('diswot', None)
    return cfg


def student_key(model: dict) -> tuple[str, ...]:
    """Where the student is in a config's model: what our builders wrap."""
    path: tuple[str, ...] = ()
    while inner := next((k for k in ('student', 'model') if k in model), None):
        path += (inner, )
        model = model[inner]
    return path


def nested(path: tuple[str, ...], value: dict) -> dict:
    """A value below keys."""
    for key in reversed(path):
        value = {key: value}
    return value


def num_classes(model: torch.nn.Module) -> int | None:
    """Of a linear classifier; None without one."""
    classifier = linear_classifier(model)
    return None if classifier is None else classifier.out_features


class Evaluator:
    """Shows candidates and the teacher the same batch.

    Both are initialised anew, ``num_inits`` times; seeds depend on the
    candidate's name and on nothing that happened before. So results don't
    depend on the order of evaluations.

    Args:
        cfg (Config): Whole config, whose student is the template.
        space (ResNetSpace): Of the candidates.
        teacher (dict | str | None): Config of the teacher; None for that of
            the config's own distillation. Its weights are not loaded. Without
            a `data_preprocessor` it sees images as the student does.
        folder (str | None): Where relative paths start.
        batch_size (int): Number of images, at least 2.
        data (str): ``'train'``: from ``train_dataloader``; ``'noise'``.
        seed (int): Of batch and initialisations.
        num_inits (int): Over how many distances are averaged.
        init (str): See :func:`diswot.observe.observe`.
        device (str): Where networks run.

    Raises:
        ValueError: If there is no teacher, or an argument is none of these.
    """

    def __init__(self,
                 cfg: Config,
                 space: ResNetSpace,
                 teacher: dict | str | None = None,
                 folder: str | None = None,
                 batch_size: int = 64,
                 data: str = 'train',
                 seed: int = 0,
                 num_inits: int = 3,
                 init: str = 'normal',
                 device: str = 'cpu') -> None:
        if num_inits < 1:
            raise ValueError(f'num_inits={num_inits} must be at least 1')
        if init not in INITS:
            raise ValueError(f'init={init!r} is none of {", ".join(INITS)}')
        teacher = teacher or teacher_of(cfg.model)
        if teacher is None:
            raise ValueError(
                'which teacher? Give diswot.teacher, a config or its path, or '
                'let the model be a mmcompress.Distill with a teacher')
        self.cfg = without_search(cfg)
        self.space = space
        self.path = student_key(self.cfg.model)
        self.seed, self.num_inits, self.init = seed, num_inits, init
        self.device = device
        self.teacher_cfg = read_config(
            teacher, folder=folder, key='diswot.teacher')
        if 'default_scope' not in self.teacher_cfg:
            self.teacher_cfg.default_scope = cfg.get('default_scope')
        first = self._build(next(iter(space)))
        self._preprocessor = first.data_preprocessor
        self._num_classes = num_classes(first)
        self.image_size = model_inputs.image_size(self.cfg, first)
        self.batch: Batch = draw_batch(data, self.cfg, first, batch_size, seed)
        self.batch_fingerprint = self.batch.fingerprint(first)
        self.costs: dict[Candidate, Cost] = {}
        self._teacher: list[Observation] | None = None

    def options(self, candidate: Candidate) -> dict:
        """What a candidate changes in the whole config."""
        model = self.cfg.model
        for key in self.path:
            model = model[key]
        changed = self.space.options(candidate, model)
        return nested(('model', *self.path), changed)

    def config_of(self, candidate: Candidate) -> Config:
        """The whole config of a candidate."""
        cfg = copy.deepcopy(self.cfg)
        cfg.merge_from_dict(self.options(candidate))
        return cfg

    def _build(self, candidate: Candidate) -> torch.nn.Module:
        return build_model(self.config_of(candidate))

    def _observe(self, model: torch.nn.Module, cfg: Config, name: str,
                 i: int) -> Observation:
        model.to(self.device)
        labels = self.batch.labels
        # of other classes: labels mean nothing there
        if num_classes(model) != self._num_classes:
            labels = None
        return observe(model, cfg, self.batch.inputs(model),
                       None if labels is None else labels.to(self.device),
                       self.init, seed_of(self.seed, i, name))

    @property
    def teacher(self) -> list[Observation]:
        """Of the teacher, one for each initialisation."""
        if self._teacher is None:
            model = build_model(self.teacher_cfg)
            if not has_preprocessor(self.teacher_cfg):
                model.data_preprocessor = copy.deepcopy(self._preprocessor)
            self._teacher = [
                self._observe(model, self.teacher_cfg, 'teacher', i)
                for i in range(self.num_inits)
            ]
        return self._teacher

    def cost(self, candidate: Candidate) -> Cost:
        """Parameters and operations of a candidate's whole model."""
        if candidate not in self.costs:
            model = self._build(candidate).eval()
            with seeded(0):
                image = model_inputs.noise_batch(self.cfg, model,
                                                 self.image_size)
            sums = total(complexity(model, image))
            self.costs[candidate] = Cost(sums.params, sums.flops)
        return self.costs[candidate]

    def distances(self, candidate: Candidate) -> list[Distances]:
        """To the teacher, one for each initialisation."""
        cfg = self.config_of(candidate)
        model = build_model(cfg)
        return [
            compare(self._observe(model, cfg, candidate.name, i), teacher)
            for i, teacher in enumerate(self.teacher)
        ]
