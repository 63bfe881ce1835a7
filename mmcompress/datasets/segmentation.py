"""The mini segmentation data: pictures and maps of the class of each pixel."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .digits import CLASSES, PALETTE, Scene, draw_scene, load_material
from .mini_data import MiniData, check_size, save_jpeg


def label_map(scene: Scene) -> np.ndarray:
    """The class of each pixel: 0 for the background, 1 for zeros, and so on.

    Args:
        scene (Scene): Where digits overlap, the later one is in front.

    Returns:
        np.ndarray: uint8, shape (H, W).
    """
    labels = np.zeros(scene.image.shape[:2], np.uint8)
    for label, (x1, y1, x2, y2), mask in zip(scene.labels, scene.boxes,
                                             scene.masks):
        labels[y1:y2, x1:x2][mask] = label + 1
    return labels


@dataclass(frozen=True)
class MiniSegmentation(MiniData):
    """Handwritten digits on photos; each pixel is a digit or background.

    The files::

        images/{train,val}/00000.jpg ...
        labels/{train,val}/00000.png ...     with a palette, to look at

    An image depends on the seed, its split and its number only: the first
    ones are the same however many there are.

    Args:
        num_train (int): Images for training.
        num_val (int): Images for validation.
        width (int): Of an image, in pixels.
        height (int): Of an image, in pixels.
        seed (int): Of everything random.

    Raises:
        ValueError: If a number of images is less than 1, or an image is too
            small for the largest digit or too large for the photos.
    """
    task = 'segmentation'
    version = 1
    streams = dict(train=4, val=5)

    num_train: int = 1000
    num_val: int = 200
    width: int = 128
    height: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # the largest digit and the largest crop must fit
        check_size(self.width, self.height, (104, 170), (88, 320))

    @property
    def metainfo(self) -> dict:
        """``metainfo`` of an mm dataset."""
        return dict(
            classes=('background', *CLASSES), palette=[(0, 0, 0), *PALETTE])

    def make(self, split: str, index: int) -> Scene:
        """Draw a picture."""
        return draw_scene(
            self.random_numbers(split, index),
            load_material()[split],
            self.width,
            self.height,
            max_digits=4,
            min_size=32,
            max_size=64,
            # a hint at the class, for small nets
            max_turn=0.15)

    def write(self, folder: Path) -> None:
        """Draw everything and write it."""
        for split in ('train', 'val'):
            images = folder / 'images' / split
            labels = folder / 'labels' / split
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            scenes = self.make_split(split, show_progress=True)
            for i, scene in enumerate(scenes):
                save_jpeg(scene.image, images / f'{i:05d}.jpg')
                indexed = Image.fromarray(label_map(scene), mode='P')
                indexed.putpalette(np.ravel(self.metainfo['palette']).tolist())
                indexed.save(labels / f'{i:05d}.png')
