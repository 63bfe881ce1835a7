"""Remove channels of convolutions or heads, or hidden units, of a model."""
import argparse
import json
from pathlib import Path

import mmcompress.compat  # noqa: F401
from mmcompress.launch import add_cfg_options
from mmcompress.model.config import inner_model, read_config
from mmcompress.pruning.criteria import CRITERIA
from mmcompress.pruning.prune_file import Choice, prune_file


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Writes OUT.pth, the weights that are left, and OUT.py, '
        'the config that tools/test.py and tools/train.py take with it. Which '
        'units stay is said by the masks of a search (mmcompress.UPopHook); '
        'without one, by the magnitudes of the weights. Before, the pruned '
        'model is compared with the masked one on images of the test data; if '
        'they disagree nothing is written.')
    parser.add_argument('config', help='of the dense model, or of the search')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('out', help='the pruned checkpoint, OUT.pth')
    parser.add_argument(
        '--ratio',
        type=float,
        metavar='P',
        help='prune at once: the share of the parameters of all units that '
        'goes. All units are ranked together, magnitudes standardized over '
        'attentions and over feed-forward networks')
    parser.add_argument(
        '--criterion',
        choices=CRITERIA,
        default='magnitude',
        help='of pruning at once. magnitude: the root mean square of the '
        'numbers that leave with a unit. Of --channels also bn_scale: the '
        'scales of batch norms; taylor: by how much the loss would change, '
        'on training data; random: to compare with')
    parser.add_argument(
        '--units',
        nargs='+',
        metavar='FILE or KEY=NUM',
        help='prune at once: how many units of a group stay, the largest '
        'ones; or a .json file with such numbers, or the config of a model '
        'that was pruned so')
    parser.add_argument(
        '--channels',
        type=float,
        metavar='P',
        help='prune the channels of convolutions and linear layers instead, '
        'all that the model can do without: the share of them that goes')
    parser.add_argument(
        '--uniform',
        action='store_true',
        help='of --channels: the same share from every layer')
    parser.add_argument(
        '--floor',
        type=float,
        default=0.1,
        help='of --channels: the share of every layer that stays')
    parser.add_argument(
        '--exclude',
        nargs='+',
        metavar='PATTERN',
        help='of --channels: layers that keep what they produce, such as neck')
    parser.add_argument(
        '--train-batches',
        type=int,
        default=8,
        help='of --criterion taylor: batches of the training data')
    parser.add_argument(
        '--round-to',
        type=int,
        default=1,
        metavar='N',
        help='keep more units, so that their number is a multiple of N')
    parser.add_argument(
        '--batches',
        type=int,
        default=2,
        help='batches of the test data to verify with')
    add_cfg_options(parser)
    return parser.parse_args()


def _of_config(path: str) -> dict[str, int]:
    _, steps = inner_model(read_config(path).model)
    for step in steps:
        if str(step['type']).endswith('KeepUnits'):
            return dict(step['units'])
    raise ValueError(f'--units: the config {path} has no step '
                     'mmcompress.KeepUnits, whose numbers could be taken')


def read_units(values: list[str] | None) -> dict[str, int] | None:
    """Numbers of units, as they are given.

    Raises:
        ValueError: If a value is neither a file nor ``KEY=NUM``.
    """
    if values is None:
        return None
    units = {}
    for value in values:
        key, _, num = value.rpartition('=')
        if key and num.isdecimal():
            units[key] = int(num)
        elif value.endswith('.json'):
            units.update(json.loads(Path(value).read_text()))
        elif value.endswith('.py'):
            units.update(_of_config(value))
        else:
            raise ValueError(f'--units: {value!r} is neither KEY=NUM, such as '
                             'backbone.layers.0.ffn=1152, nor a file .json or '
                             '.py')
    return units


def read_channels(args: argparse.Namespace) -> dict | None:
    """How channels are pruned; None if they aren't.

    Raises:
        ValueError: If options are given that need them.
    """
    if args.channels is None:
        if args.criterion != 'magnitude' or args.uniform or args.exclude:
            raise ValueError('--uniform, --exclude and other criteria than '
                             'magnitude are for --channels')
        return None
    return dict(
        ratio=args.channels,
        criterion=args.criterion,
        uniform=args.uniform,
        floor=args.floor,
        exclude=args.exclude)


def main() -> None:
    """Prune, and print what became of the model."""
    args = parse_args()
    choice = Choice(args.ratio, read_units(args.units), args.round_to,
                    read_channels(args), args.train_batches)
    prune_file(args.config, args.checkpoint, args.out, choice, args.batches,
               args.cfg_options)


if __name__ == '__main__':
    main()
