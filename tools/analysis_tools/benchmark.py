"""Time a model as float, as it was trained, and packed."""
import argparse
import json
import logging
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib
import mmengine
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData
from mmengine.utils import mkdir_or_exist

import mmcompress.compat  # noqa: F401
from mmcompress import __version__
from mmcompress.analysis.latency import Parts, clock_of, parts_of
from mmcompress.analysis.subject import build_subject
from mmcompress.analysis.throughput import RUNS, side_by_side
from mmcompress.analysis.timing import (device_clock, float_limits,
                                        interleaved, keep_freed_memory,
                                        machine, median_interval)
from mmcompress.deploy.forms import forms
from mmcompress.launch import add_cfg_options, add_device
from mmcompress.model.config import read_config
from mmcompress.model.inputs import noise_batch
from mmcompress.ops import build_info
from mmcompress.tables import format_table

DESCRIPTION = '''Times one forward of a network in its forms, in turn, in one
process: with plain float layers in both memory layouts, as it was trained
(1-bit layers that compute in float), and packed. Images are noise; without a
checkpoint the weights are random. By ToMe's protocol: images per second of a
model that merges tokens, and of the same with all tokens.'''


def _made_up_proposals(model: nn.Module, batch: dict) -> list[InstanceData]:
    """Boxes anywhere, as many as the test keeps of an image."""
    height, width = batch['inputs'].shape[2:]
    number = model.test_cfg.rpn.max_per_img
    proposals = []
    for _ in range(len(batch['inputs'])):
        ends = torch.rand(number, 2, 2) * torch.tensor([width, height])
        boxes = torch.cat([ends.min(1).values, ends.max(1).values], 1)
        proposals.append(
            InstanceData(
                bboxes=boxes.to(batch['inputs']),
                scores=torch.ones(number).to(batch['inputs']),
                labels=torch.zeros(number).to(batch['inputs']).long()))
    return proposals


def share_proposals(models: dict[str, nn.Module], batch: dict,
                    mode: str) -> str | None:
    """Give the second stages of all forms the same boxes.

    A float twin of 1-bit layers computes something else with their weights,
    and so proposes other boxes, or none: its second stage would have other
    work. All forms still search for proposals; what they find is replaced by
    what the model as it was trained finds.

    Args:
        models (dict[str, nn.Module]): By name. Their ``rpn_head.predict`` is
            replaced.
        batch (dict): Preprocessed inputs.
        mode (str): Of the model's forward.

    Returns:
        str | None: Where the boxes come from; None without a second stage.
    """
    source = 'as trained' if 'as trained' in models else next(iter(models))
    model = models[source]
    if not (hasattr(model, 'rpn_head') and hasattr(model, 'roi_head')):
        return None
    found = []

    def keep(*args, **kwargs):
        found.append(search(*args, **kwargs))
        return found[-1]

    search, model.rpn_head.predict = model.rpn_head.predict, keep
    with torch.no_grad():
        model(**batch, mode=mode)
    model.rpn_head.predict = search
    boxes, origin = found[-1], source
    if not sum(map(len, boxes)):
        boxes, origin = _made_up_proposals(model, batch), 'made up'

    def replace(search):

        def predict(*args, **kwargs):
            search(*args, **kwargs)
            return [proposals.clone() for proposals in boxes]

        return predict

    for form in models.values():
        form.rpn_head.predict = replace(form.rpn_head.predict)
    return origin


def measure(models: dict, batch: dict, mode: str, rounds: int,
            clock) -> tuple[dict, dict]:
    """Time forms of a model in interleaved rounds.

    Args:
        models (dict[str, nn.Module]): By name.
        batch (dict): Preprocessed inputs.
        mode (str): Of the model's forward.
        rounds (int): How many measurements of each.
        clock (Callable): Gives seconds.

    Returns:
        tuple[dict, dict]: Seconds of each round by name, and
        :class:`Parts` by name.
    """
    last = dict(batch)
    # point clouds have one layout
    if batch['inputs'].dim() == 4:
        last['inputs'] = batch['inputs'].contiguous(
            memory_format=torch.channels_last)
    parts = {name: Parts(model, clock) for name, model in models.items()}
    calls = {
        name:
        lambda part=part, name=name: part.run(
            last if 'channels last' in name else batch, mode)
        for name, part in parts.items()
    }
    with torch.no_grad():
        seconds = interleaved(calls, rounds, clock=clock)
    for part in parts.values():
        del part.rounds[:-rounds]
    return seconds, parts


