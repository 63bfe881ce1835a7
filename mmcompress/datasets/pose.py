"""The mini pose data, on disk in the format of COCO-WholeBody."""
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .digits import Material, crop_photo, draw_digit, load_material, paint
from .figures import PARTS, Figure, draw_figure, pose_figure
from .masks import encode_mask
from .mini_data import MiniData, check_size, save_jpeg

# as in COCO
OUTSIDE, HIDDEN, VISIBLE = 0, 1, 2


@dataclass
class Person:
    """A figure on a picture.

    Attributes:
        keypoints (np.ndarray): ``x, y`` in pixels, shape (133, 2).
        visibility (np.ndarray): 0 outside of the picture, 1 hidden, 2
            visible, shape (133, ).
        mask (np.ndarray): Where it is seen, bool, shape (H, W).
    """
    keypoints: np.ndarray
    visibility: np.ndarray
    mask: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """``x1, y1, x2, y2`` of what is seen; the ends are exclusive."""
        ys, = np.nonzero(self.mask.any(1))
        xs, = np.nonzero(self.mask.any(0))
        return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1

    def cover(self, opaque: np.ndarray) -> None:
        """Let something stand in front of it.

        Args:
            opaque (np.ndarray): Where that is, bool, shape (H, W).
        """
        self.mask &= ~opaque
        for i in np.flatnonzero(self.visibility == VISIBLE):
            x, y = self.keypoints[i].astype(int)
            if opaque[y, x]:
                self.visibility[i] = HIDDEN


@dataclass(frozen=True)
class Group:
    """A picture and the figures on it.

    Attributes:
        image (np.ndarray): RGB, uint8, shape (H, W, 3).
        persons (list[Person]): Of each at least some of the body is seen.
    """
    image: np.ndarray
    persons: list[Person]


def _place(rng: np.random.Generator, figure: Figure, width: int,
           height: int) -> Figure:
    """Entirely inside where it fits, or else with the legs cut off."""
    scale = np.exp(rng.uniform(np.log(0.6), np.log(1.5))) * height
    low, high = (scale * f(figure.keypoints, axis=0) for f in (np.min, np.max))
    # the hair is higher than all keypoints
    low, high = low - 0.06 * scale, high + 0.02 * scale
    room = np.array([width, height]) - (high - low)
    # a little may be cut off at the sides, but not of the head
    spare = 0.1 * scale * np.array([1, 0])
    at = rng.uniform(np.minimum(room, 0) - spare, np.maximum(room, 0) + spare)
    at[1] = max(at[1], 0)
    return figure.placed(scale, at - low)


def _add_figure(rng: np.random.Generator, image: np.ndarray) -> Person:
    height, width = image.shape[:2]
    figure = _place(rng, pose_figure(rng), width, height)
    colours, opacity, hidden = draw_figure(figure, width, height)
    image *= 1 - opacity[..., None]
    image += colours
    points = figure.keypoints
    outside = ((points < 0) | (points >= (width, height))).any(1)
    visibility = np.select([outside, hidden], [OUTSIDE, HIDDEN], VISIBLE)
    return Person(points, visibility, opacity >= 0.5)


def _add_digit(rng: np.random.Generator, image: np.ndarray, material: Material,
               centre: np.ndarray) -> np.ndarray:
    """Paint a digit, and return where it is, bool, shape (H, W)."""
    digit = material.digits[rng.integers(len(material.digits))]
    opacity = draw_digit(
        digit,
        height=rng.uniform(25, 50),
        aspect=rng.uniform(0.8, 1.25),
        angle=rng.uniform(-0.4, 0.4),
        shear=0.0)
    h, w = opacity.shape
    x, y = np.clip(
        np.rint(centre - (w / 2, h / 2)), 0,
        np.array(image.shape[1::-1]) - (w, h)).astype(int)
    paint(rng, image, opacity, x, y)
    opaque = np.zeros(image.shape[:2], bool)
    opaque[y:y + h, x:x + w] = opacity >= 0.5
    return opaque


def _well_seen(person: Person) -> bool:
    """Whether a third of the body is, the least that has a pose."""
    return (person.visibility[PARTS['body']] == VISIBLE).sum() >= 6


