"""Kinds of networks, and what is recommended for each: ``families.yml``."""
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch.nn as nn
import yaml
from mmengine.config import Config

from mmcompress.model.config import inner_model

# where the libraries' models have what makes predictions
_HEADS = ('bbox_head', 'roi_head', 'decode_head', 'head', 'mask_head',
          'panoptic_head')


@dataclass(frozen=True)
class Family:
    """A kind of network.

    Attributes:
        name (str): As ``'one-stage detector'``.
        task (str): ``'detection'``, ``'classification'``,
            ``'segmentation'`` or ``'pose'``.
        recipes (list[str]): Names of recipes of distillation, the
            recommended one first.
        evidence (str): What chose it: a page of ours and the number, or that
            there is no measurement of ours.
    """
    name: str
    task: str
    recipes: list[str]
    evidence: str


@lru_cache(maxsize=None)
def table() -> dict:
    """All of ``families.yml``; not to be changed."""
    path = Path(__file__).with_name('families.yml')
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def row_of(family: Family) -> dict:
    """What the table says of a family."""
    return next(r for r in table()['families'] if r['name'] == family.name)


def class_names(module: nn.Module | None) -> set[str]:
    """Names of a module's class and of all that it derives from."""
    if isinstance(module, nn.ModuleList):
        return set().union(*map(class_names, module))
    return {cls.__name__ for cls in type(module).__mro__}


def part_of(model: nn.Module, part: str) -> nn.Module | None:
    """The model itself, its backbone or its head."""
    if part == 'model':
        return model
    names = _HEADS if part == 'head' else (part, )
    found = (getattr(model, name, None) for name in names)
    return next((m for m in found if isinstance(m, nn.Module)), None)


def fits(model: nn.Module, row: dict) -> bool:
    """Whether the parts of a model are of the classes that a row names.

    Args:
        model (nn.Module): Any.
        row (dict): With ``model``, ``head`` and ``backbone``, where given.
    """
    return all(
        class_names(part_of(model, part)) & set(row[part])
        for part in ('model', 'head', 'backbone') if part in row)


def find_family(cfg: Config, model: nn.Module) -> Family:
    """Which kind of network a model is.

    Args:
        cfg (Config): Its whole config.
        model (nn.Module): What it builds.

    Returns:
        Family: The first of the table that fits; of kinds that it doesn't
        list the generic one of the task, whose evidence says so.

    Raises:
        ValueError: If the model is of no known task.
    """
    for row in table()['families']:
        if fits(model, row):
            return Family(row['name'], row['task'], list(row['recipes']),
                          row['evidence'])
    kind = inner_model(cfg.model)[0].get('type', type(model).__name__)
    scope = cfg.get('default_scope')
    tasks = '; '.join(f'{task} ({", ".join(classes)})'
                      for task, classes in table()['tasks'].items())
    raise ValueError(
        f'the model is a {kind} (default_scope {scope!r}), which derives from '
        f'none of the classes whose task is known: {tasks}')
