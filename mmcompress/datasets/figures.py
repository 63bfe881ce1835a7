"""Articulated figures with the 133 keypoints of COCO-WholeBody.

Points are ``(x, y)`` with y pointing down. A figure is posed in units of its
own height, with the pelvis at the origin, and faces the viewer: its left is on
the right. Everything random is drawn from the generator that is passed in.
"""
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

# which of the 133 keypoints are whose, in the order of COCO-WholeBody
PARTS = dict(
    body=slice(0, 17),
    foot=slice(17, 23),
    face=slice(23, 91),
    lefthand=slice(91, 112),
    righthand=slice(112, 133))
NUM_KEYPOINTS = 133

# layers, from the back to the front
_RIGHT_LEG, _LEFT_LEG, _TORSO, _HEAD, _RIGHT_ARM, _LEFT_ARM = range(1, 7)
# pixels are drawn as so many squared
_OVERSAMPLING = 3

# in units of the figure's height
_TORSO_LENGTH, _SHOULDER, _HIP = 0.27, 0.105, 0.065
_UPPER_ARM, _FOREARM, _HAND = 0.16, 0.15, 0.12
_THIGH, _SHIN = 0.24, 0.21
_HEAD_RADII = np.array([0.085, 0.11])
# of the fingers, beginning with the thumb: angles to the hand, and distances
# of the joints from the wrist in units of the hand's length
_FINGER_ANGLES = np.array([0.75, 0.28, 0.05, -0.15, -0.38])
_FINGER_JOINTS = np.array([[0.28, 0.48, 0.64, 0.78], [0.50, 0.70, 0.82, 0.93],
                           [0.50, 0.73, 0.87, 1.00], [0.48, 0.69, 0.82, 0.93],
                           [0.45, 0.60, 0.70, 0.80]])


@dataclass(frozen=True)
class Figure:
    """A figure, posed but not drawn.

    Attributes:
        keypoints (np.ndarray): Shape (133, 2).
        crown (np.ndarray): Outline of the hair, shape (N, 2).
        skull (np.ndarray): Outline of the head, shape (N, 2).
        colours (dict[str, tuple]): RGB of ``skin``, ``hair``, ``shirt``,
            ``trousers`` and ``shoes``.
        scale (float): Its height, in the units of the points.
    """
    keypoints: np.ndarray
    crown: np.ndarray
    skull: np.ndarray
    colours: dict[str, tuple]
    scale: float = 1.0

    def placed(self, scale: float, offset: np.ndarray) -> 'Figure':
        """The figure in another size, moved.

        Args:
            scale (float): What all points are multiplied by.
            offset (np.ndarray): What is added then, shape (2, ).
        """
        points = (
            scale * p + offset
            for p in (self.keypoints, self.crown, self.skull))
        return Figure(*points, self.colours, scale * self.scale)


def _direction(angle: float | np.ndarray, side: int) -> np.ndarray:
    """Unit vectors, at 0 down, at pi / 2 away from the body's middle."""
    return np.stack([side * np.sin(angle), np.cos(angle)], -1)


def _face(rng: np.random.Generator) -> np.ndarray:
    """The 68 points of a face within the unit circle, seen from the front."""
    mouth, eyes, brows = rng.uniform([0, 0.3, -0.08], [0.16, 1, 0.06])
    jaw = _direction(np.linspace(-1.65, 1.65, 17), 1) * (0.97, 1)
    brow = np.column_stack([
        np.linspace(-0.75, -0.2, 5),
        brows - 0.46 + np.array([0.1, 0.02, 0, 0.02, 0.05])
    ])
    bridge = np.column_stack([np.zeros(4), np.linspace(-0.22, 0.18, 4)])
    nose = np.column_stack([
        np.linspace(-0.18, 0.18, 5), 0.26 + 0.04 * np.array([0, 1, 1.5, 1, 0])
    ])
    eye = np.array([-0.43, -0.18]) + [0.2, 0.12 * eyes] * np.array(
        [[-1, 0], [-0.4, -1], [0.4, -1], [1, 0], [0.4, 1], [-0.4, 1]])
    # from the outer corner on, as seen in the mirror
    other_eye = (eye * (-1, 1))[[3, 2, 1, 0, 5, 4]]
    angles = np.linspace(-np.pi, np.pi, 12, endpoint=False)
    lips = np.column_stack([0.34 * np.cos(angles), 0.1 * np.sin(angles)])
    lips[:, 1] += mouth * np.sin(angles)
    angles = np.linspace(-np.pi, np.pi, 8, endpoint=False)
    gap = np.column_stack([0.26 * np.cos(angles), mouth * np.sin(angles)])
    return np.concatenate([
        jaw, brow, (brow * (-1, 1))[::-1], bridge, nose, eye, other_eye,
        lips + (0, 0.55), gap + (0, 0.55)
    ])