def draw_group(rng: np.random.Generator,
               material: Material,
               width: int,
               height: int,
               second: float = 0.3,
               covered: float = 0.4) -> Group:
    """Put one or two figures on a crop of a photo.

    Args:
        rng (np.random.Generator): Where everything random comes from.
        material (Material): Digits and photos.
        width (int): Of the picture.
        height (int): Of the picture.
        second (float): Share of the pictures with a second figure, which may
            cover a part of the first.
        covered (float): Share of the pictures with a digit in front.

    Returns:
        Group: With at least one figure.
    """
    while True:
        image = crop_photo(rng, material.photos, width, height)
        persons = []
        for _ in range(1 + (rng.random() < second)):
            person = _add_figure(rng, image)
            for other in persons:
                other.cover(person.mask)
            persons.append(person)
        if rng.random() < covered:
            inside = persons[-1].keypoints[persons[-1].visibility != OUTSIDE]
            opaque = _add_digit(rng, image, material, rng.choice(inside))
            for person in persons:
                person.cover(opaque)
        # a figure of which little is seen would have to be left out
        if all(_well_seen(person) for person in persons):
            break
    image = image + rng.normal(0, rng.uniform(0, 6), size=image.shape)
    return Group(np.clip(np.rint(image), 0, 255).astype(np.uint8), persons)


def _xywh(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    return [x1, y1, x2 - x1, y2 - y1]


def _annotation(person: Person) -> dict:
    """What COCO-WholeBody says of a person, apart from numbers of images."""
    labelled = person.visibility != OUTSIDE
    points = np.column_stack(
        [np.round(person.keypoints, 2), person.visibility]) * labelled[:, None]
    annotation = dict(
        category_id=1,
        iscrowd=0,
        bbox=_xywh(*person.box),
        area=int(person.mask.sum()),
        segmentation=encode_mask(person.mask),
        num_keypoints=int(labelled[PARTS['body']].sum()),
        keypoints=points[PARTS['body']].ravel().tolist())
    for part in ('foot', 'face', 'lefthand', 'righthand'):
        annotation[f'{part}_kpts'] = points[PARTS[part]].ravel().tolist()
        inside = points[PARTS[part]][labelled[PARTS[part]], :2]
        annotation[f'{part}_valid'] = len(inside) > 0
        if part != 'foot':
            annotation[f'{part}_box'] = [0.0] * 4 if not len(inside) else (
                _xywh(*inside.min(0).tolist(),
                      *inside.max(0).tolist()))
    return annotation


def _coco_json(names: list[str], groups: list[Group]) -> str:
    images, annotations = [], []
    for image_id, (name, group) in enumerate(zip(names, groups), start=1):
        height, width = group.image.shape[:2]
        images.append(
            dict(id=image_id, file_name=name, width=width, height=height))
        for person in group.persons:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    **_annotation(person)))
    return json.dumps(
        dict(
            images=images,
            annotations=annotations,
            categories=[dict(id=1, name='person', supercategory='person')]))


@dataclass(frozen=True)
class MiniPose(MiniData):
    """Articulated figures on photos, whose 133 keypoints are to be found.

    The files::

        annotations/{train,val}.json     COCO-WholeBody
        images/{train,val}/00000.jpg ...

    An image depends on the seed, its split and its number only: the first
    ones are the same however many there are.

    Args:
        num_train (int): Images for training, with 1.3 figures on average.
        num_val (int): Images for validation.
        width (int): Of an image, in pixels.
        height (int): Of an image, in pixels.
        seed (int): Of everything random.

    Raises:
        ValueError: If a number of images is less than 1, or an image is too
            small for a figure or too large for the photos.
    """
    task = 'pose'
    version = 1
    streams = dict(train=6, val=7)

    num_train: int = 1000
    num_val: int = 200
    width: int = 128
    height: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # room for arms and digits; the largest crop must fit into a photo
        check_size(self.width, self.height, (96, 170), (96, 320))

    @property
    def metainfo(self) -> dict:
        """``metainfo`` of an mm dataset: names, sigmas, ... of mmpose."""
        return dict(from_file='configs/_base_/datasets/coco_wholebody.py')

    def make(self, split: str, index: int) -> Group:
        """Draw a picture."""
        return draw_group(
            self.random_numbers(split, index),
            load_material()[split], self.width, self.height)

    def write(self, folder: Path) -> None:
        """Draw everything and write it."""
        (folder / 'annotations').mkdir()
        for split in ('train', 'val'):
            images = folder / 'images' / split
            images.mkdir(parents=True)
            groups = self.make_split(split, show_progress=True)
            names = [f'{i:05d}.jpg' for i in range(len(groups))]
            for name, group in zip(names, groups):
                save_jpeg(group.image, images / name)
            (folder / f'annotations/{split}.json').write_text(
                _coco_json(names, groups))
