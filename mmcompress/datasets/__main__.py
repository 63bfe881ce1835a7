"""Render the mini data, and draw some of it to look at."""
import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .digits import CLASSES, PALETTE, Scene
from .rendered import _TASKS, ensure_mini_data


def draw_sheet(scenes: list[Scene], columns: int, scale: int) -> Image.Image:
    """Scenes with their boxes and classes, side by side.

    Args:
        scenes (list[Scene]): All of one size.
        columns (int): Scenes in a row.
        scale (int): How much they are enlarged.

    Returns:
        Image.Image: RGB.
    """
    height, width = (scale * n for n in scenes[0].image.shape[:2])
    rows = int(np.ceil(len(scenes) / columns))
    sheet = Image.new('RGB', (columns * width, rows * height))
    draw = ImageDraw.Draw(sheet)
    for i, scene in enumerate(scenes):
        x0, y0 = i % columns * width, i // columns * height
        sheet.paste(
            Image.fromarray(scene.image).resize((width, height)), (x0, y0))
        for label, (x1, y1, x2, y2) in zip(scene.labels, scene.boxes):
            x1, y1 = x0 + scale * x1, y0 + scale * y1
            x2, y2 = x0 + scale * x2 - 1, y0 + scale * y2 - 1
            draw.rectangle([x1, y1, x2, y2], outline=PALETTE[label])
            # the class stands above the box where there is room
            top = y1 - 12 if y1 - 12 >= y0 else y2 + 1
            draw.rectangle([x1, top, x1 + 34, top + 11], fill=PALETTE[label])
            draw.text((x1 + 2, top), CLASSES[label], fill='white')
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(
        prog='python -m mmcompress.datasets', description=__doc__)
    parser.add_argument('--task', choices=sorted(_TASKS), default='detection')
    parser.add_argument('--sheet', type=Path, help='picture to write')
    parser.add_argument('--split', choices=['train', 'val'], default='train')
    parser.add_argument('--num', type=int, default=24, help='on the picture')
    args = parser.parse_args()
    print(ensure_mini_data(args.task))
    if args.sheet:
        data = _TASKS[args.task](num_train=args.num, num_val=args.num)
        if not hasattr(data, 'scenes'):
            parser.error(f'--sheet: {args.task} are no pictures')
        scenes = data.scenes(args.split)
        draw_sheet(scenes, columns=6, scale=2).save(args.sheet)
        print(args.sheet)


if __name__ == '__main__':
    main()