def _pose_head(rng: np.random.Generator, neck: np.ndarray, lean: float,
               yaw: float) -> tuple[np.ndarray, ...]:
    """Nose, eyes and ears (5, 2), face (68, 2), outlines of hair and head."""
    tilt = lean + rng.uniform(-0.25, 0.25)
    yaw = yaw + rng.uniform(-0.4, 0.4)
    up = np.array([np.sin(tilt), -np.cos(tilt)])
    right = np.array([np.cos(tilt), np.sin(tilt)])
    centre = neck + (0.02 + _HEAD_RADII[1]) * up

    def place(points, depth):
        x, y = (_HEAD_RADII * points).T
        x = x * np.cos(yaw) + _HEAD_RADII[0] * depth * np.sin(yaw)
        return centre + x[:, None] * right - y[:, None] * up

    flat = _face(rng)
    # the head is a ball, apart from the cartoon's flat outline
    face = place(flat, np.sqrt(np.clip(1 - (flat**2).sum(1), 0, None)))
    ears = place(np.array([[1.0, -0.05], [-1.0, -0.05]]), 0)
    eyes = [face[42:48].mean(0), face[36:42].mean(0)]
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    skull = np.column_stack([np.sin(around), -np.cos(around)])
    skull = place(skull / (np.cos(yaw), 1), 0)
    crown = np.linspace(-1.75, 1.75, 24)
    crown = np.column_stack([np.sin(crown), -np.cos(crown)]) * 1.06
    crown = np.concatenate([crown, [[0.7, -0.5], [0, -0.62], [-0.7, -0.5]]])
    crown = place(crown / (np.cos(yaw), 1), 0)
    return np.stack([face[30], *eyes, *ears]), face, crown, skull


def _pose_arm(rng: np.random.Generator, shoulder: np.ndarray,
              side: int) -> tuple[np.ndarray, ...]:
    """Elbow and wrist, each (2, ), and the hand, (21, 2)."""
    angle = rng.uniform(-0.1, 2.4)
    elbow = shoulder + rng.uniform(0.75, 1) * _UPPER_ARM * _direction(
        angle, side)
    angle = angle + rng.uniform(-1.8, 1.4)
    wrist = elbow + rng.uniform(0.75, 1) * _FOREARM * _direction(angle, side)
    angle = angle + rng.uniform(-0.4, 0.4)
    fan = rng.uniform(0.7, 1.4) * _FINGER_ANGLES
    curled = rng.uniform(0.55, 1, size=(5, 1))
    joints = curled * _FINGER_JOINTS + (1 - curled) * _FINGER_JOINTS[:, :1]
    # a hanging hand has its thumb inside
    fingers = joints[..., None] * _direction(angle - fan, side)[:, None]
    hand = wrist + _HAND * np.concatenate([[[0, 0]], fingers.reshape(-1, 2)])
    return elbow, wrist, hand


def _pose_leg(rng: np.random.Generator, hip: np.ndarray,
              side: int) -> tuple[np.ndarray, ...]:
    """Knee and ankle, each (2, ), and big toe, small toe and heel, (3, 2)."""
    raised = rng.random() < 0.2
    angle = rng.uniform(0.5, 1.4) if raised else rng.uniform(-0.02, 0.45)
    knee = hip + rng.uniform(0.85, 1) * _THIGH * _direction(angle, side)
    angle = angle - rng.uniform(0, 0.9 if raised else 0.4)
    ankle = knee + rng.uniform(0.85, 1) * _SHIN * _direction(angle, side)
    # a foot on the ground, seen from a little above
    outward = rng.uniform(0.2, 1.3)
    ahead = np.array([side * np.sin(outward), 0.3 + 0.3 * np.cos(outward)])
    across = np.array([side * np.cos(outward), -0.4 * np.sin(outward)])
    toes = ankle + (0, 0.015) + 0.085 * ahead
    foot = [
        toes - 0.012 * across, toes + 0.018 * across - 0.012 * ahead,
        ankle + (0, 0.03) - 0.02 * ahead
    ]
    return knee, ankle, np.stack(foot)


