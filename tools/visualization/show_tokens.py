"""Draw which patches a vision transformer merged, over images.

A row for each image: as the model gets it, then behind each layer. Patches
that became one token have their mean colour and a border of the same colour.
"""
import argparse
import ast
from pathlib import Path

import matplotlib
import numpy as np

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import build_subject
from mmcompress.launch import add_cfg_options
from mmcompress.model.config import read_config
from mmcompress.tokens import MergeTokens
from mmcompress.visualization.features import image_batch, pictures
from mmcompress.visualization.tokens import (Groups, groups_of,
                                             merging_backbone, paint)

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

# of a picture of patches, along its longer side, at least
PIXELS = 480


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='of a model whose tokens merge')
    parser.add_argument('checkpoint', help='of the model')
    parser.add_argument('images', nargs='+', help='paths of images')
    parser.add_argument(
        '--layer',
        type=int,
        nargs='+',
        metavar='N',
        help='behind which layers, counted from 0, negative ones from the '
        'last; all by default')
    parser.add_argument(
        '--r',
        type=ast.literal_eval,
        help='tokens that leave each layer, where the config merges none: a '
        "number, '(16, -1)' or a list")
    parser.add_argument(
        '--backbone', help='its name, where several merge, such as backbone')
    parser.add_argument(
        '--out', type=Path, default=Path('tokens.png'), help='PNG to write')
    add_cfg_options(parser)
    return parser.parse_args()


def draw(rows: list[tuple[str, np.ndarray, dict[int, Groups]]],
         path: Path) -> None:
    """Draw a row for each image.

    Args:
        rows (list[tuple]): Title, RGB in [0, 1] of shape (H, W, 3), and
            groups by layer.
        path (Path): PNG to write.
    """
    columns = 1 + len(rows[0][2])
    height, width = rows[0][1].shape[:2]
    figure, axes = plt.subplots(
        len(rows),
        columns,
        squeeze=False,
        figsize=(3.2 * columns, (3.2 * height / width + 0.3) * len(rows)),
        layout='constrained')
    for row, (title, image, groups) in zip(axes, rows):
        row[0].imshow(image)
        row[0].set_title(title)
        for axis, (layer, merged) in zip(row[1:], groups.items()):
            pixels = max(4, PIXELS // max(merged.group.shape))
            axis.imshow(paint(image, merged.group, pixels))
            axis.set_title(
                f'layer {layer}: {merged.left} of {merged.total} tokens')
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Draw the images and say where they are."""
    args = parse_args()
    cfg = read_config(args.config, args.cfg_options)
    model = build_subject(cfg, args.checkpoint)
    if args.r is not None:
        MergeTokens(args.r, args.backbone)(model)
    name = merging_backbone(model, args.backbone)
    layers = args.layer or list(range(len(model.get_submodule(name).layers)))
    rows = []
    for path in args.images:
        batch = image_batch(cfg, model, path)
        groups = groups_of(model, batch, name, layers)
        image = pictures(model, batch['inputs'])[0]
        rows.append((Path(path).stem, image, groups))
    draw(rows, args.out)
    print(f'{len(rows)} images, layers {", ".join(map(str, rows[0][2]))} of '
          f'{name}: {args.out}')


if __name__ == '__main__':
    main()
