"""Pack a trained model with 1-bit layers: one bit per weight, fast kernels."""
import argparse

import mmcompress.compat  # noqa: F401
from mmcompress.deploy.file.convert import LEFTOVERS, pack_file
from mmcompress.launch import add_cfg_options


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Writes OUT.pth, with one bit per 1-bit weight, and OUT.py'
        ', the config that tools/test.py, mim test and inferencers take with '
        'it. Before, the packed model is compared with the trained one on '
        'images of the test data; if they disagree nothing is written.')
    parser.add_argument('config', help='of the trained model')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('out', help='the packed checkpoint, OUT.pth')
    parser.add_argument(
        '--leftovers',
        choices=LEFTOVERS,
        default='float32',
        help='how the weights of float layers are stored; computed with is '
        'float32')
    parser.add_argument(
        '--batches',
        type=int,
        default=2,
        help='batches of the test data to verify with')
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    """Pack, and print what became of the model."""
    args = parse_args()
    pack_file(args.config, args.checkpoint, args.out, args.leftovers,
              args.batches, args.cfg_options)


if __name__ == '__main__':
    main()
