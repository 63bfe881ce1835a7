"""What of a run is done, on disk, so that a stopped one goes on."""
import hashlib
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmcompress.atomic import replacing
from mmcompress.results.record import config_hash
from .options import Options, Refused

_FILE = 'state.json'
# what may differ when a run goes on: where it computes, and what is looked at
_FREE = ('device', 'control', 'metric')


def _digits_of(path: str) -> str:
    """What tells a file from another, also if they are large."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]


def contents(options: Options,
             cfg: Config,
             teacher: Config | None = None) -> dict[str, str]:
    """What the configs and the files of a run hold, as digits.

    Args:
        options (Options): What is asked for.
        cfg (Config): The user's config, with all that it inherits.
        teacher (Config | None): The teacher's, likewise.
    """
    configs = dict(config=cfg)
    if teacher is not None:
        configs['config of the teacher'] = teacher
    files = dict(checkpoint=options.checkpoint)
    if options.distill_from:
        files['checkpoint of the teacher'] = options.distill_from[1]
    # a URL stands for itself
    return {
        **{
            name: config_hash(one)
            for name, one in configs.items()
        },
        **{
            name: _digits_of(path)
            for name, path in files.items() if Path(path).is_file()
        }
    }


class State:
    """Results of the stages of a run.

    Args:
        folder (Path): Of the run; made if it is not there.
        options (Options): What is asked for.
        holds (dict[str, str] | None): Of :func:`contents`; a run of files
            that have changed since does not go on.

    Raises:
        Refused: If the folder has a run of other options or files, or can
            not be written to.
    """

    def __init__(self,
                 folder: Path,
                 options: Options,
                 holds: dict[str, str] | None = None) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f'--work-dir: {folder} can not be made '
                          f'({error.strerror})') from error
        asked = json.loads(json.dumps(options.asked()))
        path = folder / _FILE
        self.done: dict[str, Any] = {}
        if path.exists():
            found = json.loads(path.read_text())
            self._compare(found['options'], asked)
            self._compare_contents(found.get('contents', {}), holds or {})
            self.done = found['done']
        self.asked = asked
        self.holds = holds or {}
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

    def _compare_contents(self, before: dict, now: dict) -> None:
        changed = [
            key for key, digits in now.items()
            if before.get(key, digits) != digits
        ]
        if changed:
            raise Refused(f'{self.folder} has a run from before the '
                          f'{" and the ".join(changed)} changed. Give another '
                          '--work-dir, or remove that folder')

    def _write(self) -> None:
        content = dict(options=self.asked, contents=self.holds, done=self.done)
        with replacing(self.folder / _FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=1))

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
