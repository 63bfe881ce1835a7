"""What is going to be done to a model, decided before anything is computed."""
from dataclasses import dataclass
from pathlib import Path

import torch.nn as nn
from mmengine.config import Config

from mmcompress.analysis.subject import load_weights
from mmcompress.data_paths import check_data_paths
from mmcompress.lowbit import LowBitModule
from mmcompress.model.config import (build_untrained, inner_model, read_config,
                                     teacher_of)
from mmcompress.pruning.units import find_units
from mmcompress.registry import STEPS
from .distillation import Distillation, distillation
from .families import Family, find_family
from .low_bit import LowBit, steps_for_bits
from .options import Options, Refused
from .schedule import Budget, budget

# 1-bit and ternary layers begin far from what they were
_ANEW = ('1', 'ternary')


def _by_reason(stays_float: dict[str, str]) -> list[str]:
    """What stays float, a line for each reason."""
    names: dict[str, list[str]] = {}
    for name, reason in stays_float.items():
        names.setdefault(reason, []).append(name)
    return [
        f'  stays float: {", ".join(found)} ({reason})'
        for reason, found in names.items()
    ]


@dataclass
class Plan:
    """What is going to be done.

    Attributes:
        options (Options): What is asked for.
        cfg (Config): The user's config.
        folder (Path): Of the run.
        name (str): Of the result's files, without suffix.
        family (Family): Of the architecture.
        model (nn.Module): The user's model, with its weights.
        meta (dict): Of its checkpoint.
        low_bit (LowBit | None): What ``--bits`` means for it.
        units (bool): Whether pruning removes units of attentions and
            feed-forward networks; else channels of convolutions.
        distillation (Distillation | None): Losses and their taps.
        teacher (Config | None): The teacher's config.
        budget (Budget | None): Of the training.
    """
    options: Options
    cfg: Config
    folder: Path
    name: str
    family: Family
    model: nn.Module
    meta: dict
    low_bit: LowBit | None = None
    units: bool = False
    distillation: Distillation | None = None
    teacher: Config | None = None
    budget: Budget | None = None

    def token_steps(self) -> list[dict]:
        """The step that merges tokens, if any are merged."""
        if not self.options.tokens:
            return []
        return [dict(type='mmcompress.MergeTokens', r=self.options.tokens)]

    def describe(self) -> str:
        """The plan in words, a line for each thing that is done."""
        lines = [
            f'{self.options.config}: {type(self.model).__name__}, '
            f'treated as: {self.family.name} ({self.family.task})'
        ]
        lines += self._structure()
        if self.low_bit:
            lines.append(f'bits: {self.low_bit.label}')
            lines += _by_reason(self.low_bit.stays_float)
        if self.distillation:
            lines.append(f'teacher: {self.options.distill_from[0]}, recipe '
                         f'{self.distillation.recipe}: '
                         f'{self.distillation.why}')
        if self.budget:
            lines.append(f'training: {self.budget}')
        elif self.options.calibrates:
            lines.append('no training: scales from '
                         f'{self.options.images} training images (--train '
                         'trains on from there)')
        if self.options.export:
            lines.append(f'export: {self.options.export}')
        lines.append(f'results: {self.folder}/{self.name}.*')
        return '\n'.join(lines)

    def _structure(self) -> list[str]:
        lines = []
        if self.options.prune:
            what = ('units of attentions and feed-forward networks'
                    if self.units else 'channels of convolutions')
            lines.append(f'prune: {100 * self.options.prune:.0f} % of the '
                         f'{what}, those of least magnitude')
        if self.options.tokens:
            lines.append(f'tokens: {self.options.tokens} merged in each layer')
        return lines


def _refuse_compressed(options: Options, model: nn.Module,
                       cfg: Config) -> None:
    if str(cfg.model.get('type')).endswith('Packed'):
        raise Refused(f'{options.config} is of a packed model, which is for '
                      'inference only; give the config and checkpoint that '
                      'it was packed from')
    if options.distill_from and teacher_of(cfg.model):
        raise Refused(f'{options.config} has a teacher already; give the '
                      "config of the student's own model to --distill-from "
                      'another one')
    low = [n for n, m in model.named_modules() if isinstance(m, LowBitModule)]
    if options.bits and low:
        raise Refused(f'{options.config} is of a low-bit model already (as '
                      f'{low[0]} is): --bits takes the float one')
    _, steps = inner_model(cfg.model)
    if options.tokens and any(
            str(s.get('type')).endswith('MergeTokens') for s in steps):
        raise Refused(f'{options.config} merges tokens already: change `r` '
                      'there, or give the config without it')


