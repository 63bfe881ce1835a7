"""Render the mini data, and draw some of it to look at."""
import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .digits import CLASSES, PALETTE, Scene
from .pose import HIDDEN, VISIBLE, Group
from .rendered import _TASKS, ensure_mini_data


def _mark_digits(draw: ImageDraw.ImageDraw, scene: Scene, corner: np.ndarray,
                 scale: int) -> None:
    top = corner[1]
    for label, box in zip(scene.labels, scene.boxes):
        x1, y1, x2, y2 = scale * np.array(box) + np.tile(corner, 2)
        draw.rectangle([x1, y1, x2 - 1, y2 - 1], outline=PALETTE[label])
        # the class stands above the box where there is room
        text = y1 - 12 if y1 - 12 >= top else y2
        draw.rectangle([x1, text, x1 + 34, text + 11], fill=PALETTE[label])
        draw.text((x1 + 2, text), CLASSES[label], fill='white')


def _mark_persons(draw: ImageDraw.ImageDraw, group: Group, corner: np.ndarray,
                  scale: int) -> None:
    for person in group.persons:
        points = scale * person.keypoints + corner
        for colour, kind in [('red', HIDDEN), ('lime', VISIBLE)]:
            for x, y in points[person.visibility == kind]:
                draw.ellipse([x - 1, y - 1, x + 1, y + 1], fill=colour)


def draw_sheet(pictures: list[Scene] | list[Group], columns: int,
               scale: int) -> Image.Image:
    """Pictures side by side, with boxes and classes or with keypoints.

    Args:
        pictures (list[Scene] | list[Group]): All of one size. Keypoints that
            are hidden are drawn in red.
        columns (int): Pictures in a row.
        scale (int): How much they are enlarged.

    Returns:
        Image.Image: RGB.
    """
    height, width = (scale * n for n in pictures[0].image.shape[:2])
    rows = int(np.ceil(len(pictures) / columns))
    sheet = Image.new('RGB', (columns * width, rows * height))
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        corner = np.array([i % columns * width, i // columns * height])
        image = Image.fromarray(picture.image).resize((width, height))
        sheet.paste(image, tuple(corner.tolist()))
        mark = _mark_digits if isinstance(picture, Scene) else _mark_persons
        mark(draw, picture, corner, scale)
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
        pictures = data.make_split(args.split)
        if not isinstance(pictures[0], (Scene, Group)):
            parser.error(f'--sheet: {args.task} are no pictures')
        draw_sheet(pictures, columns=6, scale=2).save(args.sheet)
        print(args.sheet)


if __name__ == '__main__':
    main()
