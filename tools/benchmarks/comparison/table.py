"""What is compared: read from the metafiles of the methods.

An entry of a model in ``configs/*/metafile.yml`` may have, in its metadata::

    Comparison:
      Task: detection             # what it is compared on
      Method: fgd                 # its name there
      Compared With: inherit      # 'student' if left out
      Options: [KEY=VALUE, ...]   # of --cfg-options, where it has no config
      Note: What readers of the numbers must know.

or a list of these. One entry of a task, its baseline, also says ``Metric``,
the score's name in the log of the validation, and ``Scale``, from there to
percent: what others are compared with that don't say. It is the ``student``
alone where methods teach, and the ``float`` model where they quantize it.

Names that begin with ``teacher``, and ``float``, are those of models that
methods start from. Where a model has a ``Teacher`` or a ``Float``, that is
trained before, and hands its checkpoint to ``model.teacher.checkpoint`` or to
``load_from``.
"""
from dataclasses import dataclass, field, replace
from pathlib import Path

from .gains import is_origin
from .metafiles import read_metafiles

STUDENT = 'student'
# the options that take a checkpoint of what is trained before
OPTIONS = dict(Teacher='model.teacher.checkpoint', Float='load_from')
_KEYS = {
    'Task', 'Method', 'Compared With', 'Options', 'Note', 'Metric', 'Scale'
}


@dataclass(frozen=True)
class Task:
    """What methods are compared on.

    Args:
        name (str): Of the task.
        metric (str): The score's name in the log of the validation.
        scale (float): To percent.
        baseline (str): Name of what its methods are compared with by default.
    """
    name: str
    metric: str
    scale: float
    baseline: str = STUDENT


@dataclass(frozen=True)
class Entry:
    """A student, a teacher, a float model or a method on one task.

    Args:
        name (str): Of the method; it may have several tasks.
        task (str): Name of the task.
        config (str): Path of the config.
        origins (dict[str, str]): Base names of the configs whose checkpoints
            it takes, by the option.
        compared_with (str): Name of what does everything but the method: the
            student alone, one that inherits as it does, or the baseline of
            quantizers at equal bits.
        options (tuple[str]): ``KEY=VALUE`` of ``--cfg-options``.
        note (str): What readers of the numbers must know.
    """
    name: str
    task: str
    config: str
    origins: dict[str, str] = field(default_factory=dict)
    compared_with: str = STUDENT
    options: tuple[str, ...] = ()
    note: str = ''

    @property
    def stem(self) -> str:
        """Base name of the config."""
        return Path(self.config).stem


class Table:
    """All tasks and all entries, in the order of the metafiles.

    Args:
        root (Path): The checkout.

    Attributes:
        tasks (dict[str, Task]): By name.
        entries (dict[tuple[str, str], Entry]): By task and name.

    Raises:
        ValueError: If a metafile has an unknown key, two entries have one
            name, or something that an entry names does not exist.
    """

    def __init__(self, root: Path) -> None:
        self.tasks: dict[str, Task] = {}
        self.entries: dict[tuple[str, str], Entry] = {}
        for _, content in read_metafiles(root):
            for model in content['Models']:
                given = model.get('Metadata', {}).get('Comparison', [])
                for fields in [given] if isinstance(given, dict) else given:
                    self._add(model, fields)
        for key, entry in self.entries.items():
            self.entries[key] = self._checked(entry)

    def _add(self, model: dict, fields: dict) -> None:
        where = f'{model["Name"]}, Comparison'
        if unknown := fields.keys() - _KEYS:
            raise ValueError(f'{where}: unknown keys {sorted(unknown)}; there '
                             f'are {sorted(_KEYS)}')
        name, task = fields['Method'], fields['Task']
        if (task, name) in self.entries:
            raise ValueError(f'{where}: {task} already has {name}, '
                             f'{self.entries[task, name].config}')
        if 'Metric' in fields:
            if task in self.tasks:
                raise ValueError(f'{where}: the baseline of {task} is '
                                 f'{self.tasks[task].baseline!r}, so nothing '
                                 'else has a Metric')
            self.tasks[task] = Task(task, fields['Metric'],
                                    fields.get('Scale', 1), name)
        metadata = model['Metadata']
        self.entries[task, name] = Entry(
            name, task, model['Config'], {
                option: metadata[key]
                for key, option in OPTIONS.items() if key in metadata
            }, fields.get('Compared With', ''),
            tuple(fields.get('Options', ())), fields.get('Note', ''))

    def _checked(self, entry: Entry) -> Entry:
        """The entry, with the name of what it is compared with."""
        if entry.task not in self.tasks:
            raise ValueError(f'{entry.stem}, Comparison: no entry of '
                             f'{entry.task} has a Metric, which makes it the '
                             'baseline')
        entry = replace(
            entry,
            compared_with=entry.compared_with
            or self.tasks[entry.task].baseline)
        if (entry.task, entry.compared_with) not in self.entries:
            raise ValueError(f'{entry.stem}, Comparison: {entry.task} has '
                             f'no {entry.compared_with!r}; it has '
                             f'{self.names(entry.task)}')
        self.origins_of(entry)
        return entry

    def names(self, task: str) -> list[str]:
        """Of all entries of a task."""
        return [name for of_task, name in self.entries if of_task == task]

    def methods(self) -> list[Entry]:
        """All entries but baselines and what methods start from."""
        return [
            e for e in self.entries.values()
            if e.name != self.tasks[e.task].baseline and not is_origin(e.name)
        ]

    def compared_with(self, task: str, name: str) -> str | None:
        """What an entry is compared with; None if there is no such entry."""
        entry = self.entries.get((task, name))
        return entry and entry.compared_with

    def float_of(self, config: str) -> str | None:
        """Config of the float model that a quantized one starts from.

        Args:
            config (str): Path of the quantized model's.
        """
        stem = Path(config).stem
        for entry in self.entries.values():
            if entry.stem == stem and OPTIONS['Float'] in entry.origins:
                return self.origins_of(entry)[OPTIONS['Float']].config
        return None

    def origins_of(self, entry: Entry) -> dict[str, Entry]:
        """The entries that are trained before, by the option they fill.

        Raises:
            ValueError: If a config is in no entry of the task.
        """
        return {
            option: self._entry_of(stem, entry)
            for option, stem in entry.origins.items()
        }

    def _entry_of(self, stem: str, entry: Entry) -> Entry:
        for other in self.entries.values():
            if (other.task, other.stem) == (entry.task, stem):
                return other
        raise ValueError(f'{entry.stem}: it starts from {stem}, which has no '
                         f'Comparison with the task {entry.task}')

    def before(self, entry: Entry) -> list[Entry]:
        """What it starts from and what it is compared with, theirs first."""
        found = {}
        others = list(self.origins_of(entry).values())
        if not is_origin(entry.name) and entry.compared_with != entry.name:
            others.append(self.entries[entry.task, entry.compared_with])
        for other in others:
            found |= {e.name: e for e in (*self.before(other), other)}
        return list(found.values())
