"""JPEG and JPEG 2000 of pillow, for images and volumes of 8 bits."""
import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image


def _encode(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **options)
    return buffer.getvalue()


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def jpeg(pixels: np.ndarray, quality: int, subsampling: str) -> bytes:
    """Baseline JPEG with Huffman tables of its own."""
    more = dict(subsampling=subsampling) if pixels.ndim == 3 else {}
    return _encode(
        pixels, format='JPEG', quality=quality, optimize=True, **more)


def jpeg2000(pixels: np.ndarray, rate: float) -> bytes:
    """A bare code stream at a compression factor, with the 9-7 wavelet."""
    return _encode(
        pixels,
        format='JPEG2000',
        irreversible=True,
        no_jp2=True,
        quality_mode='rates',
        quality_layers=[rate])


def side_by_side(volume: np.ndarray) -> np.ndarray:
    """Slices (D, H, W) as one picture, in as square a grid as D allows."""
    depth, height, width = volume.shape
    rows = max(n for n in range(1, math.isqrt(depth) + 1) if depth % n == 0)
    grid = volume.reshape(rows, -1, height, width).swapaxes(1, 2)
    return grid.reshape(rows * height, -1)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


def _curve(num_pixels: int, parts: list[np.ndarray],
           encoders: list[Callable]) -> list[dict]:
    """Size and error of all parts together, for each encoder."""
    points = []
    for encoder in encoders:
        files = [encoder(part) for part in parts]
        decoded = np.stack([_decode(data) for data in files])
        points.append(
            dict(
                bpp=8 * sum(map(len, files)) / num_pixels,
                psnr=_psnr(np.stack(parts), decoded)))
    return points


def _front(points: list[dict]) -> list[dict]:
    """Those that no other point beats, by size."""
    front = []
    for point in sorted(points, key=lambda p: p['bpp']):
        if not front or point['psnr'] > front[-1]['psnr']:
            front.append(point)
    return front


def _encoders(bits: int) -> dict[str, list[Callable]]:
    """Settings of the codecs, for pixels of 8 or 24 bits."""
    samplings = ('4:2:0', ) if bits == 8 else ('4:2:0', '4:4:4')
    return {
        'JPEG': [
            lambda p, q=quality, s=sampling: jpeg(p, q, s)
            for quality in range(1, 98, 2) for sampling in samplings
        ],
        'JPEG 2000': [
            lambda p, rate=bits / bpp: jpeg2000(p, rate)
            for bpp in np.geomspace(0.05, 3, 40)
        ]
    }


def best_within(pixels: np.ndarray, codec: str, size: int) -> np.ndarray:
    """What a codec makes of an RGB image in at most so many bytes."""
    files = [encoder(pixels) for encoder in _encoders(24)[codec]]
    decoded = [_decode(data) for data in files if len(data) <= size]
    return max(decoded, key=lambda other: _psnr(pixels, other))


def curves(pixels: np.ndarray, is_volume: bool) -> dict[str, list[dict]]:
    """Rate-distortion curves of the codecs.

    Args:
        pixels (np.ndarray): uint8; (H, W, 3) or, of a volume, (D, H, W).
        is_volume (bool): Then each codec is measured on a file for each
            slice, and on one picture of all slices side by side.

    Returns:
        dict: Name of a codec -> points with ``bpp`` and ``psnr``; of JPEG,
        the better ones of with and without subsampled colours.
    """
    num_pixels = math.prod(pixels.shape[:3 if is_volume else 2])
    ways = {'': [pixels]}
    if is_volume:
        ways = {
            ', a file per slice': list(pixels),
            ', slices side by side': [side_by_side(pixels)]
        }
    return {
        name + way: _front(_curve(num_pixels, parts, encoders))
        for way, parts in ways.items()
        for name, encoders in _encoders(8 if is_volume else 24).items()
    }
