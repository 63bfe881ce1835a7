"""Images and volumes: files, their pixels, and real values in [-1, 1]."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from .volume import render_volume

DTYPES = ('uint8', 'uint16', 'float32', 'float64')
_TIFF = ('.tif', '.tiff')
# formats of pillow that keep all pixels
_LOSSLESS = ('.png', *_TIFF, '.bmp', '.pgm', '.ppm', '.pnm')
# of pillow, and what their pixels are here
_MODES = {
    'L': 'uint8',
    'RGB': 'uint8',
    'I;16': 'uint16',
    'I;16L': 'uint16',
    'I;16B': 'uint16',
    'F': 'float32'
}


@dataclass(frozen=True, eq=False)
class Signal:
    """An image or a volume.

    Attributes:
        pixels (np.ndarray): Shape (H, W, C) or (D, H, W, C), with C = 1 or,
            for RGB images, 3; one of the dtypes in ``DTYPES``.
        low (float): The value that becomes -1; of one that was compressed,
            the least pixel.
        high (float): The value that becomes 1; likewise the largest.
    """
    pixels: np.ndarray
    low: float
    high: float

    @classmethod
    def of(cls, pixels: np.ndarray) -> 'Signal':
        """A signal with the range of its pixels.

        Args:
            pixels (np.ndarray): As the attribute.

        Raises:
            TypeError: On another dtype.
            ValueError: On another number of axes, no pixel, or values that
                are not finite in float32, or of a range that is lost there.
        """
        if pixels.dtype.name not in DTYPES:
            raise TypeError(f'pixels must be {", ".join(DTYPES)}, got '
                            f'{pixels.dtype}; convert them first')
        if pixels.ndim not in (3, 4) or not pixels.size:
            raise ValueError('pixels must be (H, W, C) or (D, H, W, C), and '
                             f'some, got shape {pixels.shape}')
        with np.errstate(over='ignore'):
            low, high = (
                float(np.float32(v)) for v in (pixels.min(), pixels.max()))
        if not np.isfinite([low, high]).all():
            raise ValueError('pixels must be finite numbers of float32, got '
                             f'values between {low} and {high}')
        least, largest = float(pixels.min()), float(pixels.max())
        if max(abs(low - least),
               abs(high - largest)) > 1e-3 * (largest - least) > 0:
            raise ValueError(
                f'pixels go from {least} to {largest}, a range that float32 '
                'does not resolve so far from zero: subtract a constant first')
        return cls(pixels, low, high)

    @property
    def shape(self) -> tuple[int, ...]:
        """Without channels."""
        return self.pixels.shape[:-1]

    @property
    def channels(self) -> int:
        return self.pixels.shape[-1]

    @property
    def num_pixels(self) -> int:
        """Pixels or voxels; channels don't count."""
        return int(np.prod(self.shape))

    @property
    def peak(self) -> float:
        """What a PSNR refers to: the largest integer, or the range; of equal
        real numbers their size."""
        if self.pixels.dtype.kind == 'u':
            return float(np.iinfo(self.pixels.dtype).max)
        return self.high - self.low or abs(self.high) or 1.

    def normalized(self) -> np.ndarray:
        """Pixels in [-1, 1], float32; zeros if all are equal."""
        if self.high == self.low:
            return np.zeros(self.pixels.shape, np.float32)
        unit = (self.pixels.astype(np.float64) - self.low) / (
            self.high - self.low)
        return (2 * unit - 1).astype(np.float32)


def from_normalized(values: np.ndarray, low: float, high: float,
                    dtype: str) -> Signal:
    """The signal of real values; what is beyond [-1, 1] is clipped.

    Args:
        values (np.ndarray): Shape (H, W, C) or (D, H, W, C).
        low (float): What -1 stands for.
        high (float): What 1 stands for.
        dtype (str): Of the pixels; those of integers are rounded.
    """
    unit = (np.clip(values.astype(np.float64), -1, 1) + 1) / 2
    pixels = low + unit * (high - low)
    if np.dtype(dtype).kind == 'u':
        pixels = pixels.round()
    return Signal(pixels.astype(dtype), low, high)


def psnr(original: Signal, other: Signal) -> float:
    """Peak signal-to-noise ratio in dB, over all pixels and channels."""
    error = np.square(original.pixels.astype(np.float64) - other.pixels).mean()
    if error == 0:
        return float('inf')
    return float(10 * np.log10(original.peak**2 / error))


# ---- Files ------------------------------------------------------------------


