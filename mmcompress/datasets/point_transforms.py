"""Transforms of point clouds: ``points`` is float32, shape (N, 3), z is up."""
import numpy as np
from mmcv.transforms import BaseTransform

from mmcompress.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadPoints(BaseTransform):
    """Read a cloud's first points; the releases have them in random order.

    Required keys: ``points_path``, a text file of lines that begin with
    ``x,y,z``; or ``points``. Added key: ``points``.

    Args:
        num_points (int): How many.

    Raises:
        ValueError: If ``num_points < 1``, or a cloud has fewer points.
    """

    def __init__(self, num_points: int = 1024) -> None:
        if num_points < 1:
            raise ValueError(f'num_points must be positive, got {num_points}')
        self.num_points = num_points

    def transform(self, results: dict) -> dict:
        if 'points' in results:
            # a copy: later transforms work in place
            points = np.array(results['points'][:self.num_points], np.float32)
        else:
            points = np.loadtxt(
                results['points_path'],
                np.float32,
                delimiter=',',
                usecols=(0, 1, 2),
                max_rows=self.num_points,
                ndmin=2)
        if len(points) < self.num_points:
            raise ValueError(
                f'{results.get("points_path", "a cloud")} has {len(points)} '
                f'points, fewer than num_points={self.num_points}')
        results['points'] = points
        return results


@TRANSFORMS.register_module()
class NormalizePoints(BaseTransform):
    """Move the mean to the origin, and scale into the unit sphere."""

    def transform(self, results: dict) -> dict:
        points = results['points'] - results['points'].mean(0)
        radius = np.linalg.norm(points, axis=1).max()
        # all points at one place have no size
        results['points'] = points / max(radius, np.finfo(points.dtype).tiny)
        return results


@TRANSFORMS.register_module()
class RotatePoints(BaseTransform):
    """Rotate by a random angle about the axis that points up.

    Args:
        up (str): ``'x'``, ``'y'`` or ``'z'``. ModelNet40 as sampled for
            PointNet has y up.
    """

    def __init__(self, up: str = 'z') -> None:
        if up not in ('x', 'y', 'z'):
            raise ValueError(f"up must be 'x', 'y' or 'z', got {up!r}")
        self.up = up

    def transform(self, results: dict) -> dict:
        angle = np.random.uniform(0, 2 * np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        # the two other axes, in the order that keeps the system right-handed
        first = 'xyz'.index(self.up) - 2
        plane = [first, first + 1]
        points = results['points'].copy()
        points[:, plane] = points[:, plane] @ np.array(
            [[cos, sin], [-sin, cos]], points.dtype)
        results['points'] = points
        return results


@TRANSFORMS.register_module()
class JitterPoints(BaseTransform):
    """Move every point by normal noise.

    Args:
        sigma (float): Standard deviation per coordinate.
        clip (float): Largest move per coordinate.
    """

    def __init__(self, sigma: float = 0.01, clip: float = 0.05) -> None:
        if sigma < 0 or clip < 0:
            raise ValueError('sigma and clip must not be negative, got '
                             f'{sigma} and {clip}')
        self.sigma = sigma
        self.clip = clip

    def transform(self, results: dict) -> dict:
        points = results['points']
        noise = np.random.normal(0, self.sigma, points.shape)
        results['points'] = points + noise.clip(-self.clip, self.clip).astype(
            points.dtype)
        return results


@TRANSFORMS.register_module()
class DropPoints(BaseTransform):
    """Replace a random share of the points by the first one.

    The number of points stays, so that clouds fit into a batch; for the
    maximum over points, a repeated point isn't there.

    Args:
        max_ratio (float): The share of a cloud is uniform in [0, max_ratio].
    """

    def __init__(self, max_ratio: float = 0.875) -> None:
        if not 0 <= max_ratio <= 1:
            raise ValueError(f'max_ratio must be in [0, 1], got {max_ratio}')
        self.max_ratio = max_ratio

    def transform(self, results: dict) -> dict:
        points = results['points'].copy()
        ratio = np.random.uniform(0, self.max_ratio)
        dropped = np.random.uniform(size=len(points)) < ratio
        points[dropped] = points[0]
        results['points'] = points
        return results
