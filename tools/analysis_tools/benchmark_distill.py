"""Time a training step with ``Distill`` against the sum of its parts.

A step that learns from a teacher has to do three things: the student's own
step (forward, backward, optimizer), the teacher's forward up to the last
tapped module, and the distillation losses (forward, and backward down to what
the student's taps gave). What the whole step takes on top of that is the
price of the mechanism. All four are timed in turn in every round, because the
speed of a machine drifts.
"""
import argparse
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.timing import (device_clock, interleaved, machine,
                                        median_interval)
from mmcompress.distill.taps import tensors_of
from mmcompress.launch import add_device
from mmcompress.model.checkpoint import plain_weights
from mmcompress.model.config import without_downloads
from mmcompress.model.inputs import made_up_batch
from mmcompress.tables import format_table

CONFIG = Path(__file__).resolve().parents[2].joinpath(
    'configs', 'fgd', 'fgd_retinanet_r50_x101_fpn_2x_coco.py')
TEACHER = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
# what the price of the mechanism may be
LIMIT = 1.05


def ratios(seconds: dict[str, list[float]]) -> list[float]:
    """Whole step over the sum of the other parts, for each round."""
    return [
        whole / sum(parts) for whole, *parts in zip(
            seconds['step with Distill'],
            *(seconds[name] for name in seconds
              if name != 'step with Distill'))
    ]


def build(cfg: Config, config_dir: str) -> tuple[nn.Module, nn.Module]:
    """The model with its teacher, and the same student without."""
    models = []
    for model_cfg in (cfg.model, cfg.model.student):
        model = MODELS.build(model_cfg)
        without_downloads(model)
        models.append(model)
    distilled, plain = models
    distilled.distill.teacher.config_dir = config_dir
    distilled.init_weights()
    plain.load_state_dict(plain_weights(distilled.state_dict()))
    return distilled.train(), plain.train()


def training_step(model: nn.Module, cfg: Config, batch: dict) -> Callable:
    """One step as mmengine does it: forward, backward, optimizer."""
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for group in optim_wrapper.param_groups:
        # the work of a step, but always from the same weights
        group['lr'] = 0.0

    def step() -> None:
        with optim_wrapper.optim_context(model):
            losses = model(**batch, mode='loss')
        optim_wrapper.update_params(model.parse_losses(losses)[0])

    return step


def losses_alone(model: nn.Module, batch: dict) -> Callable:
    """Forward and backward of the distillation losses on stored features."""
    distiller = model.distill
    distiller.prepare()
    with torch.no_grad():
        seen = {'teacher': distiller.teacher(**batch)}
        with distiller.taps.record(model) as calls:
            type(model).loss(model, batch['inputs'], batch['data_samples'])
        seen['student'] = distiller.taps.select(calls)
    leaves = tensors_of(seen['student'])
    for leaf in leaves:
        leaf.requires_grad_()
    others = dict(
        data_samples=batch['data_samples'],
        student_model=model,
        teacher_model=distiller.teacher.model,
        progress=0.0)

    def losses() -> None:
        entries = {}
        for slot in distiller._slots:
            tapped = {side: seen[side].get(slot.name) for side in seen}
            entries.update(slot.run({**tapped, **others}))
        model.parse_losses(entries)[0].backward()
        for tensor in (*leaves, *distiller.parameters()):
            tensor.grad = None

    return losses


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument(
        'config',
        nargs='?',
        help='a distillation config; by default FGD, RetinaNet R-50 taught '
        'by RetinaNet R-50')
    parser.add_argument(
        '--size', type=int, nargs=2, default=[256, 256], metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=15)
    add_device(parser)
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args()


def main() -> int:
    """Measure, print, and tell by the exit code whether the limit holds."""
    args = parse_args()
    MMLogger.get_instance('mmengine', log_level='ERROR')
    path = Path(args.config or CONFIG)
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({
        # random weights take as long
        'model.teacher.checkpoint':
        None,
        'model.teacher.allow_random':
        True,
        **({} if args.config else {
               'model.teacher.cfg': TEACHER
           }),
        **args.cfg_options
    })
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        distilled, plain = build(cfg, str(path.resolve().parent))
        batch = made_up_batch(plain, cfg.default_scope, args.size, args.batch)
        for model in (distilled, plain):
            model.to(args.device)
        batch = distilled.data_preprocessor.cast_data(batch)
        parts = {
            'step with Distill': training_step(distilled, cfg, batch),
            "student's own step": training_step(plain, cfg, batch),
            "teacher's forward": lambda: distilled.distill.teacher(**batch),
            'losses alone': losses_alone(distilled, batch)
        }
        seconds = interleaved(
            parts, args.rounds, clock=device_clock(args.device))
    print(
        format_table(
            f'{path.stem}, {args.batch} images of {args.size[0]} x '
            f'{args.size[1]}, {args.rounds} rounds on {machine(args.device)}',
            ['part', 'median ms', 'fastest', 'slowest'],
            [[name, *(f'{1000 * f(values):.1f}'
                      for f in (statistics.median, min, max))]
             for name, values in seconds.items()]))  # yapf: disable
    if isinstance(cfg.model.teacher.cfg, str):
        print(f'teacher: {cfg.model.teacher.cfg}, random weights')
    values = ratios(seconds)
    low, high = median_interval(values)
    print(f'ratio of a step to the sum of the parts: median '
          f'{statistics.median(values):.3f}, 95 % interval [{low:.3f}, '
          f'{high:.3f}], limit {LIMIT}: {"ok" if low <= LIMIT else "FAIL"}')
    return int(low > LIMIT)


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        raise SystemExit(main())
