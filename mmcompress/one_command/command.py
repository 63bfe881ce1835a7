"""``tools/compress.py``: from a user's model to a smaller one in one call."""
import dataclasses
import datetime
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.timing import machine
from mmcompress.model.config import read_config
from mmcompress.model.data import dataset_of, place_of
from mmcompress.quantization.post_training import Report
from mmcompress.results import (Record, measure_forms, render,
                                side_by_side_picture, table, write_record)
from mmcompress.results.metrics import describe, main_metric
from mmcompress.results.record import config_hash
from mmcompress.results.subjects import PARTS
from mmcompress.results.versions import versions
from .options import Options
from .plan import Plan, make_plan
from .remarks import remarks
from .stages import Stages
from .state import State, contents
from .written import model_config


def compress(config: str,
             checkpoint: str,
             distill_from: Sequence[str] | None = None,
             bits: str | int | None = None,
             tokens: int | None = None,
             prune: float | None = None,
             recipe: str | None = None,
             train: bool = False,
             epochs: int | None = None,
             export: str | None = None,
             work_dir: str | None = None,
             dry_run: bool = False,
             images: int = 64,
             exclude: Sequence[str] = (),
             keep_slow: bool = False,
             control: str = 'auto',
             metric: bool = True,
             seed: int = 0,
             device: str = 'cpu',
             cfg_options: dict[str, Any] | None = None) -> Record | None:
    """Compress a trained model of any mm library.

    Args:
        config (str): Of the trained model; a path, or
            ``'mmdet::folder/name.py'``.
        checkpoint (str): Its weights, file or URL.
        distill_from (Sequence[str] | None): Config and checkpoint of a
            teacher; the model is trained with it.
        bits (str | None): ``'8'``, ``'w4a8'``, ``'w4a4'``, ``'ternary'`` or
            ``'1'``: of weights and activations. The last two need training.
        tokens (int | None): How many tokens of a vision transformer are
            merged in each layer.
        prune (float | None): Share of the channels, or of the units of
            attentions and feed-forward networks, that goes.
        recipe (str | None): Of the distillation, by name; by default the one
            that is recommended for this kind of network.
        train (bool): Train the compressed model on the config's data.
        epochs (int | None): How long; by default a budget by the size of the
            data. Implies ``train``.
        export (str | None): ``'onnx'``, to write such a file as well.
        work_dir (str | None): Where results go; by default
            ``work_dirs/NAME``. The same call goes on where it was stopped.
        dry_run (bool): Say what would be done, how large the result would
            be and what would be written, and stop.
        images (int): Of the training data, for the scales.
        exclude (Sequence[str]): Modules that stay float: names or patterns.
        keep_slow (bool): Keep layers low-bit that are slower so.
        control (str): Whether the student is also trained without its
            teacher, to compare with: ``'yes'``, ``'no'``, or ``'auto'``, if
            that takes minutes.
        metric (bool): Whether models are tested.
        seed (int): Of trainings.
        device (str): Where it computes; training takes what is there.
        cfg_options (dict | None): Keys of the config to override.

    Returns:
        Record | None: What was measured, as it stands in ``record.json``;
        None after a dry run.

    Raises:
        Refused: If it can't be done; says why, and what can.
        TrainingFailed: If the training stops with an error.
    """
    options = Options(
        config=str(config),
        checkpoint=str(checkpoint),
        distill_from=distill_from and tuple(map(str, distill_from)),
        bits=None if bits is None else str(bits),
        tokens=tokens,
        prune=prune,
        recipe=recipe,
        train=train,
        epochs=epochs,
        export=export,
        work_dir=work_dir and str(work_dir),
        dry_run=dry_run,
        images=images,
        exclude=list(exclude),
        keep_slow=keep_slow,
        control=control,
        metric=metric,
        seed=seed,
        device=device,
        cfg_options=dict(cfg_options or {}))
    start = time.time()
    # tables of steps, warnings of mm libraries: what counts is said here
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    plan = make_plan(options)
    scope = plan.cfg.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        if dry_run:
            _dry_run(plan)
            return None
        return _run(plan, start)


def _dry_run(plan: Plan) -> None:
    """Say what would be done; nothing is left on disk."""
    options = plan.options
    say = Report()
    say(plan.describe())
    with tempfile.TemporaryDirectory() as folder:
        there = plan.folder
        plan.folder = Path(folder)
        stages = Stages(plan, State(plan.folder, plan.options), say)
        stages.prune()
        stages.write_config(probe=False)
        say(stages.sizes())
        steps = stages.steps(options.exclude)
    plan.folder = there
    base = options.config
    if options.cfg_options:
        base = f'{plan.name}_base.py'
    elif '::' not in base:
        base = os.path.relpath(base, there)
    text = model_config(plan, steps, base)
    say(f'\n{there / plan.name}.py would be:\n{text}')


def _run(plan: Plan, start: float) -> Record:
    holds = contents(plan.options, plan.cfg, plan.teacher)
    state = State(plan.folder, plan.options, holds)
    say = Report()
    say(plan.describe())
    stages = Stages(plan, state, say)
    for stage in (stages.prune, stages.write_config, stages.calibrate,
                  stages.train, stages.pack, stages.export):
        stage()
    record = _measure(plan, stages, start, say)
    folder = plan.folder
    write_record(record, folder / 'record.json')
    subjects = stages.subjects()
    # a file of onnxruntime predicts what its model does
    last = [s for s in subjects if s.onnx is None][-1]
    side_by_side_picture([subjects[0], last],
                         folder / 'picture.png',
                         forms=[
                             f for f in record.forms
                             if f.name in (subjects[0].name, last.name)
                         ],
                         metric=record.metric)
    say(table(record))
    (folder / 'log.txt').write_text(say.text)
    render([record], folder, plan=plan.describe().splitlines())
    print(f'Written to {folder}: {plan.name}.py, {plan.name}.pth, '
          'record.json, report.md, report.html, picture.png'
          f'{", packed.py, packed.pth" * ("pack" in state)}'
          f'{", model.onnx" * (subjects[-1].onnx is not None)}')
    return record


def _measure(plan: Plan, stages: Stages, start: float, say: Report) -> Record:
    """What the table shows."""
    options = plan.options
    said = stages.remarks()
    forms = measure_forms(
        stages.subjects(),
        metric=options.metric,
        device=options.device,
        remark=said.append)
    metric = main_metric(forms[0].metrics)
    record = Record(
        kind='compress',
        task=plan.family.task,
        model=Path(options.config.rpartition('::')[2]).stem,
        methods=stages.methods(),
        config=options.config,
        config_hash=config_hash(
            read_config(str(plan.folder / f'{plan.name}.py'))),
        forms=forms,
        seed=options.seed,
        metric=metric,
        higher_is_better=describe(metric).higher_is_better,
        data=place_of(
            dataset_of(plan.cfg, [f'{p}_dataloader'
                                  for p in PARTS])) if metric else '',
        machine=machine(options.device),
        versions=versions(),
        date=datetime.date.today().isoformat(),
        seconds=round(time.time() - start, 1),
        settings={
            key: value
            for key, value in options.asked().items()
            if key not in ('config', 'checkpoint')
        },
        remarks=said)
    return dataclasses.replace(
        record, remarks=[*record.remarks, *remarks(record, options)])
