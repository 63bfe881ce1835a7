"""The mini point clouds, on disk in the layout of ModelNet40's text files."""
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .mini_data import MiniData


def _in_disc(rng: np.random.Generator, num: int) -> np.ndarray:
    """Uniform in the unit disc, shape (num, 2)."""
    angle = rng.uniform(0, 2 * np.pi, num)
    radius = np.sqrt(rng.uniform(size=num))
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def _on_circle(rng: np.random.Generator, num: int) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, num)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def sphere(rng: np.random.Generator, num: int) -> np.ndarray:
    """On a sphere of radius 1."""
    points = rng.normal(size=(num, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def cube(rng: np.random.Generator, num: int) -> np.ndarray:
    """On a cube with edges of length 2."""
    points = rng.uniform(-1, 1, (num, 3))
    axis = rng.integers(3, size=num)
    points[np.arange(num), axis] = rng.choice([-1, 1], num)
    return points


def cylinder(rng: np.random.Generator, num: int) -> np.ndarray:
    """On a closed cylinder of radius 1 and height 2."""
    # the side has twice the area of the two ends
    on_side = rng.uniform(size=num) < 2 / 3
    xy = np.where(on_side[:, None], _on_circle(rng, num), _in_disc(rng, num))
    z = np.where(on_side, rng.uniform(-1, 1, num), rng.choice([-1, 1], num))
    return np.column_stack([xy, z])


def cone(rng: np.random.Generator, num: int) -> np.ndarray:
    """On a closed cone of radius 1 and height 2, tip up."""
    # the side has sqrt(5) times the area of the base
    on_side = rng.uniform(size=num) < np.sqrt(5) / (1 + np.sqrt(5))
    xy = _in_disc(rng, num)
    z = np.where(on_side, 1 - 2 * np.linalg.norm(xy, axis=1), -1)
    return np.column_stack([xy, z])


def torus(rng: np.random.Generator, num: int) -> np.ndarray:
    """On a lying torus, 0.7 from the axis to the tube of radius 0.3."""
    # by rejection: the area grows with the distance to the axis
    tube = np.empty(0)
    while len(tube) < num:
        angle = rng.uniform(0, 2 * np.pi, 2 * num)
        kept = rng.uniform(size=2 * num) < (0.7 + 0.3 * np.cos(angle))
        tube = np.append(tube, angle[kept])
    tube = tube[:num]
    xy = (0.7 + 0.3 * np.cos(tube))[:, None] * _on_circle(rng, num)
    return np.column_stack([xy, 0.3 * np.sin(tube)])


SHAPES: dict[str, Callable] = dict(
    sphere=sphere, cube=cube, cylinder=cylinder, cone=cone, torus=torus)


@dataclass(frozen=True)
class MiniPointClouds(MiniData):
    """Noisy points on the surfaces of five solids, to classify.

    A solid is stretched along each of its axes, rotated about the vertical
    axis and scaled; its points are uniform on the surface before that, and get
    normal noise. The files are those of ModelNet40's text release::

        modelnet40_shape_names.txt
        modelnet40_{train,test}.txt      names such as cube_0001
        cube/cube_0001.txt ...           a line per point: x,y,z

    A cloud depends on the seed, its split and its number only: the first ones
    are the same however many there are.

    Args:
        num_train (int): Clouds for training.
        num_val (int): Clouds for validation, in ``modelnet40_test.txt``.
        num_points (int): Points of a cloud.
        stretch (float): Each axis is multiplied by a factor between
            ``1 / stretch`` and ``stretch``.
        noise (float): Standard deviation, in units of the solid's radius.
        seed (int): Of everything random.

    Raises:
        ValueError: On numbers below 1, a negative noise or ``stretch < 1``.
    """
    task = 'point_clouds'
    version = 1
    streams = dict(train=0, val=1)
    kind = '{num_points}_stretch{stretch}_noise{noise}'

    num_train: int = 1600
    num_val: int = 1000
    num_points: int = 256
    stretch: float = 1.25
    noise: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_val, self.num_points) < 1:
            raise ValueError('num_train, num_val and num_points must be at '
                             f'least 1, got {self.num_train}, {self.num_val} '
                             f'and {self.num_points}')
        if self.stretch < 1 or self.noise < 0:
            raise ValueError('stretch must be at least 1 and noise at least '
                             f'0, got {self.stretch} and {self.noise}')

    @property
    def metainfo(self) -> dict:
        """``metainfo`` of an mm dataset."""
        return dict(classes=tuple(SHAPES))

    def make(self, split: str, index: int) -> tuple[np.ndarray, int]:
        """Make a cloud.

        Returns:
            tuple[np.ndarray, int]: Points, shape (num_points, 3), and label.
        """
        rng = self.random_numbers(split, index)
        # as many of each class, in whatever number
        label = index % len(SHAPES)
        points = list(SHAPES.values())[label](rng, self.num_points)
        limit = np.log(self.stretch)
        points = points * np.exp(rng.uniform(-limit, limit, 3))
        cos, sin = _on_circle(rng, 1)[0]
        points[:, :2] = points[:, :2] @ np.array([[cos, sin], [-sin, cos]])
        points = points + rng.normal(0, self.noise, points.shape)
        return points * rng.uniform(0.5, 2), label

    def write(self, folder: Path) -> None:
        """Make everything and write it."""
        names = list(SHAPES)
        for name in names:
            (folder / name).mkdir()
        (folder / 'modelnet40_shape_names.txt').write_text('\n'.join(names) +
                                                           '\n')
        num_written = 0
        for split, file in [('train', 'train'), ('val', 'test')]:
            listed = []
            for points, label in self.make_split(split):
                num_written += 1
                name = f'{names[label]}_{num_written:04d}'
                np.savetxt(
                    folder / names[label] / f'{name}.txt',
                    points,
                    fmt='%.6f',
                    delimiter=',')
                listed.append(name)
            (folder / f'modelnet40_{file}.txt').write_text('\n'.join(listed) +
                                                           '\n')
