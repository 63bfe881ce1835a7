"""Compare what merges tokens, in a trained model that is not trained on.

Every matching is tried with every number of tokens, on the test data of the
config and by its own evaluator. Several checkpoints, such as of several seeds,
give means and standard deviations. Prints tables in Markdown.

  python tools/analysis_tools/token_matchings.py configs/tome/vit_mini.py \\
      work_dirs/vit_mini/epoch_9.pth --r 4 8 12 --above .95 .9
"""
import argparse
import ast
import json
import logging
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import MMLogger

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import build_subject
from mmcompress.launch import add_cfg_options, add_device
from mmcompress.model.config import read_config
from mmcompress.model.testing import measure
from mmcompress.tokens import MergeTokens
from mmcompress.tokens.step import find_backbones
from mmcompress.visualization.tokens import num_left

# arguments of MergeTokens, beside r
BY_NUMBER = {
    'ToMe': dict(),
    'ToMe, no proportional attention': dict(proportional=False),
    'complete graph': dict(matching='complete_graph'),
    'EViT': dict(matching='evit'),
    'PiToMe': dict(matching='pitome'),
    '2x2 cells in the first layer, then ToMe': dict(matching='local_cells'),
    'random tokens, most similar partner': dict(matching='random'),
    'random pairs': dict(matching=dict(type='random', pairs=True)),
}
# these decide themselves how many leave
THRESHOLD = 'threshold'
KTH = 'kth'


def merge(model: nn.Module, r: int | tuple | list | None,
          options: dict) -> None:
    """Let the layers of a model merge.

    Args:
        model (nn.Module): A plain model.
        r (int | tuple | list | None): As for ``MergeTokens``.
        options (dict): Its other arguments.
    """
    if options.get('matching') != 'local_cells':
        MergeTokens(r, **options)(model)
        return
    backbone = model.get_submodule(find_backbones(model)[0])
    grid = tuple(backbone.patch_embed.init_out_size)
    MergeTokens(
        r, layers=[0], matching=dict(type='local_cells', grid=grid))(
            model)
    MergeTokens(r, layers=list(range(1, len(backbone.layers))))(model)


def count_left(model: nn.Module) -> tuple[Callable[[], float], Callable]:
    """Count the tokens that the last layer leaves.

    Returns:
        tuple[Callable, Callable]: One gives the mean over images, the other
        ends it.
    """
    backbone = model.get_submodule(find_backbones(model)[0])
    counts = []
    handle = backbone.layers[-1].register_forward_hook(
        lambda module, args, output: counts.extend(num_left(output).tolist()))
    return lambda: statistics.mean(counts), handle.remove


def evaluate(cfg: Config,
             checkpoint: str,
             r: int | tuple | list | None,
             options: dict | None,
             metric: str | None = None,
             seed: int = 0,
             device: str = 'cpu') -> dict:
    """Test a model with merging.

    Args:
        cfg (Config): Of the model as it was trained.
        checkpoint (str): Of the model.
        r (int | tuple | list | None): As for ``MergeTokens``.
        options (dict | None): Its other arguments; None for no merging.
        metric (str | None): Its name; the first of the config by default.
        seed (int): Of random matchings.
        device (str): As for torch.

    Returns:
        dict: ``name`` and ``value`` of the metric, and ``tokens``, how many
        are left behind the last layer.

    Raises:
        SystemExit: If there is no such metric.
    """
    model = build_subject(cfg, checkpoint).to(device)
    if options is not None:
        merge(model, r, options)
    left, end = count_left(model)
    torch.manual_seed(seed)
    metrics = measure(cfg, model)
    end()
    name = metric or next(iter(metrics))
    if name not in metrics:
        raise SystemExit(f'--metric {name}: the config measures '
                         f'{", ".join(metrics)}')
    return dict(name=name, value=float(metrics[name]), tokens=left())


def settings(args: argparse.Namespace) -> Iterable[tuple]:
    """What is tried: name, column, r and options."""
    yield 'dense', '', None, None
    for name, options in BY_NUMBER.items():
        if args.matchings and name not in args.matchings:
            continue
        for r in args.r:
            yield name, f'r = {r}', r, options
    for above in args.above:
        yield (f'all pairs above {above}', '', None,
               dict(matching=dict(type=THRESHOLD, above=above)))
    for every in args.kth:
        yield (f'1 of {every} stays', '', None,
               dict(matching=dict(type=KTH, every=every)))


def cell(records: list[dict], decimals: int = 1) -> str:
    """Mean, standard deviation and tokens left of some records."""
    values = [record['value'] for record in records]
    text = f'{statistics.mean(values):.{decimals}f}'
    if len(values) > 1:
        text += f' ± {statistics.stdev(values):.{decimals}f}'
    tokens = statistics.mean(record['tokens'] for record in records)
    return f'{text} ({tokens:.4g})'


def as_table(records: list[dict], columns: list[str]) -> str:
    """A row for each matching, a column for each number of tokens.

    Args:
        records (list[dict]): With ``matching`` and ``column``.
        columns (list[str]): Those with a number.
    """
    metric = records[0]['name']
    lines = [
        f'{metric} (tokens left)\n',
        f'| matching | {" | ".join(columns or ["all"])} |',
        f'| :-- |{" --: |" * max(1, len(columns))}'
    ]
    for name in dict.fromkeys(record['matching'] for record in records):
        found = [record for record in records if record['matching'] == name]
        cells = []
        for column in columns or ['']:
            # what has no number has one value, in the first column
            at = [r for r in found if r['column'] == column]
            if not at and column == (columns or [''])[0]:
                at = [r for r in found if not r['column']]
            cells.append(cell(at) if at else '')
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='of the model as it was trained')
    parser.add_argument('checkpoints', nargs='+', help='of the model')
    parser.add_argument(
        '--r',
        type=ast.literal_eval,
        nargs='*',
        default=[4, 8, 12],
        help="how many tokens leave each layer: a number, '(16, -1)' or a "
        'list')
    parser.add_argument(
        '--above',
        type=float,
        nargs='*',
        default=[],
        help='similarities above which all pairs merge')
    parser.add_argument(
        '--kth',
        type=int,
        nargs='*',
        default=[],
        help='of as many neighbours, all but one leave')
    parser.add_argument(
        '--matchings',
        nargs='+',
        choices=BY_NUMBER,
        metavar='NAME',
        help=f'some of: {"; ".join(BY_NUMBER)}. All by default, but those '
        'that need a class token where there is none')
    parser.add_argument(
        '--metric', help='such as mIoU; the first of the config by default')
    parser.add_argument(
        '--out', type=Path, help='JSON to write, with every value')
    add_device(parser)
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_args()
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    cfg = read_config(args.config, args.cfg_options)
    records = []
    for name, column, r, options in settings(args):
        for seed, checkpoint in enumerate(args.checkpoints):
            try:
                result = evaluate(cfg, checkpoint, r, options, args.metric,
                                  seed, args.device)
            except ValueError as error:
                print(f'{name}: {error}')
                break
            records.append(
                dict(
                    matching=name,
                    column=column,
                    checkpoint=Path(checkpoint).name,
                    seed=seed,
                    **result))
    print(as_table(records, [f'r = {r}' for r in args.r]))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps(dict(config=args.config, records=records), indent=1) +
            '\n')


if __name__ == '__main__':
    main()
