"""Which configs run, after which, and with which settings."""
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from .catalogue import FullConfig, read_catalogue
from .data import move_data, problems
from .samples import shrink
from .walk import strings

# a checkpoint of another config of the repository
_STAGE = re.compile(r'work_dirs/([\w.-]+)/(?:epoch|iter)_\d+\.pth')


@dataclass
class Run:
    """One config: what it is, and all of its settings.

    Args:
        entry (FullConfig): Of the catalogue.
        cfg (Config): As it will run, but for the checkpoints of ``after``.
        after (dict[str, Run]): What is trained before, by the dotted key
            that takes its checkpoint.
        data (str): In words.
        missing (list[str]): What it needs and is not there.
        downloads (list[str]): URLs of checkpoints.
    """
    entry: FullConfig
    cfg: Config
    after: dict[str, 'Run'] = field(default_factory=dict)
    data: str = ''
    missing: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.entry.stem

    @property
    def hash(self) -> str:
        """Of all settings, those of the runs before included."""
        said = {k: v for k, v in self.cfg.to_dict().items() if k != 'work_dir'}
        said['after'] = {key: run.hash for key, run in self.after.items()}
        text = json.dumps(said, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def batch(self) -> int:
        """Images of one process in a step."""
        return self.cfg.train_dataloader.batch_size

    @property
    def epochs(self) -> str:
        """How long it trains, in words."""
        loop = self.cfg.train_cfg
        if 'max_epochs' in loop:
            return f'{loop.max_epochs} epochs'
        return f'{loop.max_iters} iterations'


def _checkpoints(cfg: Config) -> list[tuple[str, str]]:
    """Dotted keys of what is loaded, and from where."""
    said = cfg.to_dict()
    parts = {k: said[k] for k in ('model', 'load_from') if said.get(k)}
    return [(key, text) for key, text in strings(parts)
            if text.endswith(('.pth', '.pt',
                              '.ckpt')) or text.startswith('torchvision://')]


@dataclass(frozen=True)
class Settings:
    """What holds for all runs.

    Args:
        root (Path): The checkout.
        data_root (str | None): In place of ``data/``.
        sample (Path | None): Folder of small sets, to try the path.
        images (int): Of each small set.
        seed (int): Of the trainings.
        options (dict): Keys to override.
    """
    root: Path
    data_root: str | None = None
    sample: Path | None = None
    images: int = 8
    seed: int = 0
    options: dict = field(default_factory=dict)

    def config(self, entry: FullConfig) -> tuple[Config, str]:
        """A config as it runs, and its data in words."""
        cfg = Config.fromfile(self.root / entry.config)
        move_data(cfg, self.data_root)
        data = entry.data
        if self.sample:
            try:
                data = shrink(cfg, self.sample, self.images)
            except ValueError as error:
                raise ValueError(f'{entry.stem}: {error}') from error
        cfg.merge_from_dict({'randomness': dict(seed=self.seed)})
        cfg.merge_from_dict(self.options)
        return cfg, data


def find(names: list[str], methods: list[str], root: Path) -> list[FullConfig]:
    """The configs that someone asked for.

    Args:
        names (list[str]): Paths or base names.
        methods (list[str]): Folders in ``configs``.
        root (Path): The checkout.

    Raises:
        ValueError: If there is no such full-size config or method.
    """
    catalogue = read_catalogue(root)
    folders = {e.folder for e in catalogue.values()}
    if unknown := [m for m in methods if m not in folders]:
        raise ValueError(f'no full-size config of {", ".join(unknown)}; '
                         f'methods: {", ".join(sorted(folders))}')
    chosen = {}
    for name in names:
        stem = Path(name).name.removesuffix('.py')
        if stem not in catalogue:
            raise ValueError(
                f'{name} is no full-size config in a metafile of configs/ '
                '(those for the mini data are run by mini.py)')
        chosen[stem] = catalogue[stem]
    chosen |= {k: e for k, e in catalogue.items() if e.folder in methods}
    return list(chosen.values())


def plan(entries: list[FullConfig], settings: Settings) -> list[Run]:
    """All runs, those that others start from first.

    Args:
        entries (list[FullConfig]): What was asked for.
        settings (Settings): Of all runs.
    """
    catalogue = read_catalogue(settings.root)
    runs: dict[str, Run] = {}

    def add(entry: FullConfig) -> Run:
        if entry.stem in runs:
            return runs[entry.stem]
        cfg, data = settings.config(entry)
        run = Run(entry, cfg, data=data)
        for key, text in _checkpoints(cfg):
            stage = _STAGE.fullmatch(text)
            if stage and stage[1] in catalogue:
                run.after[key] = add(catalogue[stage[1]])
            elif '://' in text:
                run.downloads.append(text)
            elif not Path(text).is_file():
                run.missing.append(f'{key}: {text} does not exist; see '
                                   f'configs/{entry.folder}/README.md')
        run.missing += problems(cfg)
        runs[entry.stem] = run
        return run

    for entry in entries:
        add(entry)
    return list(runs.values())
