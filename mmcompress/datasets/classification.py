"""The mini classification data: a folder of pictures for each digit."""
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from .digits import (CLASSES, PALETTE, Material, Scene, crop_photo, draw_digit,
                     load_material, pick_colour)

# raise it when the same settings give other files
_VERSION = 1


def _paint(rng: np.random.Generator, image: np.ndarray, digit: np.ndarray,
           centre: np.ndarray) -> list[int]:
    """Paint a slanted, turned digit in place, and return its box."""
    size = len(image)
    opacity = rng.uniform(0.7, 1) * draw_digit(
        digit,
        height=size * rng.uniform(0.5, 0.8),
        aspect=rng.uniform(0.75, 1.25),
        angle=rng.uniform(-0.35, 0.35),
        shear=rng.uniform(-0.25, 0.25))
    h, w = opacity.shape
    y, x = np.rint(centre - (h / 2, w / 2)).astype(int)
    # what lies outside of the image is cut off
    y1, x1, y2, x2 = np.clip([y, x, y + h, x + w], 0, size)
    opacity = opacity[y1 - y:y2 - y, x1 - x:x2 - x]
    behind = image[y1:y2, x1:x2]
    if opacity.size:
        colour = pick_colour(rng, behind.mean((0, 1)), contrast=40)
        behind += opacity[..., None] * (colour - behind)
    return [int(n) for n in (x1, y1, x2, y2)]


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
        _paint(rng, image, digit, size / 2 + offset)
    index = rng.integers(len(material.labels))
    box = _paint(rng, image, material.digits[index],
                 size * rng.uniform(0.4, 0.6, size=2))
    image = image + rng.normal(0, rng.uniform(0, 12), size=image.shape)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return Scene(image, [int(material.labels[index])], [box])


@dataclass(frozen=True)
class MiniClassification:
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
    num_train: int = 5000
    num_val: int = 2000
    size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_val) < 1:
            raise ValueError('num_train and num_val must be at least 1, got '
                             f'{self.num_train} and {self.num_val}')
        # the largest crop must fit into a photo
        if not 16 <= self.size <= 72:
            raise ValueError(f'size must be in [16, 72], got {self.size}')

    @property
    def name(self) -> str:
        """Name of the folder, different for all settings."""
        return (f'classification-v{_VERSION}_{self.num_train}-{self.num_val}_'
                f'{self.size}x{self.size}_seed{self.seed}')

    @property
    def settings(self) -> dict:
        """Everything that the files depend on."""
        return dict(task='classification', version=_VERSION, **asdict(self))

    @property
    def metainfo(self) -> dict:
        """``metainfo`` of an mm dataset."""
        return dict(classes=CLASSES, palette=PALETTE)

    def scenes(self, split: str, show_progress: bool = False) -> list[Scene]:
        """Draw a split.

        Args:
            split (str): ``train`` or ``val``.
            show_progress (bool): Whether to print a progress bar.

        Returns:
            list[Scene]: In the order of the files' numbers.
        """
        material = load_material()[split]
        num = dict(train=self.num_train, val=self.num_val)[split]
        # other streams than those of the detection data
        stream = dict(train=2, val=3)[split]
        return [
            draw_picture(
                np.random.default_rng([self.seed, stream, i]), material,
                self.size) for i in track(
                    range(num),
                    description=f'mini classification data, {split}',
                    disable=not show_progress)
        ]

    def write(self, folder: Path) -> None:
        """Draw everything and write it.

        Args:
            folder (Path): An empty folder.
        """
        for split in ('train', 'val'):
            # mm libraries want as many folders as classes
            for label in range(len(CLASSES)):
                (folder / split / str(label)).mkdir(parents=True)
            scenes = self.scenes(split, show_progress=True)
            for i, scene in enumerate(scenes):
                name = f'{split}/{scene.labels[0]}/{i:05d}.png'
                Image.fromarray(scene.image).save(folder / name)
