"""The commands: compress, decompress, info."""
import argparse
import sys
from pathlib import Path

import numpy as np

import mmcompress.compat  # noqa: F401
from mmcompress.atomic import replacing
from .file_format import decode, read
from .fit import build_config, fit
from .plan import ALLOTMENTS
from .signal import save_signal


def _add_compress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'file',
        help='an image (grey or RGB), a volume (.npy of three axes, or a TIFF '
        'stack), sklearn:china.jpg, sklearn:flower.jpg or rendered:SIZE')
    parser.add_argument('out', help='the .tinc file')
    parser.add_argument(
        '--bpp',
        type=float,
        default=0.5,
        help='bits per pixel or voxel, at most (default: %(default)s)')
    parser.add_argument(
        '--levels', type=int, default=2, help='of the tree (default: 2)')
    parser.add_argument(
        '--depth',
        type=int,
        help="sine layers of a leaf's MLP, shared ones included (default: 3, "
        'or one per level)')
    parser.add_argument(
        '--allotment',
        choices=ALLOTMENTS,
        default='variance',
        help='how parameters are shared out (default: variance)')
    parser.add_argument(
        '--bits', type=int, default=6, help='of a weight (default: 6)')
    parser.add_argument(
        '--omega-0', type=float, default=30., help='of SIREN (default: 30)')
    parser.add_argument(
        '--steps', type=int, default=2000, help='of training (default: 2000)')
    parser.add_argument('--lr', type=float, help='rate of Adam')
    parser.add_argument('--seed', type=int, default=0, help='(default: 0)')
    parser.add_argument(
        '--crop',
        type=int,
        nargs='+',
        metavar='N',
        help='where to begin on each axis, then the size on each: TOP LEFT '
        'HEIGHT WIDTH')


def _compress(args: argparse.Namespace) -> None:
    options = vars(args)
    out = Path(options.pop('out'))
    del options['command']
    if not out.parent.is_dir():
        raise FileNotFoundError(f'{out}: there is no folder {out.parent}')
    if out.is_dir():
        raise IsADirectoryError(f'{out} is a folder; give the name of a file')
    data, results = fit(build_config(**options))
    with replacing(out) as beside:
        beside.write_bytes(data)
    print(f'{out}: {len(data)} bytes, {results["bpp"]:.4f} bits per pixel, '
          f'PSNR {results["psnr"]:.2f} dB')


def _decompress(args: argparse.Namespace) -> None:
    signal = decode(Path(args.file).read_bytes())
    save_signal(signal, args.out)
    print(f'{args.out}: {" x ".join(map(str, signal.shape))}, '
          f'{signal.channels} channels, {signal.pixels.dtype}')


def _info(args: argparse.Namespace) -> None:
    data = Path(args.file).read_bytes()
    header = read(data)
    plan = header.plan
    pixels = int(np.prod(plan.tree.shape))
    print(f'{args.file}: {len(data)} bytes, {8 * len(data) / pixels:.4f} bits '
          'per pixel')
    print(f'pixels: {" x ".join(map(str, plan.tree.shape))}, {plan.channels} '
          f'channels, {header.dtype}, from {header.low:g} to {header.high:g}')
    fine = plan.num_biases() + plan.num_frequencies()
    print(f'codes: {plan.num_weights() - plan.num_frequencies()} of '
          f'{header.bits[0]} bits, {fine} of {header.bits[1]} (biases, and '
          'weights of the coordinates)')
    for level, (layers, widths) in enumerate(zip(plan.layers, plan.widths)):
        print(f'level {level}: {len(widths)} nodes, {layers} sine layers, '
              f'widths {widths.min()} to {widths.max()}, mean '
              f'{widths.mean():.1f}')


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what goes wrong is said in a line.

    Args:
        arguments (list[str] | None): Of the command line; None: the
            program's.
    """
    parser = argparse.ArgumentParser(
        prog='python -m tinc',
        description='Compress an image or a volume into a tree of small '
        'networks.')
    commands = parser.add_subparsers(dest='command', required=True)
    _add_compress(commands.add_parser('compress', help='write a .tinc file'))
    decompress = commands.add_parser('decompress', help='read one')
    decompress.add_argument('file', help='the .tinc file')
    decompress.add_argument('out', help='.png, .tif or .npy')
    info = commands.add_parser('info', help='say what is in one')
    info.add_argument('file', help='the .tinc file')
    args = parser.parse_args(arguments)
    run = dict(compress=_compress, decompress=_decompress, info=_info)
    try:
        run[args.command](args)
    except (OSError, ValueError, TypeError, RuntimeError,
            ModuleNotFoundError) as error:
        sys.exit(f'error: {error}')