def _mostly_units(model: nn.Module) -> bool:
    """Whether most weights are of attentions and feed-forward networks."""
    inside = sum(u.num * u.parameters_per_unit(model)
                 for u in find_units(model))
    return inside > sum(p.numel() for p in model.parameters()) / 2


def _merges(model: nn.Module, options: Options) -> None:
    """Try the step that merges tokens, on a copy.

    Raises:
        Refused: With the reason, if the model is not one that can.
    """
    step = dict(type='mmcompress.MergeTokens', r=options.tokens)
    try:
        STEPS.build(step)(model)
    except (ValueError, TypeError) as error:
        raise Refused(f'--tokens {options.tokens}: {error}') from error


def _name(options: Options, low_bit: LowBit | None,
          recipe: Distillation | None) -> str:
    parts = [Path(options.config.rpartition('::')[2]).stem]
    if options.prune:
        parts.append(f'p{round(100 * options.prune)}')
    if options.tokens:
        parts.append(f'r{options.tokens}')
    if low_bit:
        parts.append(low_bit.label.partition(' ')[0])
    if recipe:
        parts.append(recipe.recipe)
    if len(parts) == 1:
        parts.append('tuned' if options.trains else 'exported')
    return '_'.join(parts)


def _teacher(options: Options) -> tuple[Config, nn.Module]:
    config, checkpoint = options.distill_from
    cfg = read_config(config, key='--distill-from')
    if 'default_scope' not in cfg:
        raise Refused(f'--distill-from: {config} has no `default_scope`, so '
                      'it is unknown which library it is of')
    model = build_untrained(cfg)
    load_weights(model, checkpoint)
    model.eval()
    return cfg, model


def make_plan(options: Options) -> Plan:
    """Read the model, and decide what is done to it.

    Args:
        options (Options): What is asked for.

    Raises:
        Refused: If it can't be done; says why, and what can.
    """
    try:
        return _make_plan(options)
    except (ValueError, OSError, RuntimeError) as error:
        # of configs, checkpoints, data and steps, in words
        raise Refused(str(error)) from error


def _check_data(cfg: Config, options: Options) -> None:
    """Look for the data before minutes are spent."""
    needed = ['test_dataloader'] if options.bits or options.prune else []
    needed += ['val_dataloader'] if options.metric else []
    if options.trains or options.calibrates:
        needed.append('train_dataloader')
    check_data_paths(cfg, needed)


def _make_plan(options: Options) -> Plan:
    cfg = read_config(options.config, options.cfg_options)
    if 'default_scope' not in cfg:
        raise Refused(f'{options.config} has no `default_scope`, so it is '
                      'unknown which library it is of (mmdet, mmpose, '
                      'mmpretrain, mmseg)')
    _check_data(cfg, options)
    # of what a search or a teacher adds, the model alone is meant
    model = build_untrained(cfg)
    meta = load_weights(model, options.checkpoint).get('meta', {})
    model.eval()
    _refuse_compressed(options, model, cfg)
    family = find_family(cfg, model)
    low_bit = recipe = teacher = None
    if options.bits:
        low_bit = steps_for_bits(family, options.bits, model, options.exclude,
                                 options.export == 'onnx')
    if options.distill_from:
        teacher, teacher_model = _teacher(options)
        recipe = distillation(family, options.recipe, cfg, model, teacher,
                              teacher_model)
    length = None
    if options.trains:
        learns = 'layers learn anew' if options.bits in _ANEW else (
            'a student learns as long as alone' if recipe else '')
        length = budget(cfg, bool(learns), options.epochs, learns)
    name = _name(options, low_bit, recipe)
    folder = Path(options.work_dir or f'work_dirs/{name}')
    plan = Plan(options, cfg, folder, name, family, model, meta, low_bit,
                bool(options.prune) and _mostly_units(model), recipe, teacher,
                length)
    if options.tokens:
        _merges(build_untrained(cfg), options)
    return plan