def fastest_float(seconds: dict[str, list[float]]) -> str:
    """The memory layout in which floats are faster."""
    names = [name for name in seconds if name.startswith('float')]
    return min(names, key=lambda name: statistics.median(seconds[name]))


def speed_ups(seconds: dict[str, list[float]]) -> dict[str, dict]:
    """How many times as fast as the faster float form each form is.

    Returns:
        dict[str, dict]: By name, median and 95 % interval of the ratios of
        the rounds.
    """
    base = seconds[fastest_float(seconds)]
    result = {}
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(base, values)]
        result[name] = dict(
            median=statistics.median(ratios), interval=median_interval(ratios))
    return result


def report(args: argparse.Namespace, shape: list[int], seconds: dict,
           parts: dict, proposals_from: str | None) -> dict:
    """All that was measured, and on what."""
    info = build_info()
    return dict(
        config=args.config,
        checkpoint=args.checkpoint,
        mode='predict' if args.whole else 'tensor',
        shape=shape,
        threads=args.threads,
        clock=args.clock,
        seed=args.seed,
        rounds=args.rounds,
        keep_memory=args.keep_memory,
        proposals_from=proposals_from,
        machine=machine(args.device),
        kernels=info.get('isa'),
        fp32_limits=float_limits(),
        versions=dict(
            mmcompress=__version__,
            torch=torch.__version__,
            mmengine=mmengine.__version__),
        forms={
            name:
            dict(
                median=statistics.median(values),
                fastest=min(values),
                slowest=max(values),
                speed_up=speed_up,
                parts=parts_of(parts[name].rounds, statistics.median(values)),
                proposals=parts[name].num_boxes)
            for (name, values), speed_up in zip(seconds.items(),
                                                speed_ups(seconds).values())
        })


def _shape(result: dict) -> str:
    return ' x '.join(map(str, result['shape']))


def as_text(result: dict) -> str:
    """Two tables: the forms, and where their time goes."""
    title = (f'{result["config"]}, mode {result["mode"]}, '
             f'{_shape(result)}, {result["rounds"]} rounds, '
             f'{result["clock"]} time\n{result["machine"]}, kernels: '
             f'{result["kernels"]}')
    if result['keep_memory']:
        title += ', freed memory kept'
    for name, value in result['fp32_limits'].items():
        title += f', {name}={value}'
    rows = []
    for name, form in result['forms'].items():
        low, high = form['speed_up']['interval']
        rows.append([
            name, *(f'{1000 * form[key]:.1f}'
                    for key in ('median', 'fastest', 'slowest')),
            f'{form["speed_up"]["median"]:.2f} [{low:.2f}, {high:.2f}]'
        ])
    text = format_table(title, [
        'form', 'median ms', 'fastest', 'slowest',
        'times as fast as the faster float [95 %]'
    ], rows)
    names = list(next(iter(result['forms'].values()))['parts'])
    rows = [[
        name, *(f'{1000 * form["parts"].get(part, 0):.1f}'
                for part in names), form['proposals'] or '-'
    ] for name, form in result['forms'].items()]
    title = 'Where the time is, ms of the median'
    if result['proposals_from']:
        title += (f"; proposals of all forms: {result['proposals_from']}")
    return text + format_table(title, ['form', *names, 'proposals'], rows)


def draw(result: dict, path: Path) -> None:
    """Bars of the medians, split by part, with the fastest round marked."""
    matplotlib.use('agg')
    from matplotlib import pyplot as plt
    forms = result['forms']
    names = list(forms)
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.6 * len(names)))
    left = [0.0] * len(names)
    for part in next(iter(forms.values()))['parts']:
        widths = [1000 * forms[n]['parts'].get(part, 0) for n in names]
        axes.barh(names, widths, left=left, label=part)
        left = [a + b for a, b in zip(left, widths)]
    axes.plot([1000 * forms[n]['fastest'] for n in names],
              names,
              'k|',
              markersize=14,
              label='fastest round')
    for name, end in zip(names, left):
        axes.text(end, name, f' {forms[name]["speed_up"]["median"]:.2f} x',
                  va='center')  # yapf: disable
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(f'ms, median of {result["rounds"]} rounds')
    axes.set_title(
        f'{Path(result["config"]).stem}, {_shape(result)}, '
        f'{result["machine"]}',
        fontsize=10)
    axes.legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120, bbox_inches='tight')
    plt.close(figure)


