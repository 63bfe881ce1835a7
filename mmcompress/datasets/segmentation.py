"""The mini segmentation data: pictures and maps of the class of each pixel."""
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from .digits import CLASSES, PALETTE, Scene, draw_scene, load_material

# raise it when the same settings give other files
_VERSION = 1


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
class MiniSegmentation:
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
    num_train: int = 1000
    num_val: int = 200
    width: int = 128
    height: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_val) < 1:
            raise ValueError('num_train and num_val must be at least 1, got '
                             f'{self.num_train} and {self.num_val}')
        # the largest digit and the largest crop must fit
        if not (104 <= self.width <= 170 and 88 <= self.height <= 320):
            raise ValueError('width must be in [104, 170] and height in '
                             f'[88, 320], got {self.width} and {self.height}')

    @property
    def name(self) -> str:
        """Name of the folder, different for all settings."""
        return (f'segmentation-v{_VERSION}_{self.num_train}-{self.num_val}_'
                f'{self.width}x{self.height}_seed{self.seed}')

    @property
    def settings(self) -> dict:
        """Everything that the files depend on."""
        return dict(task='segmentation', version=_VERSION, **asdict(self))

    @property
    def metainfo(self) -> dict:
        """``metainfo`` of an mm dataset."""
        return dict(
            classes=('background', *CLASSES), palette=[(0, 0, 0), *PALETTE])

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
        # other streams than those of the other tasks
        stream = dict(train=4, val=5)[split]
        return [
            draw_scene(
                np.random.default_rng([self.seed, stream, i]),
                material,
                self.width,
                self.height,
                max_digits=4,
                min_size=32,
                max_size=64,
                # a hint at the class, for small nets
                max_turn=0.15) for i in track(
                    range(num),
                    description=f'mini segmentation data, {split}',
                    disable=not show_progress)
        ]

    def write(self, folder: Path) -> None:
        """Draw everything and write it.

        Args:
            folder (Path): An empty folder.
        """
        for split in ('train', 'val'):
            images = folder / 'images' / split
            labels = folder / 'labels' / split
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            for i, scene in enumerate(self.scenes(split, show_progress=True)):
                Image.fromarray(scene.image).save(
                    images / f'{i:05d}.jpg', quality=95, subsampling=0)
                indexed = Image.fromarray(label_map(scene), mode='P')
                indexed.putpalette(np.ravel(self.metainfo['palette']).tolist())
                indexed.save(labels / f'{i:05d}.png')
