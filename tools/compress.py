"""Make a trained model of any mm library smaller or faster, in one call."""
import argparse
import sys
import warnings

import mmcompress.compat  # noqa: F401
from mmcompress import compress
from mmcompress.launch import add_cfg_options, add_device
from mmcompress.one_command.options import BITS, CONTROLS, EXPORTS, Refused
from mmcompress.one_command.training import TrainingFailed

DESCRIPTION = '''Takes the config and the checkpoint of a detector, classifier,
segmenter or pose estimator, and writes a smaller or faster one: distilled,
low-bit, with fewer tokens, pruned, or several at once. Ends with a table of
metric, size and latency before and after, on your own validation data and on
this machine. The same call goes on where it was stopped.'''
EXAMPLES = '''examples:
  %(prog)s my.py epoch_12.pth --bits 8                  minutes, no training
  %(prog)s my.py epoch_12.pth --bits 8 --train          better, longer
  %(prog)s my.py epoch_12.pth --bits 1 --train --epochs 12
  %(prog)s my.py epoch_12.pth --distill-from big.py big.pth
  %(prog)s vit.py epoch_9.pth --tokens 13 --prune 0.5 --train --bits 8
  %(prog)s my.py epoch_12.pth --bits w4a8 --dry-run     what it would do'''


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'config', help='of the trained model; a path, or mmdet::folder/name')
    parser.add_argument('checkpoint', help='its weights, file or URL')
    what = parser.add_argument_group('what is done')
    what.add_argument(
        '--distill-from',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a teacher, from which the model learns')
    what.add_argument(
        '--bits',
        choices=BITS,
        help='of weights and activations; 8, w4a8 and w4a4 need no training, '
        'ternary and 1 do')
    what.add_argument(
        '--tokens',
        type=int,
        metavar='R',
        help='merge so many tokens in each layer of a vision transformer')
    what.add_argument(
        '--prune',
        type=float,
        metavar='P',
        help='the share of the channels that goes, or of the units of '
        'attentions and feed-forward networks')
    what.add_argument(
        '--recipe',
        metavar='NAME',
        help='how to distil; by default what is recommended for this kind of '
        'network. An unknown name lists those that there are')
    what.add_argument(
        '--export', choices=EXPORTS, help='also write a file for ONNX Runtime')
    how = parser.add_argument_group('training')
    how.add_argument(
        '--train',
        action='store_true',
        help="train on the config's data; --distill-from and --epochs imply "
        'it')
    how.add_argument(
        '--epochs',
        type=int,
        metavar='N',
        help='how long; by default a budget by the size of the data')
    how.add_argument(
        '--control',
        choices=CONTROLS,
        default='auto',
        help='also train the student without its teacher, to compare with; '
        'auto: if that takes minutes')
    how.add_argument('--seed', type=int, default=0)
    other = parser.add_argument_group('other')
    other.add_argument(
        '--work-dir',
        metavar='D',
        help='where results go; by default work_dirs/NAME')
    other.add_argument(
        '--dry-run',
        action='store_true',
        help='print the plan, the expected size and the config; write nothing')
    other.add_argument(
        '--images',
        type=int,
        default=64,
        metavar='N',
        help='of the training data, for the scales')
    other.add_argument(
        '--exclude',
        nargs='+',
        default=[],
        metavar='PATTERN',
        help='modules that stay float: names, of modules above them, or '
        'names with wildcards')
    other.add_argument(
        '--keep-slow',
        action='store_true',
        help='keep layers low-bit that are slower so on this machine')
    other.add_argument(
        '--no-metric',
        dest='metric',
        action='store_false',
        help='do not test the models')
    add_device(other)
    add_cfg_options(other)
    return parser.parse_args()


def main() -> None:
    """Compress; a refusal is a sentence, not a stack."""
    args = parse_args()
    try:
        compress(**vars(args))
    except (Refused, TrainingFailed) as error:
        sys.exit(f'{error}')
    except KeyboardInterrupt:
        print('Stopped. The same command goes on from here.', file=sys.stderr)
        # as of a process that an interrupt ended
        sys.exit(130)


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        main()
