"""From a checkpoint to that of a smaller model, and its config."""
import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import Tensor

from mmcompress.analysis.complexity import complexity, total
from mmcompress.analysis.subject import load_weights
from mmcompress.atomic import replacing
from mmcompress.data_paths import check_data_paths
from mmcompress.deploy.file.convert import test_batches
from mmcompress.model.checkpoint import fill
from mmcompress.model.config import build_model, read_config
from mmcompress.model.config_text import base_of
from mmcompress.model.inputs import noise_batch
from mmcompress.model.loader import build_loader
from mmcompress.model.plain_file import plain_content
from mmcompress.tables import format_table
from mmcompress.version import __version__
from .channel_pruning import prune_channels
from .cutting import cut, known_units, mask
from .masks import masks_of
from .one_shot import choose_counts, choose_share, round_up, with_copies
from .pruned_config import config_text, dense_parts, with_pruning
from .units import find_units
from .verify import check_channels, check_units


@dataclass
class Choice:
    """What decides which units stay.

    Attributes:
        ratio (float | None): Share of the parameters of all units that goes,
            by magnitude.
        units (dict[str, int] | None): How many stay, the largest ones.
        round_to (int): Numbers are rounded up to multiples of it.
        channels (dict | None): Channels of convolutions go instead: ``ratio``
            and other arguments of :func:`prune_channels`.
        train_batches (int): Batches of the training data for them, where the
            criterion looks at gradients.
    """
    ratio: float | None = None
    units: dict[str, int] | None = None
    round_to: int = 1
    channels: dict | None = None
    train_batches: int = 8

    def check(self) -> None:
        """Raise a ``ValueError`` on what isn't allowed."""
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ValueError('ratio is the share of the parameters that goes, '
                             f'between 0 and 1, got {self.ratio}')
        if self.ratio is not None and self.units is not None:
            raise ValueError('give a ratio or numbers of units, not both')
        if self.round_to < 1:
            raise ValueError('round_to must be at least 1, got '
                             f'{self.round_to}')
        if self.channels and (self.ratio, self.units) != (None, None):
            raise ValueError('channels of convolutions and units of '
                             'attentions are pruned one after the other: give '
                             'one of the two, and the written config to '
                             'another run')
        if self.train_batches < 1:
            raise ValueError("'taylor' needs at least one batch of the "
                             f'training data, got {self.train_batches}')


def _searched(masks: dict[str, Tensor], checkpoint: str) -> dict[str, Tensor]:
    """What a search left.

    Raises:
        ValueError: If it is not at its end, or has not begun.
    """
    between = [n for n, m in masks.items() if ((m != 0) & (m != 1)).any()]
    if between:
        raise ValueError(
            f'{checkpoint}: masks of {between[0]} are between 0 and 1: the '
            'search was not at its end. Take its last checkpoint')
    if all(m.all() for m in masks.values()):
        raise ValueError(
            f'{checkpoint} has no mask that is 0: it is not of a search, or '
            'of its beginning. Train with mmcompress.UPopHook, or give a '
            'ratio to prune at once')
    return {name: m.nonzero().flatten().cpu() for name, m in masks.items()}


def _refuse_searched(masks: dict[str, Tensor], checkpoint: str) -> None:
    """Units that a search masks would come back.

    Raises:
        ValueError: If masks are not 1.
    """
    if not all((m == 1).all() for m in masks.values()):
        raise ValueError(
            f'{checkpoint} is of a search, whose masks say what stays: leave '
            '--ratio, --units and --channels out, and give them to another '
            'run, with the config that this one writes. To compare with '
            'pruning at once, prune the dense model')


def _choose(choice: Choice, masks: dict[str, Tensor], dense: nn.Module,
            checkpoint: str) -> dict[str, Tensor]:
    """The units that stay."""
    if (choice.ratio, choice.units) != (None, None):
        _refuse_searched(masks, checkpoint)
    if choice.units is not None:
        groups = known_units(dense, list(choice.units))
        for name, num in choice.units.items():
            if not 1 <= num <= groups[name].num:
                raise ValueError(f'{name} has {groups[name].num} units, of '
                                 f'which at least 1 stays, got {num}')
        kept = choose_counts(dense, choice.units)
    elif choice.ratio is not None:
        if not find_units(dense):
            known_units(dense, [''])
        kept = choose_share(dense, choice.ratio)
    elif masks:
        kept = _searched(masks, checkpoint)
    else:
        raise ValueError('the config has no search, whose masks say what '
                         'stays: give --ratio or --units to prune by '
                         'magnitude')
    if choice.round_to > 1:
        kept = round_up(dense, kept, choice.round_to)
    return with_copies(dense, kept)


def _build(cfg: Config, model: dict, steps: list[dict]) -> nn.Module:
    if steps:
        model = dict(type='mmcompress.Compress', model=model, steps=steps)
    built = build_model(Config({**cfg.to_dict(), 'model': model}))
    # not chained: train() of some backbones in mm libraries returns None
    built.eval()
    return built


@dataclass
class _Pruned:
    """What pruning a checkpoint gives.

    Attributes:
        dense (nn.Module): The model before.
        reference (nn.Module): It, with masks.
        pruned (nn.Module): As the new config builds it, with its weights.
        steps (list[dict]): Of the new config.
        kept (dict[str, Tensor]): Units that stay, by the name of the group.
        what (str): They are: ``'units'`` or ``'channels'``.
        meta (dict): Of the checkpoint.
    """
    dense: nn.Module
    reference: nn.Module
    pruned: nn.Module
    steps: list[dict]
    kept: dict[str, Tensor]
    what: str
    meta: dict


