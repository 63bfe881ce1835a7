"""Scenes drawn from real material: handwritten digits on crops of photos.

The digits are the 1,797 of 8x8 pixels, and the photos the two, that come with
scikit-learn. Everything random is drawn from the generator that is passed in.
"""
from colorsys import rgb_to_hsv
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
           'eight', 'nine')
PALETTE = [(220, 20, 60), (0, 150, 136), (255, 193, 7), (33, 150, 243),
           (156, 39, 176), (255, 112, 67), (76, 175, 80), (233, 30, 99),
           (121, 85, 72), (63, 81, 181)]
# the photos left of this column are for training, the rest for validation
_SPLIT_COLUMN = 416
_NUM_TRAIN_DIGITS = 1300


@dataclass(frozen=True)
class Material:
    """What the scenes of one split are made of.

    Attributes:
        digits (np.ndarray): Ink in [0, 1], shape (number of digits, 8, 8).
        labels (np.ndarray): Shape (number of digits, ).
        photos (list[np.ndarray]): RGB, uint8, shape (H, W, 3).
    """
    digits: np.ndarray
    labels: np.ndarray
    photos: list[np.ndarray]


@dataclass(frozen=True)
class Scene:
    """A picture and what is on it.

    Attributes:
        image (np.ndarray): RGB, uint8, shape (H, W, 3).
        labels (list[int]): Class of each digit.
        boxes (list[list[int]]): ``x1, y1, x2, y2`` of each digit's ink, where
            pixel ``(x, y)`` covers ``[x, x + 1) * [y, y + 1)``. Ink that a
            later digit covers counts.
        masks (list[np.ndarray]): Where the ink of each digit is, bool, of
            its box's shape; here, too, what a later digit covers counts.
            Empty if the picture is to be classified.
    """
    image: np.ndarray
    labels: list[int]
    boxes: list[list[int]]
    masks: list[np.ndarray] = field(default_factory=list)


@cache
def load_material() -> dict[str, Material]:
    """Load the digits and photos of scikit-learn.

    Returns:
        dict[str, Material]: ``train`` and ``val``, which share no digit and
        no part of a photo.
    """
    from sklearn.datasets import load_digits, load_sample_images
    digits = load_digits()
    photos = load_sample_images().images
    order = np.random.default_rng(0).permutation(len(digits.target))

    def material(indices, columns):
        return Material(digits.images[indices] / 16, digits.target[indices],
                        [photo[:, columns] for photo in photos])

    return dict(
        train=material(order[:_NUM_TRAIN_DIGITS], slice(0, _SPLIT_COLUMN)),
        val=material(order[_NUM_TRAIN_DIGITS:], slice(_SPLIT_COLUMN, None)))


