"""The mini classification data: a folder of pictures for each digit."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .digits import (CLASSES, PALETTE, Material, Scene, crop_photo, draw_digit,
                     load_material, paint)
from .mini_data import MiniData


def _paint_digit(rng: np.random.Generator, image: np.ndarray,
                 digit: np.ndarray, centre: np.ndarray) -> list[int]:
    """Paint a slanted, turned digit in place, and return its box."""
    size = len(image)
    opacity = rng.uniform(0.7, 1) * draw_digit(
        digit,
        height=size * rng.uniform(0.5, 0.8),
        aspect=rng.uniform(0.75, 1.25),
        angle=rng.uniform(-0.35, 0.35),
        shear=rng.uniform(-0.25, 0.25))
    y, x = np.rint(centre - np.divide(opacity.shape, 2)).astype(int)
    return paint(rng, image, opacity, x, y, contrast=40)


def draw_picture(rng: np.random.Generator, material: Material,
                 size: int) -> Scene:
    """Put one digit near the middle of a photo's crop, others at the edge.

    Args:
        rng (np.random.Generator): Where everything random comes from.
        material (Material): Digits and photos.
        size (int): Width and height of the picture.

    Returns:
        Scene: With one label and one box, those of the digit in the middle.
    """
    image = crop_photo(rng, material.photos, size, size, 1, 3)
    for _ in range(rng.integers(0, 3)):
        direction = rng.uniform(0, 2 * np.pi)
        away = rng.uniform(0.6, 0.8) * size
        offset = away * np.array([np.sin(direction), np.cos(direction)])
        digit = material.digits[rng.integers(len(material.digits))]
        _paint_digit(rng, image, digit, size / 2 + offset)
    index = rng.integers(len(material.labels))
    box = _paint_digit(rng, image, material.digits[index],
                       size * rng.uniform(0.4, 0.6, size=2))
    image = image + rng.normal(0, rng.uniform(0, 12), size=image.shape)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return Scene(image, [int(material.labels[index])], [box])


@dataclass(frozen=True)
class MiniClassification(MiniData):
    """Handwritten digits on photos, to tell apart.

    The files are ``{train,val}/<digit>/<number>.png``, the digit from 0 to 9.
    An image depends on the seed, its split and its number only: the first ones
    are the same however many there are.

    Args:
        num_train (int): Images for training.
        num_val (int): Images for validation.
        size (int): Width and height of an image, in pixels.
        seed (int): Of everything random.

    Raises:
        ValueError: If a number of images is less than 1, or ``size`` is not
            in 16..72.
    """
    task = 'classification'
    version = 1
    streams = dict(train=2, val=3)
    kind = '{size}x{size}'

    num_train: int = 5000
    num_val: int = 2000
    size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # the largest crop must fit into a photo
        if not 16 <= self.size <= 72:
            raise ValueError(f'size must be in [16, 72], got {self.size}')

    @property
    def metainfo(self) -> dict:
        """``metainfo`` of an mm dataset."""
        return dict(classes=CLASSES, palette=PALETTE)

    def make(self, split: str, index: int) -> Scene:
        """Draw a picture."""
        return draw_picture(
            self.random_numbers(split, index),
            load_material()[split], self.size)

    def write(self, folder: Path) -> None:
        """Draw everything and write it."""
        for split in ('train', 'val'):
            # mm libraries want as many folders as classes
            for label in range(len(CLASSES)):
                (folder / split / str(label)).mkdir(parents=True)
            scenes = self.make_split(split, show_progress=True)
            for i, scene in enumerate(scenes):
                name = f'{split}/{scene.labels[0]}/{i:05d}.png'
                Image.fromarray(scene.image).save(folder / name)
