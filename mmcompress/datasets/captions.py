"""The mini vision-language data: pictures of a digit, and what they show."""
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .digits import (CLASSES, PALETTE, Material, Scene, crop_photo, draw_digit,
                     load_material, paint)
from .mini_data import MiniData

# of the digit's 8 rows, as shares of the picture
SIZES = dict(small=(0.42, 0.48), large=(0.7, 0.8))
# of the digit's middle, as shares of the picture: x, y
PLACES = {
    'above left': (0.32, 0.32),
    'above right': (0.68, 0.32),
    'below left': (0.32, 0.68),
    'below right': (0.68, 0.68)
}
#: All of them, such as ``'small three above left'``.
CAPTIONS = tuple(f'{size} {digit} {place}' for size in SIZES
                 for digit in CLASSES for place in PLACES)


def draw_caption(rng: np.random.Generator, material: Material, caption: str,
                 size: int) -> Scene:
    """Put the digit of a caption on a photo's crop, in its size and place.

    Args:
        rng (np.random.Generator): Where everything random comes from.
        material (Material): Digits and photos.
        caption (str): One of ``CAPTIONS``.
        size (int): Width and height of the picture.

    Returns:
        Scene: With one label and one box; the digit lies entirely inside.
    """
    height, digit, place = caption.split(' ', 2)
    label = CLASSES.index(digit)
    image = crop_photo(rng, material.photos, size, size, 1, 3)
    opacity = draw_digit(
        material.digits[rng.choice(np.flatnonzero(material.labels == label))],
        height=size * rng.uniform(*SIZES[height]),
        aspect=rng.uniform(0.9, 1.1),
        angle=rng.uniform(-0.15, 0.15),
        shear=rng.uniform(-0.1, 0.1))
    shape = np.array(opacity.shape[::-1])
    middle = size * (PLACES[place] + rng.uniform(-0.05, 0.05, size=2))
    x, y = np.clip(np.rint(middle - shape / 2), 0, size - shape).astype(int)
    box = paint(rng, image, opacity, x, y, contrast=80)
    image = image + rng.normal(0, rng.uniform(0, 6), size=image.shape)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return Scene(image, [label], [box])


@dataclass(frozen=True)
class MiniCaptions(MiniData):
    """Pictures of one handwritten digit each, and 80 captions for them.

    The files::

        {train,val}/00000.png ...
        {train,val}.json     {"captions": [...], "images": [{"file": ...,
                             "caption": number of the caption}, ...]}

    Captions take turns, so that each has equally many pictures. A picture
    depends on the seed, its split and its number only: the first ones are the
    same however many there are.

    Args:
        num_train (int): Pictures for training.
        num_val (int): Pictures for validation.
        size (int): Width and height of a picture, in pixels.
        seed (int): Of everything random.

    Raises:
        ValueError: If a number of pictures is less than 1, or ``size`` is not
            in 24..72.
    """
    task = 'captions'
    version = 1
    streams = dict(train=8, val=9)
    kind = '{size}x{size}'

    num_train: int = 6000
    num_val: int = 1000
    size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # a small digit must be legible, and the largest crop fit into a photo
        if not 24 <= self.size <= 72:
            raise ValueError(f'size must be in [24, 72], got {self.size}')

    @property
    def metainfo(self) -> dict:
        """``metainfo`` of an mm dataset."""
        return dict(classes=CLASSES, palette=PALETTE)

    def make(self, split: str, index: int) -> Scene:
        """Draw a picture; its caption is number ``index % 80``."""
        return draw_caption(
            self.random_numbers(split, index),
            load_material()[split], CAPTIONS[index % len(CAPTIONS)], self.size)

    def write(self, folder: Path) -> None:
        """Draw everything and write it."""
        for split in ('train', 'val'):
            (folder / split).mkdir()
            images = []
            scenes = self.make_split(split, show_progress=True)
            for i, scene in enumerate(scenes):
                file = f'{split}/{i:05d}.png'
                Image.fromarray(scene.image).save(folder / file)
                images.append(dict(file=file, caption=i % len(CAPTIONS)))
            # those that pictures have
            captions = CAPTIONS[:len(images)]
            (folder / f'{split}.json').write_text(
                json.dumps(dict(captions=captions, images=images)))
