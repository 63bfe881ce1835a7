"""What of a run is shared: its config, its weights, what was measured."""
from dataclasses import dataclass
from pathlib import Path

from mmcompress.results.record import Form, Record, read_record

RECORD = 'record.json'


@dataclass(frozen=True)
class Source:
    """What a repository is made of.

    Attributes:
        config (Path): Of the model.
        checkpoint (Path): Its weights.
        record (Record | None): What was measured.
        form (str | None): Which of the record's forms this is.
    """
    config: Path
    checkpoint: Path
    record: Record | None = None
    form: str | None = None


def _file(name: str, folder: Path, what: str) -> Path:
    for path in (folder / name, Path(name), folder / Path(name).name):
        if path.is_file():
            return path
    raise FileNotFoundError(f'{what}: no file {name!r}, neither in {folder} '
                            'nor by itself')


def _choose(record: Record, name: str | None) -> Form:
    names = ', '.join(form.name for form in record.forms)
    if name is not None:
        form = record.form(name)
        if form is None:
            raise ValueError(f'{RECORD} has no form {name!r}, only {names}')
    else:
        # the last one is what the run was for
        usable = [
            form for form in record.forms[1:] or record.forms
            if form.checkpoint.endswith('.pth') and form.config
        ]
        if not usable:
            raise ValueError(f'no form in {RECORD} has a config and a *.pth: '
                             f'{names}')
        form = usable[-1]
    if not form.checkpoint.endswith('.pth') or not form.config:
        raise ValueError(f'form {form.name!r} of {RECORD} has no config and '
                         '*.pth, which sharing takes')
    return form


def _only(folder: Path, pattern: str, option: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ', '.join(path.name for path in found) or 'none'
        raise ValueError(f'{folder} has not one {pattern} but {len(found)} '
                         f'({names}); name it by `{option}`')
    return found[0]


def find_source(run: str | Path,
                config: str | None = None,
                checkpoint: str | None = None,
                form: str | None = None) -> Source:
    """Find what a run left.

    Args:
        run (str | Path): Folder of ``compress.py`` or of a training.
        config (str | None): The config, if it is not to be found.
        checkpoint (str | None): The weights, likewise.
        form (str | None): Which form of the record, as ``'packed'``; the
            last one by default.

    Returns:
        Source: With the record, where there is one.

    Raises:
        FileNotFoundError: If a file that is named is not there.
        ValueError: If it isn't clear which files are meant.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise FileNotFoundError(f'{run} is no folder of a run')
    record = None
    if (folder / RECORD).is_file():
        record = read_record(folder / RECORD)
    elif form is not None:
        raise ValueError(f'{folder} has no {RECORD}, so no form {form!r}')
    if config is None and checkpoint is None and record is not None:
        chosen = _choose(record, form)
        return Source(
            _file(chosen.config, folder, 'config'),
            _file(chosen.checkpoint, folder, 'checkpoint'), record,
            chosen.name)
    last = folder / 'last_checkpoint'
    if checkpoint is not None:
        weights = _file(checkpoint, folder, 'checkpoint')
    elif last.is_file():
        # mmengine's: a path on the machine of the training
        weights = _file(last.read_text().strip(), folder, 'last_checkpoint')
    else:
        weights = _only(folder, '*.pth', 'checkpoint')
    if config is not None:
        settings = _file(config, folder, 'config')
    else:
        settings = _only(folder, '*.py', 'config')
    return Source(settings, weights, record, form)
