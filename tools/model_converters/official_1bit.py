"""Convert a checkpoint of the official code of a 1-bit method."""
import argparse
import logging
import warnings

from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader, save_checkpoint

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import build_subject
from mmcompress.binary.converters import KEY_MAPS, convert_official
from mmcompress.launch import add_cfg_options
from mmcompress.model.config import read_config

DESCRIPTION = '''Writes a checkpoint that our config and any mm tool loads.
The file is read as data only: one that asks for code to be run is refused.
Weights that fit nowhere, on either side, are listed and nothing is
written.'''


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument('method', choices=list(KEY_MAPS))
    parser.add_argument(
        'config',
        help='of the same network, such as configs/react/react_r18_step2.py')
    parser.add_argument('checkpoint', help='file or URL of the official one')
    parser.add_argument('out', help='file to write')
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    """Convert."""
    args = parse_args()
    MMLogger.get_instance('mmengine').setLevel(logging.WARNING)
    model = build_subject(read_config(args.config, args.cfg_options))
    checkpoint = CheckpointLoader.load_checkpoint(
        args.checkpoint, map_location='cpu')
    state = convert_official(args.method, checkpoint, model)
    save_checkpoint(dict(meta={}, state_dict=state), args.out)
    print(f'{args.out}: {len(state)} tensors for {args.config}')


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        main()
