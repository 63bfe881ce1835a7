"""Print what one can tap of a model: paths, output shapes, calls per step."""
import argparse
import logging
import warnings

from mmengine.logging import MMLogger

import mmcompress.compat  # noqa: F401
from mmcompress.distill.listing import list_taps
from mmcompress.launch import add_cfg_options


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Lists the modules of a model that are called in a '
        'training step (of a student) and in a forward in mode "tensor" (of '
        'a teacher), with random weights and noise as input.')
    parser.add_argument(
        'config',
        help='of mmdet, mmpose, mmpretrain, mmseg or mmcompress; '
        'a path, or mmdet::folder/name.py')
    parser.add_argument(
        '--side',
        choices=['student', 'teacher'],
        default='student',
        help='which model of a distillation config')
    parser.add_argument(
        '--filter',
        metavar='PATTERN',
        help='a module and all below it, or a path with wildcards')
    parser.add_argument(
        '--depth',
        type=int,
        help='most parts of a path; 3 unless there is a filter')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of the images, in pixels')
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    args = parse_args()
    depth = args.depth
    if depth is None and args.filter is None:
        depth = 3
    # the table only: neither how weights are initialised nor deprecations
    MMLogger.get_instance('mmengine', log_level=logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        table = list_taps(args.config, args.side, args.filter, depth,
                          args.size, args.cfg_options)
    print(table)


if __name__ == '__main__':
    main()
