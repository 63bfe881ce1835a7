"""Convert a checkpoint of DWPose's official distillers to a plain one."""
import argparse

from mmengine.runner import CheckpointLoader, save_checkpoint

import mmcompress.compat  # noqa: F401
from mmcompress.distill.converters import convert_dwpose

DESCRIPTION = '''Takes the trained pose estimator out of a checkpoint that
mmpose's DWPoseDistiller, or the authors' repository, wrote. Checkpoints of
this package need no conversion. The file is read as data only.'''


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument('checkpoint', help='file or URL of the official one')
    parser.add_argument('out', help='file to write')
    parser.add_argument(
        '--two-dis',
        action='store_true',
        help='it is of the second stage: a new head on a frozen backbone')
    return parser.parse_args()


def main() -> None:
    """Convert."""
    args = parse_args()
    checkpoint = CheckpointLoader.load_checkpoint(
        args.checkpoint, map_location='cpu')
    converted = convert_dwpose(checkpoint, args.two_dis)
    save_checkpoint(converted, args.out)
    print(f'{args.out}: {len(converted["state_dict"])} tensors')


if __name__ == '__main__':
    main()
