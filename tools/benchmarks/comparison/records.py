"""The store's file of what mini.py trained: one record per training."""
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from mmcompress.results.record import Form, Record, read_records, write_records

_OF_RECORD = ('config', 'seed', 'metric', 'seconds', 'date', 'machine',
              'versions')
_IN_SETTINGS = ('task', 'method', 'options', 'after')


def _key(record: dict) -> tuple[str, int, str]:
    return record['hash'], record['seed'], record['task']


def _flat(record: Record) -> dict:
    """As mini.py and its page see it."""
    settings = record.settings
    return {
        **{
            key: getattr(record, key)
            for key in _OF_RECORD
        },
        **{
            key: settings.get(key, [])
            for key in _IN_SETTINGS
        }, 'hash':
        record.config_hash,
        'score':
        round(record.forms[0].metrics[record.metric] * settings['scale'], 3)
    }


def to_record(flat: dict, network=None, tuning: bool = False) -> Record:
    """What a training gave, as the store keeps it.

    Args:
        flat (dict): ``config``, ``seed``, ``metric``, ``score``, ``scale``
            from the metric to the score, ``task`` and ``method`` of the
            comparison, ``options``, ``after``, ``hash``, ``seconds``,
            ``date``, ``machine``, ``versions``.
        network (Network | None): What was trained.
        tuning (bool): Whether it chose settings.
    """
    scale = flat['scale']
    settings = {key: flat[key] for key in _IN_SETTINGS} | dict(scale=scale)
    form = Form(
        'trained',
        flat['config'],
        metrics={flat['metric']: round(flat['score'] / scale, 6)})
    if network:
        form = replace(form, bits=network.bits, parameters=network.parameters)
    return Record(
        kind='mini',
        task=network.task if network else '',
        model=network.model if network else '',
        methods=network.methods if network else [],
        config_hash=flat['hash'],
        forms=[form],
        data='mini data',
        settings=settings | (dict(tuning=True) if tuning else {}),
        **{key: flat[key]
           for key in _OF_RECORD})


class Records:
    """Trainings in a file of the results store.

    Several processes may append to one file.

    Args:
        path (Path): The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def read(self) -> list[dict]:
        """All records, oldest first.

        Raises:
            ValueError: If the file holds something else.
        """
        if not self.path.is_file():
            return []
        return [_flat(record) for record in read_records(self.path)]

    def find(self, config_hash: str, seed: int, task: str) -> dict | None:
        """The record of a training in a task, if there is one."""
        for record in self.read():
            if _key(record) == (config_hash, seed, task):
                return record
        return None

    def append(self, record: dict, **how) -> None:
        """Add a record; a training that has one already keeps it.

        Args:
            record (dict): See :func:`to_record`.
            **how: Its other arguments.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{self.path}.lock'):
            if self.find(*_key(record)):
                return
            there = read_records(self.path) if self.path.is_file() else []
            write_records([*there, to_record(record, **how)], self.path)
