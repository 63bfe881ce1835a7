"""What was measured of a model and its compressed forms, as JSON.

One format for all evidence: what ``tools/compress.py`` writes beside its
checkpoints, and the records of trainings and of timings in ``docs/results``.
"""
import hashlib
import json
from collections.abc import Callable, Hashable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mmcompress.atomic import replacing

if TYPE_CHECKING:
    # what only reads records needs no mmengine
    from mmengine.config import Config

SCHEMA = 1
KINDS = ('compress', 'mini', 'real', 'full', 'speed')


@dataclass(frozen=True)
class Latency:
    """Time of one call.

    Attributes:
        median (float): Milliseconds.
        low (float | None): Of the median's 95 % interval; None if it was
            not kept.
        high (float | None): Likewise.
        rounds (int): Calls that were measured.
        batch (int): Images in a call.
        size (list[int]): Height and width of the preprocessed images.
        what (str): ``'predict'``, with what comes after the network;
            ``'tensor'``, the network alone; ``'step'``, one of training.
        clock (str): ``'wall'``, or ``'cpu'``: the time that a thread ran.
        device (str): As for torch.
        threads (int): Of the processor.
        parts (dict[str, float]): Milliseconds of the parts of the model, by
            name, medians.
    """
    median: float
    low: float | None
    high: float | None
    rounds: int
    batch: int = 1
    size: list[int] = field(default_factory=list)
    what: str = 'predict'
    clock: str = 'wall'
    device: str = 'cpu'
    threads: int = 1
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """One form of a model.

    Attributes:
        name (str): ``'float'``, ``'compressed'``, ``'packed'``, ``'onnx'``;
            others, as ``'student alone'``, are controls.
        config (str): Path or ``'mmdet::folder/name.py'``.
        checkpoint (str): Path or URL.
        bits (str): Of weights and activations, as ``'w4a8'``; 1-bit layers
            are ``'w1a1'``; ``'float'``.
        metrics (dict[str, float]): Of the config's own evaluator.
        parameters (int | None): How many numbers are stored as weights.
        bytes (int | None): Of a file that holds the weights and nothing else.
        latency (Latency | None): On the machine of the record.
    """
    name: str
    config: str = ''
    checkpoint: str = ''
    bits: str = 'float'
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: int | None = None
    bytes: int | None = None
    latency: Latency | None = None


@dataclass(frozen=True)
class Record:
    """What was measured in one run.

    Attributes:
        kind (str): ``'compress'``, ``'mini'`` (mini data), ``'real'`` (small
            sets of photographs), ``'full'`` (the papers' data) or
            ``'speed'``.
        task (str): ``'detection'``, ``'classification'``,
            ``'segmentation'``, ``'pose'``, ``'point clouds'``,
            ``'retrieval'``.
        model (str): Name of the network, as ``'RetinaNet R-18'``.
        methods (list[str]): As in the metafiles, as ``['FGD', 'LSQ']``.
        config (str): What was run.
        config_hash (str): See :func:`config_hash`.
        forms (list[Form]): The first one is what the others are compared
            with.
        seed (int | None): None if nothing is random.
        metric (str): Key of the metric that counts.
        higher_is_better (bool): Of that metric.
        data (str): In words, as ``'200 images of data/bccd'``.
        machine (str): See :func:`mmcompress.analysis.timing.machine`.
        versions (dict[str, str]): By package, with ours and, in a checkout,
            its commit.
        date (str): Of the end, ``'2026-11-30'``.
        seconds (float | None): That it took.
        settings (dict): What was asked for, by option.
        remarks (list[str]): Sentences about what did not pay.
        log (str): Path of the log, from the record's folder.
    """
    kind: str
    task: str
    model: str
    methods: list[str]
    config: str
    config_hash: str
    forms: list[Form]
    seed: int | None = None
    metric: str = ''
    higher_is_better: bool = True
    data: str = ''
    machine: str = ''
    versions: dict[str, str] = field(default_factory=dict)
    date: str = ''
    seconds: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    log: str = ''

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'kind {self.kind!r} of a record is none of '
                             f'{", ".join(KINDS)}')
        if not self.forms:
            raise ValueError('a record needs at least one form')
        names = [form.name for form in self.forms]
        if len(set(names)) < len(names):
            raise ValueError(f'forms of one name: {", ".join(names)}')

    def form(self, name: str) -> Form | None:
        """The form of a name; None without it."""
        return next((f for f in self.forms if f.name == name), None)


