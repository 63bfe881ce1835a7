"""Draw where distillation losses look, over images.

A picture for each image and loss, with a row for each level: FGD's foreground
and background masks and the teacher's attentions; MGD's random mask and what
is generated from the rest; the discrepancy of IDa-Det's candidate boxes and
what is imitated. The losses themselves compute them.
"""
import argparse
from pathlib import Path

import matplotlib
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import Tensor

import mmcompress.compat  # noqa: F401
from mmcompress.launch import add_cfg_options
from mmcompress.visualization.features import (build_distilled, image_batch,
                                               pictures)
from mmcompress.visualization.masks import (Panel, add_boxes, drawable,
                                            mask_panels)

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='a distillation config')
    parser.add_argument('images', nargs='+', help='paths of images')
    parser.add_argument(
        '--checkpoint',
        help='of the student; as the training starts by '
        'default')
    parser.add_argument('--loss', help='only this one, such as loss_fgd')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='images that the config neither trains nor tests on have no '
        "annotated boxes; the teacher's with a higher score stand in")
    parser.add_argument(
        '--seed', type=int, default=0, help='of the random masks')
    parser.add_argument(
        '--out-dir',
        type=Path,
        default=Path('masks'),
        help='folder for IMAGE.LOSS.png')
    add_cfg_options(parser)
    return parser.parse_args()


def draw(image: Tensor, boxes: Tensor, title: str, rows: list[list[Panel]],
         path: Path) -> None:
    """Draw one row for each level.

    Args:
        image (Tensor): RGB in [0, 1], shape (H, W, 3).
        boxes (Tensor): (x1, y1, x2, y2) in its pixels, shape (M, 4).
        title (str): Of the image.
        rows (list[list[Panel]]): From :func:`mask_panels`.
        path (Path): PNG to write.
    """
    columns = 1 + len(rows[0])
    figure, axes = plt.subplots(
        len(rows),
        columns,
        squeeze=False,
        figsize=(3.6 * columns, 3 * len(rows)),
        layout='constrained')
    for i, (row, panels) in enumerate(zip(axes, rows)):
        row[0].imshow(image)
        row[0].set_title(title)
        h, w = next(p.values.shape for p in panels if p.values.dim() == 2)
        row[0].set_ylabel(f'level {i}: {h} x {w}')
        for x1, y1, x2, y2 in boxes.tolist():
            row[0].add_patch(
                Rectangle((x1, y1),
                          x2 - x1,
                          y2 - y1,
                          fill=False,
                          edgecolor='red',
                          linewidth=1.5))
        for axis, panel in zip(row[1:], panels):
            axis.set_title(panel.title)
            if panel.values.dim() == 1:
                axis.bar(range(len(panel.values)), panel.values, width=1.0)
                axis.set_xlabel('channel')
                continue
            draw_over(axis, image, panel.values)
        for axis in row:
            if axis.images:
                axis.set_xticks([])
                axis.set_yticks([])
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_over(axis: plt.Axes, image: Tensor, values: Tensor) -> None:
    """Draw values of a map's cells over the image that it covers."""
    height, width = image.shape[:2]
    axis.imshow(image)
    shown = axis.imshow(
        values,
        cmap='viridis',
        alpha=0.65,
        vmin=0,
        vmax=values.max().item() or 1,
        extent=(0, width, height, 0))
    axis.figure.colorbar(shown, ax=axis)


def main() -> None:
    """Draw the masks and say where they are."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    model = build_distilled(cfg)
    names = drawable(model, args.loss)
    if args.checkpoint:
        load_checkpoint(model, args.checkpoint, map_location='cpu')
    args.out_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    for path in args.images:
        batch = image_batch(cfg, model, path)
        title, boxes = 'image', torch.zeros(0, 4)
        if cfg.get('default_scope') == 'mmdet':
            title = add_boxes(cfg, model, batch, path, args.score_thr)
            boxes = batch['data_samples'][0].gt_instances.bboxes
        image = torch.from_numpy(pictures(model, batch['inputs'])[0])
        for name, rows in mask_panels(model, batch, names).items():
            out = args.out_dir / f'{Path(path).stem}.{name}.png'
            draw(image, boxes, title, rows, out)
            print(f'{len(rows)} levels of {name}, {title}: {out}')


if __name__ == '__main__':
    main()
