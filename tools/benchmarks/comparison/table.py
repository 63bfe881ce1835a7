"""What is compared: read from the metafiles of the methods.

An entry of a model in ``configs/*/metafile.yml`` may have, in its metadata::

    Comparison:
      Task: detection             # what it is compared on
      Method: fgd                 # its name there
      Compared With: inherit      # 'student' if left out
      Options: [KEY=VALUE, ...]   # of --cfg-options, where it has no config
      Note: What readers of the numbers must know.

or a list of these. The task's ``student`` also says ``Metric``, the score's
name in the log of the validation, and ``Scale``, from there to percent.
Names that begin with ``teacher`` are those of models that teach. Where a
model has a ``Teacher``, that is trained before, and hands over its checkpoint.
"""
from dataclasses import dataclass
from pathlib import Path

import yaml

from .gains import is_teacher

STUDENT = 'student'
# the option that takes a teacher's checkpoint
TEACHER_OPTION = 'model.teacher.checkpoint'
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
    """
    name: str
    metric: str
    scale: float


@dataclass(frozen=True)
class Entry:
    """A student, a teacher or a method on one task.

    Args:
        name (str): Of the method; it may have several tasks.
        task (str): Name of the task.
        config (str): Path of the config.
        teacher (str | None): Base name of its teacher's config.
        compared_with (str): Name of what it starts from: ``'student'``, or
            a method that does everything but to learn from a loss.
        options (tuple[str]): ``KEY=VALUE`` of ``--cfg-options``.
        note (str): What readers of the numbers must know.
    """
    name: str
    task: str
    config: str
    teacher: str | None = None
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
        for file in sorted(root.glob('configs/*/metafile.yml')):
            for model in yaml.safe_load(file.read_text('utf-8'))['Models']:
                given = model.get('Metadata', {}).get('Comparison', [])
                for fields in [given] if isinstance(given, dict) else given:
                    self._add(model, fields)
        for entry in self.entries.values():
            self._check(entry)

    def _add(self, model: dict, fields: dict) -> None:
        where = f'{model["Name"]}, Comparison'
        if unknown := fields.keys() - _KEYS:
            raise ValueError(f'{where}: unknown keys {sorted(unknown)}; there '
                             f'are {sorted(_KEYS)}')
        name, task = fields['Method'], fields['Task']
        if (task, name) in self.entries:
            raise ValueError(f'{where}: {task} already has {name}, '
                             f'{self.entries[task, name].config}')
        if name == STUDENT:
            self.tasks[task] = Task(task, fields['Metric'],
                                    fields.get('Scale', 1))
        self.entries[task, name] = Entry(name, task, model['Config'],
                                         model['Metadata'].get('Teacher'),
                                         fields.get('Compared With', STUDENT),
                                         tuple(fields.get('Options', ())),
                                         fields.get('Note', ''))

    def _check(self, entry: Entry) -> None:
        for name in (STUDENT, entry.compared_with):
            if (entry.task, name) not in self.entries:
                raise ValueError(f'{entry.stem}, Comparison: {entry.task} has '
                                 f'no {name!r}; it has '
                                 f'{self.names(entry.task)}')
        if entry.teacher:
            self.teacher_of(entry)

    def names(self, task: str) -> list[str]:
        """Of all entries of a task."""
        return [name for of_task, name in self.entries if of_task == task]

    def methods(self) -> list[Entry]:
        """All entries but students and teachers."""
        return [
            e for e in self.entries.values()
            if e.name != STUDENT and not is_teacher(e.name)
        ]

    def teacher_of(self, entry: Entry) -> Entry | None:
        """The entry that is trained before, None if nothing is.

        Raises:
            ValueError: If its config is in no entry of the task.
        """
        if entry.teacher is None:
            return None
        for other in self.entries.values():
            if (other.task, other.stem) == (entry.task, entry.teacher):
                return other
        raise ValueError(f'{entry.stem}: its teacher, {entry.teacher}, has no '
                         f'Comparison with the task {entry.task}')