def pose_figure(rng: np.random.Generator) -> Figure:
    """A standing figure with its limbs anywhere.

    Args:
        rng (np.random.Generator): Where everything random comes from.

    Returns:
        Figure: About 1 high, the pelvis at the origin.
    """
    lean, yaw = rng.uniform(-0.2, 0.2), rng.uniform(-0.5, 0.5)
    up = np.array([np.sin(lean), -np.cos(lean)])
    across = np.cos(yaw) * np.array([np.cos(lean), np.sin(lean)])
    neck = _TORSO_LENGTH * up
    head, face, crown, skull = _pose_head(rng, neck, lean, yaw)
    joints, hands, feet = [], [], []
    for side in (1, -1):
        shoulder = neck + side * _SHOULDER * across
        hip = side * _HIP * across
        elbow, wrist, hand = _pose_arm(rng, shoulder, side)
        knee, ankle, foot = _pose_leg(rng, hip, side)
        joints.append([shoulder, elbow, wrist, hip, knee, ankle])
        hands.append(hand)
        feet.append(foot)
    # left shoulder, right shoulder, left elbow, ...
    limbs = np.swapaxes(joints, 0, 1).reshape(-1, 2)
    keypoints = np.concatenate([head, limbs, *feet, face, *hands])

    def colour(low=20, high=255):
        return tuple(int(n) for n in rng.integers(low, high, 3))

    skin = np.array([255, 205, 170]) * rng.uniform(0.45, 1)
    colours = dict(
        skin=tuple(int(n) for n in skin),
        hair=colour(10, 120),
        shirt=colour(),
        trousers=colour(),
        shoes=colour(10, 200))
    return Figure(keypoints, crown, skull, colours)


class _Canvas:
    """Draws in colour, and beside that which layer is in front."""

    def __init__(self, width: int, height: int) -> None:
        size = (_OVERSAMPLING * width, _OVERSAMPLING * height)
        self.picture = Image.new('RGB', size)
        self.layers = Image.new('L', size)
        self.layer = 0

    def _draw(self, method: str, points: np.ndarray, colour: tuple,
              **kwargs) -> None:
        points = [tuple(p) for p in _OVERSAMPLING * np.asarray(points)]
        for image, fill in ((self.picture, colour), (self.layers, self.layer)):
            getattr(ImageDraw.Draw(image), method)(points, fill=fill, **kwargs)

    def polygon(self, points: np.ndarray, colour: tuple) -> None:
        self._draw('polygon', points, colour)

    def disc(self, centre: np.ndarray, radius: float, colour: tuple) -> None:
        self._draw('ellipse', [centre - radius, centre + radius], colour)

    def line(self, points: np.ndarray, width: float, colour: tuple) -> None:
        """With round ends and bends."""
        pixels = max(1, round(_OVERSAMPLING * width))
        self._draw('line', points, colour, width=pixels)
        if pixels > 2:
            for point in points:
                self.disc(np.asarray(point), width / 2, colour)


def _draw_face(canvas: _Canvas, figure: Figure) -> None:
    face, scale = figure.keypoints[PARTS['face']], figure.scale
    skin = np.array(figure.colours['skin'])
    shade = tuple(int(n) for n in 0.6 * skin)
    thin = 0.008 * scale
    canvas.polygon(figure.skull, tuple(skin))
    canvas.polygon(figure.crown, figure.colours['hair'])
    for ear in figure.keypoints[3:5]:
        canvas.disc(ear, 0.018 * scale, tuple(skin))
    for brow in (face[17:22], face[22:27]):
        canvas.line(brow, thin, figure.colours['hair'])
    canvas.line(face[27:31], thin, shade)
    canvas.line(face[31:36], thin, shade)
    for eye in (face[36:42], face[42:48]):
        canvas.polygon(eye, (245, 245, 245))
        canvas.disc(eye.mean(0), 0.008 * scale, (20, 20, 40))
    canvas.polygon(face[48:60], (190, 60, 70))
    canvas.polygon(face[60:68], (60, 10, 20))