def _frame(frame: Image.Image, file: str) -> np.ndarray:
    if frame.mode not in _MODES:
        raise ValueError(
            f'{file}: pixels of mode {frame.mode} are not supported, only '
            'grey (8 or 16 bits, float) and RGB; convert the file first, '
            "such as by Image.open(file).convert('RGB')")
    # of colours of 16 bits, pillow drops the lower half
    stored = [t[3] if isinstance(t[3], str) else t[3][0] for t in frame.tile]
    if frame.mode == 'RGB' and any(';16' in str(mode) for mode in stored):
        raise ValueError(f'{file}: colours of 16 bits are not supported; '
                         'convert the file to 8 bits first')
    array = np.asarray(frame).astype(_MODES[frame.mode])
    return array if array.ndim == 3 else array[..., None]


def _read_image(file: str) -> np.ndarray:
    try:
        with Image.open(file) as image:
            frames = [_frame(f, file) for f in ImageSequence.Iterator(image)]
    except Image.DecompressionBombError as error:
        raise ValueError(f'{file}: {error}') from error
    if len(frames) == 1:
        return frames[0]
    if len({f.shape for f in frames}) > 1 or frames[0].shape[-1] > 1:
        raise ValueError(f'{file}: the {len(frames)} frames of a stack must '
                         'be grey and of one size')
    return np.stack(frames)


def _read_array(file: str) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f'{file} can not be read as an array: {error}') \
            from error
    if array.ndim not in (2, 3):
        raise ValueError(f'{file}: an array must be a grey image (H, W) or a '
                         f'volume (D, H, W), got shape {array.shape}')
    return array[..., None]


def _read_sample(name: str) -> np.ndarray:
    from sklearn.datasets import load_sample_image
    return np.ascontiguousarray(load_sample_image(name))


def load_signal(file: str | Path, crop: Sequence[int] | None = None) -> Signal:
    """Read a signal.

    Args:
        file (str | Path): An image that pillow reads, grey or RGB; a TIFF of
            several grey frames or a ``.npy`` file of shape (D, H, W), which
            are volumes; ``sklearn:china.jpg`` and ``sklearn:flower.jpg``,
            photos that scikit-learn ships; ``rendered:48``, a volume of 48^3
            voxels (:func:`~tinc.volume.render_volume`).
        crop (Sequence[int] | None): Where it starts on each axis, then its
            size on each: top, left, height, width of an image.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the crop is not inside, or the file isn't supported.
    """
    file = str(file)
    scheme, _, name = file.partition(':')
    if scheme == 'sklearn':
        pixels = _read_sample(name)
    elif scheme == 'rendered':
        if not name.isdecimal():
            raise ValueError(f'{file}: write a number of voxels behind the '
                             'colon, such as rendered:48')
        pixels = render_volume(int(name))[..., None]
    elif file.lower().endswith('.npy'):
        pixels = _read_array(file)
    else:
        pixels = _read_image(file)
    if crop is not None:
        dims = pixels.ndim - 1
        starts, sizes = crop[:dims], crop[dims:]
        ends = [a + b for a, b in zip(starts, sizes)]
        if len(crop) != 2 * dims or min(crop) < 0 or min(sizes) < 1 or any(
                end > size for end, size in zip(ends, pixels.shape)):
            raise ValueError(
                f'crop={list(crop)} must be {dims} starts and {dims} sizes '
                f'inside of {file}, which is {pixels.shape[:-1]}')
        pixels = pixels[tuple(map(slice, starts, ends))]
    return Signal.of(pixels)


def _write_image(pixels: np.ndarray, path: Path) -> None:
    is_volume, suffix = pixels.ndim == 4, path.suffix.lower()
    if is_volume and suffix not in _TIFF:
        raise ValueError(f'{path}: a volume is written as .npy or .tif')
    if suffix not in _LOSSLESS:
        raise ValueError(f'{path}: that format would change the pixels, or is '
                         'unknown; write .png, .tif or .npy')
    if pixels.dtype.kind == 'f' and suffix not in _TIFF:
        raise ValueError(f'{path}: real numbers are written as .npy or .tif')
    if pixels.dtype == np.float64:
        raise ValueError(f'{path}: pixels of float64 are written as .npy')
    frames = [
        Image.fromarray(f[..., 0] if f.shape[-1] == 1 else f)
        for f in (pixels if is_volume else pixels[None])
    ]
    more = dict(save_all=True, append_images=frames[1:]) if is_volume else {}
    frames[0].save(path, **more)


def save_signal(signal: Signal, path: str | Path) -> None:
    """Write a signal, without loss.

    Args:
        signal (Signal): What is written.
        path (str | Path): ``.npy`` holds everything; ``.png``, ``.tif``,
            ``.bmp``, ``.pgm`` and ``.ppm`` what pillow writes to them.

    Raises:
        ValueError: If that format does not hold such pixels.
    """
    path = Path(path)
    if path.suffix.lower() == '.npy':
        pixels = signal.pixels
        # a path would get another suffix behind `.NPY`
        with path.open('wb') as file:
            np.save(file, pixels[..., 0] if signal.channels == 1 else pixels)
    else:
        _write_image(signal.pixels, path)
