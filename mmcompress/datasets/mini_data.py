"""What all kinds of mini data have in common."""
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from rich.progress import track


class MiniData(ABC):
    """Base of the frozen dataclasses that make data from a seed.

    An item depends on the seed, its split and its number only: the first ones
    are the same however many there are.

    Attributes:
        task (str): What the data is for.
        version (int): To raise when the same settings give other files.
        streams (dict[str, int]): Of random numbers, for ``train`` and
            ``val``; others than those of all other pictures.
        kind (str): Format of the part of the name that tells items of
            different kind apart, with names of fields in braces.
    """
    task: ClassVar[str]
    version: ClassVar[int]
    streams: ClassVar[dict[str, int]]
    kind: ClassVar[str] = '{width}x{height}'

    num_train: int
    num_val: int
    seed: int

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_val) < 1:
            raise ValueError('num_train and num_val must be at least 1, got '
                             f'{self.num_train} and {self.num_val}')

    @property
    def name(self) -> str:
        """Name of the folder, different for all settings."""
        return (f'{self.task.replace("_", "-")}-v{self.version}_'
                f'{self.num_train}-{self.num_val}_'
                f'{self.kind.format(**asdict(self))}_seed{self.seed}')

    @property
    def settings(self) -> dict:
        """Everything that the files depend on."""
        return dict(task=self.task, version=self.version, **asdict(self))

    @property
    @abstractmethod
    def metainfo(self) -> dict:
        """``metainfo`` of an mm dataset."""

    @abstractmethod
    def make(self, split: str, index: int) -> Any:
        """Make an item.

        Args:
            split (str): ``train`` or ``val``.
            index (int): Its number, from 0.
        """

    def make_split(self, split: str, show_progress: bool = False) -> list:
        """Make all items of a split.

        Args:
            split (str): ``train`` or ``val``.
            show_progress (bool): Whether to print a progress bar.

        Returns:
            list: In the order of the files' numbers.
        """
        num = dict(train=self.num_train, val=self.num_val)[split]
        return [
            self.make(split, i) for i in track(
                range(num),
                description=f'mini {self.task} data, {split}',
                disable=not show_progress)
        ]

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Make everything and write it.

        Args:
            folder (Path): An empty folder.
        """

    def random_numbers(self, split: str, index: int) -> np.random.Generator:
        """Where everything random of an item comes from."""
        return np.random.default_rng([self.seed, self.streams[split], index])


def check_size(width: int, height: int, widths: tuple[int, int],
               heights: tuple[int, int]) -> None:
    """Refuse pictures that are too small or too large.

    Args:
        width (int): In pixels.
        height (int): In pixels.
        widths (tuple[int, int]): The least and the most.
        heights (tuple[int, int]): The least and the most.

    Raises:
        ValueError: If one is outside of its limits.
    """
    if not (widths[0] <= width <= widths[1]
            and heights[0] <= height <= heights[1]):
        raise ValueError(f'width must be in {list(widths)} and height in '
                         f'{list(heights)}, got {width} and {height}')


def save_jpeg(image: np.ndarray, path: Path) -> None:
    """Write a picture with little loss.

    Args:
        image (np.ndarray): RGB, uint8, shape (H, W, 3).
        path (Path): Ends in ``.jpg``.
    """
    Image.fromarray(image).save(path, quality=95, subsampling=0)
