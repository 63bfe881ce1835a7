"""Commands and files of a finished run, for its report."""
import shlex
from pathlib import Path

from .blocks import Block, Code, Heading, Points, Text
from .record import Form, Record

# what runs a model of a task in Python, and its arguments
_INFERENCERS = dict(
    detection=('mmdet.apis', 'DetInferencer', '', 'weights'),
    classification=('mmpretrain', 'ImageClassificationInferencer', '',
                    'pretrained'),
    segmentation=('mmseg.apis', 'MMSegInferencer', '', 'weights'),
    pose=('mmpose.apis', 'MMPoseInferencer', 'pose2d=', 'pose2d_weights'))
# what a run may have written
_FILES = {
    'record.json': 'all numbers of this report; `tools/compare.py` reads it',
    'picture.png': 'what both forms find',
    'packed.pth': 'the packed model: low-bit weights, fast kernels',
    'packed.py': 'its config',
    'model.onnx': 'for onnxruntime',
    'report.html': 'this report, in one file',
    'report.md': 'the same as Markdown',
    'log.txt': 'all that was printed',
}


def _option(key: str, value: object) -> list[str]:
    """An option as it is written in a command; nothing if it wasn't given."""
    name = f'--{key.replace("_", "-")}'
    if value is None or value is False or value == [] or value == {}:
        return []
    if value is True:
        return [name]
    if isinstance(value, dict):
        value = [f'{k}={v}' for k, v in value.items()]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [name, *map(str, values)]


def command_of(record: Record) -> str:
    """The command of a run; empty if its record doesn't know it.

    Args:
        record (Record): Its ``settings`` have ``command``, or the options.
    """
    if isinstance(record.settings.get('command'), str):
        return record.settings['command']
    if record.kind != 'compress':
        return ''
    words = [record.config, record.forms[0].checkpoint]
    for key, value in record.settings.items():
        words += ['--no-metric'] if (key, value) == ('metric',
                                                     False) else _option(
                                                         key, value)
    return f'python tools/compress.py {shlex.join(words)}'


def _path(name: str, folder: Path) -> str:
    """A file as commands name it."""
    beside = folder / Path(name).name
    return str(beside if beside.is_file() else name)


def _onnx(folder: Path) -> list[Block]:
    path = folder / 'model.onnx'
    if not path.is_file():
        return []
    return [
        Text('With onnxruntime alone; how images have to be prepared, and the '
             'names of the classes, are in the metadata of the file:'),
        Code(
            'import onnxruntime\n'
            f"session = onnxruntime.InferenceSession('{path}')\n"
            'print(session.get_modelmeta().custom_metadata_map)\n'
            "outputs = session.run(None, {session.get_inputs()[0].name: "
            'images})', 'python')
    ]


def _last(record: Record) -> Form | None:
    """The form that a user goes on with."""
    for name in ('packed', 'compressed'):
        form = record.form(name)
        if form is not None and form.config and form.checkpoint:
            return form
    return None


def how_to_run(record: Record, folder: Path) -> list[Block]:
    """Commands that run what a run made.

    Args:
        record (Record): What was measured.
        folder (Path): Where its files are.
    """
    blocks: list[Block] = []
    form = _last(record)
    if form is not None:
        config = _path(form.config, folder)
        weights = _path(form.checkpoint, folder)
        command = shlex.join(['python', 'tools/test.py', config, weights])
        blocks.append(Code(command))
        if record.task in _INFERENCERS:
            module, name, key, option = _INFERENCERS[record.task]
            blocks.append(
                Code(
                    'import mmcompress.compat\n'
                    f'from {module} import {name}\n'
                    f"infer = {name}({key}'{config}', "
                    f"{option}='{weights}')\n"
                    "result = infer('image.jpg')", 'python'))
    blocks += _onnx(folder)
    return [Heading('Run it'), *blocks] if blocks else []


def files_of(folder: Path) -> list[Block]:
    """What lies in the folder of a run.

    Args:
        folder (Path): The folder.
    """
    own = {
        f'{path.stem}.{end}': what
        for path in sorted(folder.glob('*_train.py'))
        for end, what in (('py', 'how it was trained, to train on'), )
    }
    for path in sorted(folder.glob('*.pth')):
        if (path.with_suffix('.py').is_file() and path.name not in _FILES
                and not path.stem.endswith('_pruned')):
            own[path.name] = 'the compressed model, for any tool'
            own[f'{path.stem}.py'] = 'its config'
    found = [
        f'`{name}`: {what}' for name, what in {
            **own,
            **_FILES
        }.items() if (folder / name).is_file() or name.startswith('report.')
    ]
    if not (folder / 'record.json').is_file():
        return []
    return [Heading(f'Files in `{folder}`'), Points(found)]