def _prune(cfg: Config, checkpoint: str, choice: Choice) -> _Pruned:
    """Choose units, and remove the others."""
    searched = build_model(cfg)
    searched.eval()
    meta = load_weights(searched, checkpoint).get('meta', {})
    model, steps = dense_parts(cfg)
    dense = _build(cfg, model, steps)
    load_weights(dense, checkpoint)
    masks = masks_of(searched)
    kept = _choose(choice, masks, dense, checkpoint)
    reference = searched
    if not masks or choice != Choice():
        reference = copy.deepcopy(dense)
        mask(reference, kept)
    whole = copy.deepcopy(dense)
    cut(whole, kept)
    counts = {name: len(units) for name, units in kept.items()}
    steps = with_pruning(steps, 'KeepUnits', 'units', counts)
    # by way of what is going to be written
    pruned = _build(cfg, model, steps)
    fill(pruned, whole.state_dict())
    return _Pruned(dense, reference, pruned, steps, kept, 'units', meta)


def _train_batches(cfg: Config, num: int) -> list:
    """Some batches that a config trains on."""
    loader = cfg.get('train_dataloader')
    if loader is None:
        raise ValueError("the config has no `train_dataloader`, on whose "
                         "images criterion='taylor' looks at gradients")
    check_data_paths(cfg, ['train_dataloader'])
    loader = copy.deepcopy(loader)
    loader.update(num_workers=0, persistent_workers=False)
    return list(islice(build_loader(cfg, loader), num))


def _prune_channels(cfg: Config, checkpoint: str, choice: Choice) -> _Pruned:
    """Choose channels of convolutions, and remove the others."""
    searched = build_model(cfg)
    load_weights(searched, checkpoint)
    _refuse_searched(masks_of(searched), checkpoint)
    model, steps = dense_parts(cfg)
    dense = _build(cfg, model, steps)
    meta = load_weights(dense, checkpoint).get('meta', {})
    batches = []
    if choice.channels.get('criterion') == 'taylor':
        batches = _train_batches(cfg, choice.train_batches)
    found = prune_channels(
        dense,
        noise_batch(cfg, dense, num=2),
        batches=batches,
        round_to=choice.round_to,
        **choice.channels)
    print_log(found.table(), 'current')
    steps = with_pruning(steps, 'KeepChannels', 'channels', found.channels)
    pruned = _build(cfg, model, steps)
    fill(pruned, found.model.state_dict())
    return _Pruned(dense, found.masked, pruned, steps, found.kept, 'channels',
                   meta)


def _compare(found: _Pruned, batches: list) -> tuple[str, float]:
    """What differs most from the masked model, and by how much."""
    models = found.reference, found.pruned
    if found.what == 'channels':
        return check_channels(*models, batches)
    groups = known_units(found.dense, list(found.kept))
    return check_units(*models, [g.module for g in groups.values()], batches)


def _sizes(cfg: Config, dense: nn.Module, pruned: nn.Module) -> str:
    rows = []
    costs = [
        total(complexity(model, noise_batch(cfg, model)))
        for model in (dense, pruned)
    ]
    for what, unit, key in (('parameters', 1e6, 'params'),
                            ('multiply-accumulates', 1e9, 'macs')):
        before, after = (getattr(cost, key) for cost in costs)
        rows.append([
            f'{what}, {"M" if unit == 1e6 else "G"}', f'{before / unit:.3f}',
            f'{after / unit:.3f}', f'{100 * after / before:.1f}'
        ])
    return format_table('Size', ['', 'dense', 'pruned', '% left'], rows)


def _write(out: Path, found: _Pruned, text: str) -> None:
    kept = {name: units.tolist() for name, units in found.kept.items()}
    content = plain_content(
        found.pruned,
        found.meta,
        mmcompress_version=__version__,
        **{f'kept_{found.what}': kept})
    with replacing(out) as weights, \
            replacing(out.with_suffix('.py')) as config:
        torch.save(content, weights)
        config.write_text(text)


def prune_file(config: str,
               checkpoint: str,
               out: str,
               choice: Choice,
               num_batches: int = 2,
               options: dict | None = None) -> None:
    """Prune a checkpoint, verify, write, and log what became of it.

    Args:
        config (str): Of the dense model, or of a search.
        checkpoint (str): Its weights.
        out (str): What to write, ``*.pth``; the config lies beside it.
        choice (Choice): What stays. By default what the search says.
        num_batches (int): Batches of the test data to verify with.
        options (dict | None): Keys of the config to override.

    Raises:
        ValueError: On arguments that aren't allowed.
        VerificationError: If the pruned model doesn't compute what the masked
            one does. Nothing is written.
    """
    choice.check()
    if num_batches < 1:
        raise ValueError('verifying needs at least one batch, got '
                         f'{num_batches}')
    path = Path(out)
    if path.suffix != '.pth':
        raise ValueError(f'the file to write must end with .pth: {out}')
    cfg = read_config(config, options)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        prune = _prune_channels if choice.channels else _prune
        found = prune(cfg, checkpoint, choice)
        batches = test_batches(cfg, num_batches)
        name, difference = _compare(found, batches)
        sizes = _sizes(cfg, found.dense, found.pruned)
    path.parent.mkdir(parents=True, exist_ok=True)
    base = base_of(cfg, config, bool(options), path.parent,
                   f'{path.stem}_dense.py')
    _write(path, found, config_text(cfg, base, path.stem, found.steps))
    print_log(sizes, 'current')
    print_log(
        f'Verified on {len(batches)} batches: the largest difference to the '
        f'masked model is {difference:.2g} of {name}.\n'
        f'Written: {path} and {path.with_suffix(".py")}', 'current')