def _cubic(t: np.ndarray) -> np.ndarray:
    """Weights of the four neighbours at ``t`` in [0, 1): Catmull-Rom."""
    return np.stack([((2 - t) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2,
                     ((4 - 3 * t) * t + 1) * t / 2, (t - 1) * t * t / 2], -1)


def draw_digit(digit: np.ndarray, height: float, aspect: float, angle: float,
               shear: float) -> np.ndarray:
    """Enlarge, slant and turn a digit.

    Args:
        digit (np.ndarray): Ink in [0, 1], shape (8, 8).
        height (float): Height of the 8 rows in pixels, before turning.
        aspect (float): Width of a column over height of a row.
        angle (float): In radians.
        shear (float): Horizontal shift per height.

    Returns:
        np.ndarray: Opacity in [0, 1], cropped to the pixels of at least 0.5,
        shape (h, w).
    """
    cos, sin = np.cos(angle), np.sin(angle)
    # room for the turned digit and half a cell around it, in pixels; its
    # centre is at the origin
    room, width = 9 / 16 * height, aspect + abs(shear)
    half_h = int(np.ceil(room * (abs(cos) + width * abs(sin))))
    half_w = int(np.ceil(room * (abs(sin) + width * abs(cos))))
    y, x = np.mgrid[-half_h:half_h + 1, -half_w:half_w + 1].astype(float)
    row = (cos * y - sin * x) / height
    column = ((cos * x + sin * y) / height - shear * row) / aspect
    # the digit has a margin, so that the curve falls to 0 outside
    margin = 4
    padded = np.pad(digit, margin)
    row = np.clip(row * 8 + 3.5 + margin, 1, 4 + 2 * margin + 1)
    column = np.clip(column * 8 + 3.5 + margin, 1, 4 + 2 * margin + 1)
    top, left = row.astype(int), column.astype(int)
    rows = top[..., None] + np.arange(-1, 3)
    columns = left[..., None] + np.arange(-1, 3)
    values = padded[rows[..., :, None], columns[..., None, :]]
    ink = np.einsum('hwij,hwi,hwj->hw', values, _cubic(row - top),
                    _cubic(column - left))
    # a soft edge of about a pixel, whatever the size
    opacity = np.clip((ink - 0.4) * height / 12 + 0.5, 0, 1)
    covered = opacity >= 0.5
    ys, = np.nonzero(covered.any(1))
    xs, = np.nonzero(covered.any(0))
    return opacity[ys[0]:ys[-1] + 1, xs[0]:xs[-1] + 1]


def crop_photo(rng: np.random.Generator,
               photos: list[np.ndarray],
               width: int,
               height: int,
               min_scale: float = 0.7,
               max_scale: float = 1.3) -> np.ndarray:
    """A dim crop of one of the photos, mirrored half of the time.

    Args:
        rng (np.random.Generator): Where everything random comes from.
        photos (list[np.ndarray]): RGB, uint8.
        width (int): Of the result.
        height (int): Of the result.
        min_scale (float): Pixels of the photo per pixel, at least.
        max_scale (float): Pixels of the photo per pixel, at most.

    Returns:
        np.ndarray: RGB in [0, 255], float, shape (height, width, 3).
    """
    photo = photos[rng.integers(len(photos))]
    scale = rng.uniform(min_scale, max_scale)
    w, h = scale * width, scale * height
    x = rng.uniform(0, photo.shape[1] - w)
    y = rng.uniform(0, photo.shape[0] - h)
    left, top = int(x), int(y)
    part = photo[top:int(np.ceil(y + h)), left:int(np.ceil(x + w))]
    x, y = x - left, y - top
    crop = Image.fromarray(part).resize((width, height),
                                        Image.Resampling.BICUBIC,
                                        box=(x, y, x + w, y + h))
    image = np.asarray(crop, dtype=float)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    # dim, so that digits of any colour can be brighter
    return image * rng.uniform(0.3, 0.6)


def pick_colour(rng: np.random.Generator,
                behind: np.ndarray,
                contrast: float = 60,
                hue: float = 0.0,
                max_turn: float = 0.5) -> np.ndarray:
    """A colour that is brighter than the mean colour behind the digit.

    Args:
        rng (np.random.Generator): Where everything random comes from.
        behind (np.ndarray): RGB in [0, 255], shape (3, ).
        contrast (float): Least difference in luma, where there is room.
        hue (float): Middle of the hues, in turns of the colour wheel.
        max_turn (float): Largest distance from it; half a turn is any hue.

    Returns:
        np.ndarray: RGB in [60, 255].
    """
    luma = np.array([0.299, 0.587, 0.114])
    # where earlier digits shine through, there may be nothing as bright
    least = min(behind @ luma + contrast, 200)
    while True:
        colour = rng.uniform(60, 255, size=3)
        turn = abs((rgb_to_hsv(*colour)[0] - hue + 0.5) % 1 - 0.5)
        if colour @ luma > least and turn <= max_turn:
            return colour


def paint(rng: np.random.Generator, image: np.ndarray, opacity: np.ndarray,
          x: int, y: int, **colour) -> list[int]:
    """Paint a digit, in a colour that is brighter than what is behind it.

    Args:
        rng (np.random.Generator): Where the colour comes from.
        image (np.ndarray): RGB in [0, 255], changed in place, shape (H, W, 3).
        opacity (np.ndarray): From :func:`draw_digit`, shape (h, w).
        x (int): Where its left side comes to lie; may be outside.
        y (int): Where its upper side comes to lie; may be outside.
        **colour: For :func:`pick_colour`.

    Returns:
        list[int]: ``x1, y1, x2, y2`` of what is inside of the image.
    """
    (height, width), (h, w) = image.shape[:2], opacity.shape
    x1, x2 = np.clip([x, x + w], 0, width).tolist()
    y1, y2 = np.clip([y, y + h], 0, height).tolist()
    opacity = opacity[y1 - y:y2 - y, x1 - x:x2 - x]
    behind = image[y1:y2, x1:x2]
    if opacity.size:
        brighter = pick_colour(rng, behind.mean((0, 1)), **colour)
        behind += opacity[..., None] * (brighter - behind)
    return [x1, y1, x2, y2]


def _overlap(box: list[int], boxes: list[list[int]]) -> float:
    """Largest share of the smaller of two boxes that both cover."""
    shares = [0.0]
    for other in boxes:
        w = min(box[2], other[2]) - max(box[0], other[0])
        h = min(box[3], other[3]) - max(box[1], other[1])
        if w > 0 and h > 0:
            area = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
            shares.append(w * h / area)
    return max(shares)


def draw_scene(rng: np.random.Generator,
               material: Material,
               width: int,
               height: int,
               max_digits: int = 8,
               empty: float = 0.04,
               max_overlap: float = 0.2,
               min_size: float = 22,
               max_size: float = 56,
               max_turn: float = 0.5) -> Scene:
    """Put digits of different size on a crop of a photo.

    Args:
        rng (np.random.Generator): Where everything random comes from.
        material (Material): Digits and photos.
        width (int): Of the image.
        height (int): Of the image.
        max_digits (int): An image has 1 to ``max_digits`` digits.
        empty (float): Share of the images that have none.
        max_overlap (float): Largest share of the smaller of two boxes that
            both may cover.
        min_size (float): Height of the smallest digit's 8 rows, in pixels.
        max_size (float): Height of the largest digit's 8 rows, in pixels.
        max_turn (float): Each class has a hue of its own, and its digits
            differ from that by at most so many turns of the colour wheel;
            half a turn is any hue.

    Returns:
        Scene: The digits lie entirely inside.
    """
    image = crop_photo(rng, material.photos, width, height)
    num_digits = 0 if rng.random() < empty else rng.integers(1, max_digits + 1)
    labels, boxes, masks = [], [], []
    for _ in range(num_digits):
        index = rng.integers(len(material.labels))
        opacity = draw_digit(
            material.digits[index],
            # as many between 22 and 33 pixels as between 36 and 54
            height=np.exp(rng.uniform(np.log(min_size), np.log(max_size))),
            aspect=rng.uniform(0.8, 1.25),
            angle=rng.uniform(-0.2, 0.2),
            shear=rng.uniform(-0.15, 0.15))
        h, w = opacity.shape
        # a digit that finds no place in ten tries is left out
        for _ in range(10):
            x = int(rng.integers(0, width - w + 1))
            y = int(rng.integers(0, height - h + 1))
            box = [x, y, x + w, y + h]
            if _overlap(box, boxes) <= max_overlap:
                break
        else:
            continue
        label = int(material.labels[index])
        paint(
            rng,
            image,
            opacity,
            x,
            y,
            hue=label / len(CLASSES),
            max_turn=max_turn)
        labels.append(label)
        boxes.append(box)
        masks.append(opacity >= 0.5)
    image = image + rng.normal(0, rng.uniform(0, 6), size=image.shape)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return Scene(image, labels, boxes, masks)