def by_tome(args: argparse.Namespace, cfg: Config,
            clock: Callable[[], float]) -> str:
    """Images per second beside operations, by ToMe's own protocol."""
    shape, costs = side_by_side(
        cfg,
        args.checkpoint,
        args.shape,
        args.batch,
        args.device,
        clock=clock,
        runs=args.rounds,
        dtype=getattr(torch, args.dtype))
    title = (f'{args.config}, {" x ".join(map(str, shape))}, {args.dtype}, '
             f'{args.rounds} runs, {args.clock} time\n{machine(args.device)}')
    rows = [[name, f'{gmacs:.4g}', f'{speed:.1f}']
            for name, (gmacs, speed) in costs.items()]  # yapf: disable
    text = format_table(title, ['model', 'GMACs', 'images per second'], rows)
    if len(costs) > 1:
        (_, merged), (_, dense) = costs.values()
        text += f'\n{merged / dense:.2f} times as fast as with all tokens\n'
    return text


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument('config', help='a path, or mmdet::folder/name.py')
    parser.add_argument('checkpoint', nargs='?', help='file or URL')
    parser.add_argument(
        '--whole',
        action='store_true',
        help="mode 'predict', with post-processing, instead of 'tensor'; "
        'preprocessing is never counted')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of the images; by default what the config tests on')
    parser.add_argument(
        '--protocol',
        choices=['interleaved', 'tome'],
        default='interleaved',
        help='tome: 40 runs of a batch of 64, of which the first 10 do not '
        'count, one model after the other')
    parser.add_argument(
        '--batch', type=int, help='images; 1, or 64 by the protocol of ToMe')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument(
        '--rounds', type=int, help='15, or 40 by the protocol of ToMe')
    parser.add_argument(
        '--dtype',
        choices=['float32', 'float16', 'bfloat16'],
        default='float32',
        help='by the protocol of ToMe: what is autocast to')
    add_device(parser)
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of the noise and of random weights; in a two-stage detector '
        'they decide how large the boxes are that its second stage pools, '
        'which are the same in all forms')
    parser.add_argument(
        '--clock',
        choices=['wall', 'cpu'],
        default='wall',
        help='cpu: the time that one thread ran, for a machine that others '
        'use too')
    parser.add_argument(
        '--keep-memory',
        action='store_true',
        help='of this process, once it has it (glibc only), as the allocators '
        'of servers do. Otherwise the first touch of fresh pages can take '
        'longer than the layer that writes them')
    parser.add_argument(
        '--out',
        default='work_dirs/benchmark',
        help='folder for the numbers (json), the tables (txt) and the picture '
        '(png)')
    add_cfg_options(parser)
    args = parser.parse_args()
    batch, rounds = (64, RUNS) if args.protocol == 'tome' else (1, 15)
    args.batch = args.batch or batch
    args.rounds = args.rounds or rounds
    return args


def main() -> None:
    """Measure, print, and write."""
    args = parse_args()
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    torch.set_num_threads(args.threads)
    if args.keep_memory:
        keep_freed_memory()
    clock = device_clock(args.device, clock_of(args.clock))
    set_random_seed(args.seed)
    cfg = read_config(args.config, args.cfg_options)
    if args.protocol == 'tome':
        print(by_tome(args, cfg, clock))
        return
    model = build_subject(cfg, args.checkpoint).to(args.device)
    batch = noise_batch(cfg, model, args.shape, args.batch)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        models = forms(model)
        mode = 'predict' if args.whole else 'tensor'
        origin = share_proposals(models, batch, mode)
        seconds, parts = measure(models, batch, mode, args.rounds, clock)
    result = report(args, list(batch['inputs'].shape), seconds, parts, origin)
    text = as_text(result)
    print(text)
    mkdir_or_exist(args.out)
    path = Path(
        args.out, f'{Path(args.config).stem}_{result["mode"]}_'
        f'{result["kernels"]}_{args.threads}t')
    if args.shape:
        path = path.with_name(f'{path.name}_{"x".join(map(str, args.shape))}')
    if result['fp32_limits']:
        path = path.with_name(f'{path.name}_limited_fp32')
    path.with_suffix('.json').write_text(json.dumps(result, indent=2) + '\n')
    path.with_suffix('.txt').write_text(text.lstrip('\n'))
    draw(result, path.with_suffix('.png'))
    print(f'written to {path}.json, .txt and .png')


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        main()