def _draw_leg(canvas: _Canvas, figure: Figure, side: int) -> None:
    points, scale, colours = figure.keypoints, figure.scale, figure.colours
    hip, knee, ankle = points[[11 + side, 13 + side, 15 + side]]
    big_toe, small_toe, heel = points[17 + 3 * side:20 + 3 * side]
    shoe = [ankle, big_toe, small_toe, heel]
    canvas.polygon(shoe, colours['shoes'])
    for toe in (big_toe, small_toe):
        canvas.line([heel, toe], 0.03 * scale, colours['shoes'])
    canvas.line([hip, knee], 0.085 * scale, colours['trousers'])
    canvas.line([knee, ankle], 0.06 * scale, colours['trousers'])


def _draw_torso(canvas: _Canvas, figure: Figure) -> None:
    points, scale, colours = figure.keypoints, figure.scale, figure.colours
    left, right, left_hip, right_hip = points[[5, 6, 11, 12]]
    canvas.line([left_hip, right_hip], 0.08 * scale, colours['trousers'])
    canvas.polygon([left, right, right_hip, left_hip], colours['shirt'])
    canvas.line([left, right], 0.06 * scale, colours['shirt'])
    neck = (left + right) / 2
    canvas.line([neck, figure.skull.mean(0)], 0.06 * scale, colours['skin'])


def _draw_arm(canvas: _Canvas, figure: Figure, side: int) -> None:
    points, scale, colours = figure.keypoints, figure.scale, figure.colours
    shoulder, elbow, wrist = points[[5 + side, 7 + side, 9 + side]]
    hand = points[PARTS['righthand' if side else 'lefthand']]
    canvas.line([shoulder, elbow], 0.06 * scale, colours['shirt'])
    canvas.line([elbow, wrist], 0.042 * scale, colours['skin'])
    # wrist and the first joints of the fingers
    canvas.polygon(hand[[0, 1, 5, 9, 13, 17]], colours['skin'])
    for finger in hand[1:].reshape(5, 4, 2):
        canvas.line([hand[0], *finger], 0.016 * scale, colours['skin'])


def _layers_of_keypoints() -> np.ndarray:
    """On which layer each keypoint lies, shape (133, )."""
    layers = np.full(NUM_KEYPOINTS, _HEAD)
    layers[5:11] = [_LEFT_ARM, _RIGHT_ARM] * 3
    layers[11:13] = _TORSO
    layers[13:17] = [_LEFT_LEG, _RIGHT_LEG] * 2
    layers[PARTS['foot']] = [_LEFT_LEG] * 3 + [_RIGHT_LEG] * 3
    layers[PARTS['lefthand']] = _LEFT_ARM
    layers[PARTS['righthand']] = _RIGHT_ARM
    return layers


def draw_figure(figure: Figure, width: int,
                height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a figure, and find the keypoints that its own limbs hide.

    Args:
        figure (Figure): In pixels.
        width (int): Of the picture.
        height (int): Of the picture.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: Colours in [0, 255] times
        opacity, shape (height, width, 3); opacity in [0, 1], shape (height,
        width); which keypoints lie outside of the picture or behind another
        part of the figure, bool, shape (133, ).
    """
    canvas = _Canvas(width, height)
    # in the order of the layers
    for layer, draw in [
        (_RIGHT_LEG, lambda: _draw_leg(canvas, figure, 1)),
        (_LEFT_LEG, lambda: _draw_leg(canvas, figure, 0)),
        (_TORSO, lambda: _draw_torso(canvas, figure)),
        (_HEAD, lambda: _draw_face(canvas, figure)),
        (_RIGHT_ARM, lambda: _draw_arm(canvas, figure, 1)),
        (_LEFT_ARM, lambda: _draw_arm(canvas, figure, 0)),
    ]:
        canvas.layer = layer
        draw()
    colours = np.asarray(canvas.picture.reduce(_OVERSAMPLING), dtype=float)
    front = np.asarray(canvas.layers)
    covered = Image.fromarray(np.uint8(255 * (front > 0)))
    opacity = np.asarray(covered.reduce(_OVERSAMPLING)) / 255
    x, y = np.floor(_OVERSAMPLING * figure.keypoints).astype(int).T
    inside = (x >= 0) & (x < front.shape[1]) & (y >= 0) & (y < front.shape[0])
    hidden = ~inside
    hidden[inside] = (
        front[y[inside], x[inside]] > _layers_of_keypoints()[inside])
    return colours, opacity, hidden
