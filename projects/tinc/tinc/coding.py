"""Entropy coding of integers, by the range coder of constriction."""
from types import ModuleType

import numpy as np

# a distribution is one byte: 0 is the uniform one; then Gaussians, then
# Laplace distributions, of 127 spreads each
_KINDS = ('QuantizedGaussian', 'QuantizedLaplace')
_SPREADS = 127
NUM_DISTRIBUTIONS = len(_KINDS) * _SPREADS


class FormatError(ValueError):
    """A file is none of ours, or not as it was written."""


def constriction_module() -> ModuleType:
    """The library of the range coder.

    Raises:
        ModuleNotFoundError: If it is not installed; says how to.
    """
    try:
        import constriction
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the entropy coder of TINC files is constriction, which is not '
            'installed: run `pip install constriction==0.5.0` (or -r '
            'projects/tinc/requirements.txt)') from error
    return constriction


def _spread(number: int) -> float:
    """2^-4 to 2^8.6, a tenth of an octave apart."""
    return 2.**((number - 40) / 10)


def _distribution(number: int, mean: int, low: int, high: int):
    model = constriction_module().stream.model
    if number == 0:
        return model.Uniform(high - low + 1)
    kind, spread = divmod(number - 1, _SPREADS)
    return getattr(model, _KINDS[kind])(low, high, float(mean),
                                        _spread(spread + 1))


def _symbols(codes: np.ndarray, number: int, low: int) -> np.ndarray:
    # of a uniform distribution they begin with 0
    return (codes - low if number == 0 else codes).astype(np.int32)


class Encoder:
    """Writes integers, of which the decoder knows the range."""

    def __init__(self) -> None:
        self._encoder = constriction_module().stream.queue.RangeEncoder()

    def uniform(self, values: np.ndarray, low: int, high: int) -> None:
        """Write integers between two bounds, all equally probable."""
        if high > low:
            self.fitted(values, 0, 0, low, high)

    def fitted(self, values: np.ndarray, number: int, mean: int, low: int,
               high: int) -> None:
        """Write integers with a distribution of :func:`fit_distribution`."""
        self._encoder.encode(
            _symbols(values, number, low),
            _distribution(number, mean, low, high))

    def get_bytes(self) -> bytes:
        """What was written, in 32-bit words."""
        return self._encoder.get_compressed().astype('<u4').tobytes()


class Decoder:
    """Reads what :class:`Encoder` wrote, in the same order.

    Args:
        data (bytes): All of it.

    Raises:
        FormatError: If it is no number of words.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise FormatError(f'the codes of a TINC file are 32-bit words, '
                              f'got {len(data)} bytes')
        words = np.frombuffer(data, '<u4').astype(np.uint32)
        self._decoder = constriction_module().stream.queue.RangeDecoder(words)

    def uniform(self, count: int, low: int, high: int) -> np.ndarray:
        """Read what :meth:`Encoder.uniform` wrote."""
        if high == low:
            return np.full(count, low, np.int64)
        return self.fitted(count, 0, 0, low, high)

    def fitted(self, count: int, number: int, mean: int, low: int,
               high: int) -> np.ndarray:
        """Read what :meth:`Encoder.fitted` wrote.

        Raises:
            FormatError: If it was never written.
        """
        try:
            symbols = self._decoder.decode(
                _distribution(number, mean, low, high), count)
        except AssertionError as error:
            raise FormatError(f'the codes of the TINC file are no codes: '
                              f'{error}') from error
        symbols = np.asarray(symbols, np.int64)
        return symbols + low if number == 0 else symbols


def _num_bits(codes: np.ndarray, number: int, mean: int, low: int,
              high: int) -> int:
    encoder = constriction_module().stream.queue.RangeEncoder()
    encoder.encode(
        _symbols(codes, number, low), _distribution(number, mean, low, high))
    return encoder.num_bits()


def fit_distribution(codes: np.ndarray, low: int,
                     high: int) -> tuple[int, int]:
    """The distribution that needs the fewest bits for some codes.

    Args:
        codes (np.ndarray): Integers, one axis.
        low (int): The least that is possible.
        high (int): The largest.

    Returns:
        tuple[int, int]: Number of the distribution, 0 for the uniform one,
        and its mean, rounded.
    """
    mean = int(np.round(codes.mean()))
    absolute = np.abs(codes - codes.mean())
    best = (_num_bits(codes, 0, mean, low, high), 0)
    fits = (np.sqrt(np.square(absolute).mean()), absolute.mean())
    for kind, spread in enumerate(fits):
        nearest = round(10 * np.log2(max(spread, 1e-9))) + 40
        # cut at the ends of the range, codes fit wider ones better
        for near in range(nearest - 4, nearest + 13, 2):
            near = int(np.clip(near, 1, _SPREADS))
            number = near + kind * _SPREADS
            bits = _num_bits(codes, number, mean, low, high)
            best = min(best, (bits, number))
    return best[1], mean
