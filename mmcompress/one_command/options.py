"""What a user asks for, checked before anything is read."""
import shlex
from dataclasses import asdict, dataclass, field, fields
from typing import Any

BITS = ('8', 'w4a8', 'w4a4', 'ternary', '1')
# their scales come from data; other weights are learnt anew
CALIBRATED = ('8', 'w4a8', 'w4a4')
CONTROLS = ('auto', 'yes', 'no')
EXPORTS = ('onnx', )

_UNTRAINED = {
    '1':
    'weights of one bit keep only the signs of the float ones, and what a '
    'network computes with them is far from what it was',
    'ternary': 'weights of three values are far from the float ones'
}


class Refused(ValueError):
    """What is asked for can't be done; the message says what can."""


@dataclass(frozen=True)
class Options:
    """Of :func:`mmcompress.compress`, which describes them.

    Raises:
        Refused: If they contradict each other, or are out of range.
    """
    config: str
    checkpoint: str
    distill_from: tuple[str, str] | None = None
    bits: str | None = None
    tokens: int | None = None
    prune: float | None = None
    recipe: str | None = None
    train: bool = False
    epochs: int | None = None
    export: str | None = None
    work_dir: str | None = None
    dry_run: bool = False
    images: int = 64
    exclude: list[str] = field(default_factory=list)
    keep_slow: bool = False
    control: str = 'auto'
    metric: bool = True
    seed: int = 0
    device: str = 'cpu'
    cfg_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_values()
        if not any((self.distill_from, self.bits, self.tokens, self.prune,
                    self.export)):
            raise Refused(
                'nothing to do: give --bits (smaller and faster weights), '
                '--distill-from (a teacher), --tokens (a vision transformer '
                'that merges tokens), --prune, or --export')
        if self.recipe and not self.distill_from:
            raise Refused(f'--recipe {self.recipe} is a way to distil: it '
                          'needs --distill-from')
        if self.bits in _UNTRAINED and not self.trains:
            raise Refused(
                f'--bits {self.bits} needs training: {_UNTRAINED[self.bits]}. '
                'Add --train (or --epochs N, or --distill-from a teacher); '
                '--bits 8 and --bits w4a8 need none')

    def _check_values(self) -> None:
        for name, value, allowed in (('bits', self.bits,
                                      BITS), ('export', self.export, EXPORTS),
                                     ('control', self.control, CONTROLS)):
            if value is not None and value not in allowed:
                raise Refused(f'--{name} {value}: it is one of '
                              f'{", ".join(allowed)}')
        if self.prune is not None and not 0 < self.prune < 1:
            raise Refused(f'--prune {self.prune}: the share that goes, '
                          'between 0 and 1, as 0.3')
        for name, value in (('tokens', self.tokens), ('epochs', self.epochs),
                            ('images', self.images)):
            if value is not None and value < 1:
                raise Refused(f'--{name} {value}: at least 1')
        if self.distill_from is not None and len(self.distill_from) != 2:
            raise Refused('--distill-from takes two: the config of the '
                          'teacher and its checkpoint')

    @property
    def trains(self) -> bool:
        """Whether the model is trained."""
        return bool(self.train or self.epochs or self.distill_from)

    @property
    def calibrates(self) -> bool:
        """Whether scales are set by images."""
        return self.bits in CALIBRATED

    def asked(self) -> dict[str, Any]:
        """What differs from doing nothing, to be written down."""
        default = {f.name: f.default for f in fields(self)}
        return {
            key: value
            for key, value in asdict(self).items()
            if value != default[key] and value not in ([], {}) and key not in (
                'work_dir', 'dry_run')
        }

    def command(self) -> str:
        """The command line that says the same."""
        words = ['python', 'tools/compress.py', self.config, self.checkpoint]
        asked = self.asked()
        if self.work_dir:
            asked['work_dir'] = self.work_dir
        for key, value in asked.items():
            name = '--' + key.replace('_', '-')
            if key in ('config', 'checkpoint', 'cfg_options'):
                continue
            if key == 'metric':
                words.append('--no-metric')
            elif value is True:
                words.append(name)
            elif isinstance(value, (list, tuple)):
                words += [name, *map(str, value)]
            else:
                words += [name, str(value)]
        if self.cfg_options:
            words.append('--cfg-options')
            words += [f'{k}={v}' for k, v in self.cfg_options.items()]
        return shlex.join(words)
