"""Draw what a distillation loss compares, before and after the training.

A row for each feature map that the loss taps: the image, where the teacher's
feature is large, the student's as the training starts and as a checkpoint has
it, and the difference of that to the teacher's.
"""
import argparse
import copy
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import Tensor

import mmcompress.compat  # noqa: F401
from mmcompress.launch import add_cfg_options
from mmcompress.visualization.features import (activation, build_distilled,
                                               feature_maps, image_batch,
                                               pictures, tapped)

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='a distillation config')
    parser.add_argument('checkpoint', help='of the trained student')
    parser.add_argument('image', help='path of an image')
    parser.add_argument(
        '--loss',
        help='whose taps to draw, such as loss_fgd; the first that looks at '
        'both models by default')
    parser.add_argument(
        '--before',
        metavar='CHECKPOINT',
        help='of the student before; as the training starts by default')
    parser.add_argument(
        '--out', type=Path, default=Path('features.png'), help='PNG to write')
    add_cfg_options(parser)
    return parser.parse_args()


def choose_loss(seen: dict[str, dict], name: str | None) -> str:
    """Name of the loss whose features are drawn.

    Raises:
        ValueError: If there is no such loss, or none that taps both models.
    """
    both = [k for k in seen['student'] if k in seen['teacher']]
    if name is None and both:
        return both[0]
    if name not in both:
        raise ValueError(f'--loss {name}: the losses that tap both models are '
                         f'{", ".join(both) or "none"}')
    return name


def draw(image: Tensor, maps: dict[str, list[Tensor]], path: Path) -> None:
    """Draw one row for each feature map.

    Args:
        image (Tensor): RGB in [0, 1], shape (H, W, 3).
        maps (dict[str, list[Tensor]]): ``teacher``, ``before`` and ``after``:
            activations, shape (h, w).
        path (Path): PNG to write.
    """
    rows = len(maps['teacher'])
    titles = [
        'image', 'teacher', 'student before', 'student after',
        'after minus teacher'
    ]
    figure, axes = plt.subplots(
        rows, 5, squeeze=False, figsize=(15, 3 * rows), layout='constrained')
    for row, levels in zip(axes, zip(*maps.values(), strict=True)):
        teacher, before, after = levels
        largest = max(level.max().item() for level in levels)
        row[0].imshow(image)
        for axis, level in zip(row[1:], levels):
            shown = axis.imshow(level, vmin=0, vmax=largest, cmap='viridis')
        figure.colorbar(shown, ax=row[3])
        row[1].set_ylabel(f'{teacher.shape[0]} x {teacher.shape[1]}')
        difference = after - teacher
        limit = max(difference.abs().max().item(), 1e-6)
        shown = row[4].imshow(
            difference, vmin=-limit, vmax=limit, cmap='coolwarm')
        figure.colorbar(shown, ax=row[4])
        change = [(x - teacher).abs().mean().item() for x in (before, after)]
        row[4].set_xlabel(
            'mean distance {:.3f}, before {:.3f}'.format(*reversed(change)))
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, title in zip(axes[0], titles):
        axis.set_title(title)
    figure.suptitle('Mean magnitude over the channels, relative to its mean')
    figure.savefig(path, dpi=100)


def main() -> None:
    """Draw the features and say where they are."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    model = build_distilled(cfg)
    before = copy.deepcopy(model)
    if args.before:
        load_checkpoint(before, args.before, map_location='cpu')
    load_checkpoint(model, args.checkpoint, map_location='cpu')
    batch = image_batch(cfg, model, args.image)
    seen = tapped(model, batch)
    name = choose_loss(seen, args.loss)
    features = dict(
        teacher=seen['teacher'][name],
        before=tapped(before, batch)['student'][name],
        after=seen['student'][name])
    maps = {k: list(feature_maps(v)) for k, v in features.items()}
    if not maps['teacher']:
        raise SystemExit(f'{name} taps nothing that has positions')
    # where the loss resizes, the student's size is the teacher's
    for key in ('before', 'after'):
        maps[key] = [
            F.interpolate(s, t.shape[2:], mode='bilinear')
            for s, t in zip(maps[key], maps['teacher'], strict=True)
        ]
    image = torch.from_numpy(pictures(model, batch['inputs'])[0])
    draw(image, {
        k: [activation(x)[0] for x in v]
        for k, v in maps.items()
    }, args.out)
    print(f'{len(maps["teacher"])} feature maps of {name}: {args.out}')


if __name__ == '__main__':
    main()
