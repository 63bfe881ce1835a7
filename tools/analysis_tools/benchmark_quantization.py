"""Time a training step of a quantized model against that of the float one.

Forward and backward of the network, without losses and optimizer, eager and
compiled by ``torch.compile``. All are timed in turn in every round, because
the speed of a machine drifts. Breaks of the compiled graph are counted: each
is a piece of Python between two compiled ones.
"""
import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.timing import (device_clock, interleaved, machine,
                                        median_interval)
from mmcompress.distill.taps import tensors_of
from mmcompress.launch import add_device
from mmcompress.model.config import without_downloads
from mmcompress.model.inputs import made_up_batch
from mmcompress.tables import format_table

ROOT = Path(__file__).resolve().parents[2]
# the mini DeiT, with 8 bits inside attention
CONFIG = ROOT / 'configs' / 'lsq' / 'lsq_deit_w4_a4_mini.py'
OPTIONS = {'model.steps.0.attention.bits': 8}


def build(cfg: Config) -> dict[str, nn.Module]:
    """The float model and the quantized one, in training."""
    models = {}
    for name, model_cfg in (('float', cfg.model.model), ('quantized',
                                                         cfg.model)):
        if 'data_preprocessor' in cfg:
            model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
        model = MODELS.build(model_cfg)
        without_downloads(model)
        model.init_weights()
        models[name] = model.train()
    return models


def training_step(model: nn.Module, forward: Callable,
                  inputs: torch.Tensor) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        outputs = tensors_of(forward(inputs, mode='tensor'))
        sum(output.sum() for output in outputs).backward()
        model.zero_grad()

    return step


def num_graph_breaks(model: nn.Module, inputs: torch.Tensor) -> int:
    """Where ``torch.compile`` goes back to Python."""
    return torch._dynamo.explain(model)(
        inputs, mode='tensor').graph_break_count


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument(
        'config',
        nargs='?',
        help='a config of Compress with QuantizeLayers; by default LSQ of the '
        'mini DeiT, W4A4 with 8 bits inside attention')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--rounds', type=int, default=25)
    add_device(parser)
    parser.add_argument(
        '--eager', action='store_true', help="don't compile, which is slow")
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_args()
    MMLogger.get_instance('mmengine', log_level='ERROR')
    # both models call functions of the libraries, each in many ways
    torch._dynamo.config.cache_size_limit = 256
    cfg = Config.fromfile(args.config or CONFIG)
    cfg.merge_from_dict({
        **({} if args.config else OPTIONS),
        **args.cfg_options
    })
    parts, breaks = {}, {}
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for name, model in build(cfg).items():
            batch = made_up_batch(model, cfg.default_scope, args.size,
                                  args.batch)
            model.to(args.device)
            batch = model.data_preprocessor(batch, True)
            parts[f'eager {name}'] = training_step(model, model,
                                                   batch['inputs'])
            # scales begin here, so that what is compiled has them
            parts[f'eager {name}']()
            if not args.eager:
                breaks[name] = num_graph_breaks(model, batch['inputs'])
                parts[f'compiled {name}'] = training_step(
                    model, torch.compile(model), batch['inputs'])
        # what others do on the machine is not counted
        clock = time.process_time if args.device == 'cpu' else device_clock(
            args.device)
        seconds = interleaved(parts, args.rounds, clock=clock)
    report(seconds, breaks, args)


def report(seconds: dict[str, list[float]], breaks: dict[str, int],
           args: argparse.Namespace) -> None:
    """Print the medians, the ratios and how often graphs break."""
    rows = []
    for mode in dict.fromkeys(name.split()[0] for name in seconds):
        plain, quantized = (
            seconds[f'{mode} {kind}'] for kind in ('float', 'quantized'))
        ratios = [q / f for q, f in zip(quantized, plain)]
        low, high = median_interval(ratios)
        rows.append([
            mode, *(f'{1000 * statistics.median(x):.1f}'
                    for x in (plain, quantized)),
            f'{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})'
        ])
    print(
        format_table(f'{args.batch} images, {machine(args.device)}',
                     ['step', 'float, ms', 'quantized, ms', 'ratio (95 %)'],
                     rows))
    for name, count in breaks.items():
        print(f'Graph breaks, {name}: {count}')


if __name__ == '__main__':
    main()
