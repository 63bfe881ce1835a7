"""What of a run is done, on disk, so that a stopped one goes on."""
import json
from pathlib import Path
from typing import Any

from mmcompress.atomic import replacing
from .options import Options, Refused

_FILE = 'state.json'
# what may differ when a run goes on: where it computes, and what is looked at
_FREE = ('device', 'control', 'export', 'metric')


class State:
    """Results of the stages of a run.

    Args:
        folder (Path): Of the run; made if it is not there.
        options (Options): What is asked for.

    Raises:
        Refused: If the folder has a run of other options.
        OSError: If the folder can not be written to.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f'--work-dir: {folder} can not be made '
                          f'({error.strerror})') from error
        asked = json.loads(json.dumps(options.asked()))
        path = folder / _FILE
        self.done: dict[str, Any] = {}
        if path.exists():
            found = json.loads(path.read_text())
            self._compare(found['options'], asked)
            self.done = found['done']
        self.asked = asked
        self._write()

    def _compare(self, before: dict, now: dict) -> None:
        keys = [
            key for key in dict.fromkeys([*before, *now])
            if key not in _FREE and before.get(key) != now.get(key)
        ]
        if keys:
            said = '; '.join(
                f'{key}: {before.get(key)} there, {now.get(key)} now'
                for key in keys)
            raise Refused(
                f'{self.folder} has a run of other options ({said}). Give '
                'another --work-dir, or remove that folder')

    def _write(self) -> None:
        with replacing(self.folder / _FILE) as temporary:
            temporary.write_text(
                json.dumps(dict(options=self.asked, done=self.done), indent=1))

    def __contains__(self, stage: str) -> bool:
        return stage in self.done

    def __getitem__(self, stage: str) -> Any:
        return self.done[stage]

    def finish(self, stage: str, result: Any) -> Any:
        """Write down that a stage is done, and what it gave.

        Args:
            stage (str): Its name.
            result (Any): What JSON can hold.
        """
        self.done[stage] = result
        self._write()
        return result
