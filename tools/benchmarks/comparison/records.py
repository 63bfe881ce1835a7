"""A results file: one record per training, never half written."""
import json
from pathlib import Path

from filelock import FileLock

from mmcompress.atomic import replacing


def _key(record: dict) -> tuple[str, int, str]:
    return record['hash'], record['seed'], record['task']


class Records:
    """List of records in a json file, a line each.

    Several processes may append to one file.

    Args:
        path (Path): The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def read(self) -> list[dict]:
        """All records, oldest first.

        Raises:
            ValueError: If the file is not such a list.
        """
        if not self.path.is_file():
            return []
        records = json.loads(self.path.read_text())
        if not isinstance(records, list):
            raise ValueError(f'{self.path} holds no list of records')
        return records

    def find(self, config_hash: str, seed: int, task: str) -> dict | None:
        """The record of a training in a task, if there is one."""
        for record in self.read():
            if _key(record) == (config_hash, seed, task):
                return record
        return None

    def append(self, record: dict) -> None:
        """Add a record; a training that has one already keeps it.

        Args:
            record (dict): With at least ``hash``, ``seed`` and ``task``.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{self.path}.lock'):
            if self.find(*_key(record)):
                return
            lines = [
                json.dumps(r, ensure_ascii=False)
                for r in [*self.read(), record]
            ]
            # moved into place: an interrupted write leaves the old file
            with replacing(self.path) as part:
                part.write_text('[\n' + ',\n'.join(lines) + '\n]\n')