def config_hash(cfg: 'Config') -> str:
    """Twelve hexadecimal digits of all that a config says.

    Args:
        cfg (Config): Whole config. Where it lies and where its results go do
            not count.
    """
    said = {k: v for k, v in cfg.to_dict().items() if k != 'work_dir'}
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_record(record: Record, path: str | Path) -> None:
    """Write a record; what was there stays whole until it is.

    Args:
        record (Record): What was measured.
        path (str | Path): Of the ``.json`` file.
    """
    content = {'schema': SCHEMA, **asdict(record)}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    with replacing(Path(path)) as temporary:
        temporary.write_text(text + '\n')


def _form(content: dict) -> Form:
    latency = content.pop('latency', None)
    return Form(latency=latency and Latency(**latency), **content)


def _record(content: dict, path: str | Path) -> Record:
    try:
        content = dict(content)
        forms = [_form(dict(form)) for form in content.pop('forms')]
        return Record(forms=forms, **content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is no record of results: {error}') from error


def _content(path: str | Path) -> dict:
    """What a file says besides its schema."""
    content = None
    try:
        content = json.loads(Path(path).read_text())
        schema = content.pop('schema')
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f'{path} is no record of results: it has no '
                         '`schema`') from error
    if schema != SCHEMA:
        raise ValueError(f'{path} has schema {schema}, this version reads '
                         f'{SCHEMA}')
    return content


def read_record(path: str | Path) -> Record:
    """Read a record.

    Args:
        path (str | Path): Of the ``.json`` file.

    Raises:
        ValueError: If it is none, or one of a newer version.
    """
    return _record(_content(path), path)


def read_records(path: str | Path) -> list[Record]:
    """Read a file of one record, or of a list of them.

    Args:
        path (str | Path): Of the ``.json`` file.

    Raises:
        ValueError: If it is none, or one of a newer version.
    """
    content = _content(path)
    if 'records' not in content:
        return [_record(content, path)]
    return [_record(each, path) for each in content['records']]


def _without_defaults(value: Any) -> Any:
    """As plain dicts, without what would be read back by itself."""
    if isinstance(value, list):
        return [_without_defaults(each) for each in value]
    if not isinstance(value, (Record, Form, Latency)):
        return value
    said = {}
    for each in fields(value):
        default = each.default
        if each.default_factory is not MISSING:
            default = each.default_factory()
        if (content := getattr(value, each.name)) != default:
            said[each.name] = _without_defaults(content)
    return said


def write_records(records: list[Record], path: str | Path) -> None:
    """Write a list of records, a line each, without what is at its default.

    Args:
        records (list[Record]): What was measured.
        path (str | Path): Of the ``.json`` file; what was there stays whole
            until the list is.
    """
    lines = [
        json.dumps(_without_defaults(record), ensure_ascii=False)
        for record in records
    ]
    text = f'{{"schema": {SCHEMA}, "records": [\n' + ',\n'.join(
        lines) + '\n]}\n'
    with replacing(Path(path)) as temporary:
        temporary.write_text(text)


def add_record(record: Record, path: str | Path,
               key: Callable[[Record], Hashable]) -> None:
    """Add a record to a list; one of the same key makes place for it.

    Several processes may add to one file.

    Args:
        record (Record): What was measured.
        path (str | Path): Of the ``.json`` file; it need not exist yet.
        key (Callable): From a record to what tells it from others.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{path}.lock'):
        records = read_records(path) if path.is_file() else []
        others = [r for r in records if key(r) != key(record)]
        write_records([*others, record], path)
