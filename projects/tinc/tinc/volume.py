"""A volume by formulas: blobs, a hollow shell and a texture."""
import numpy as np

_BLOBS = 12


def render_volume(size: int = 48, seed: int = 0) -> np.ndarray:
    """Render a cube of grey voxels.

    Twelve Gaussian blobs, a spherical shell with a soft edge, and inside of
    one half of the shell a sinusoidal texture.

    Args:
        size (int): Voxels along each axis.
        seed (int): Of the places and sizes of the blobs.

    Returns:
        np.ndarray: uint8, shape (size, size, size).

    Raises:
        ValueError: If there is no voxel.
    """
    if size < 1:
        raise ValueError(f'a volume needs a positive size, got {size}')
    rng = np.random.default_rng(seed)
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    z, y, x = np.meshgrid(axis, axis, axis, indexing='ij')
    density = np.zeros((size, ) * 3)
    for _ in range(_BLOBS):
        centre = rng.uniform(-0.7, 0.7, 3)
        width = rng.uniform(0.08, 0.25)
        height = rng.uniform(0.3, 1.0)
        square = sum((a - c)**2 for a, c in zip((z, y, x), centre))
        density += height * np.exp(-square / (2 * width**2))
    radius = np.sqrt(z**2 + y**2 + x**2)
    density += 0.8 / (1 + np.exp(-(0.06 - abs(radius - 0.8)) / 0.015))
    texture = np.sin(14 * x + 3 * z) * np.sin(11 * y - 4 * x)
    density += 0.25 * (1 + texture) * ((radius < 0.74) & (x > 0))
    return np.round(255 * density / density.max()).astype(np.uint8)
