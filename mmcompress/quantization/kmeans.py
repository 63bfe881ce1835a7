"""Clusters of real numbers with the least squared error.

In one dimension clusters are intervals, so that dynamic programming finds the
optimum: the best ``k`` clusters of the first ``j`` values end in one of
``i..j``, and ``i`` never falls as ``j`` grows. By halving the ``j`` that are
open, a number of clusters costs ``n log n``.
"""
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# of different values; more go into a histogram of half as many bins first
_EXACT = 4096
_LLOYD_STEPS = 100


class _Sums:
    """Sums of weighted values, which tell the error of any interval.

    Args:
        values (NDArray): Ascending, float64, shape (N, ).
        counts (NDArray | None): How often each occurs; None: once.
    """

    def __init__(self, values: NDArray, counts: NDArray | None = None) -> None:
        counts = np.ones_like(values) if counts is None else counts
        terms = [counts, counts * values, counts * values**2]
        self.count, self.first, self.second = (
            np.concatenate(([0.], np.cumsum(term))) for term in terms)

    def error(self, start: NDArray, stop: NDArray) -> NDArray:
        """Squared error of ``values[start:stop]`` around their mean."""
        count = self.count[stop] - self.count[start]
        first = self.first[stop] - self.first[start]
        second = self.second[stop] - self.second[start]
        return second - first**2 / np.maximum(count, 1)

    def means(self, edges: NDArray) -> NDArray:
        """Means of the clusters between edges, none of them empty."""
        return np.diff(self.first[edges]) / np.diff(self.count[edges])


def _best_starts(before: NDArray, sums: _Sums,
                 clusters: int) -> tuple[NDArray, NDArray]:
    """Where the last cluster of the first ``j`` values begins.

    Args:
        before (NDArray): Least error of the first ``i`` values in one cluster
            less; shape (N + 1, ).
        sums (_Sums): Of the values.
        clusters (int): Number of clusters; ``j`` is at least as large.

    Returns:
        tuple: Least errors and starts by ``j``, of shape (N + 1, ).
    """
    size = len(before)
    errors = np.full(size, np.inf)
    starts = np.full(size, clusters - 1)
    # intervals of j that are open, and between which starts theirs are
    low, high = np.array([clusters]), np.array([size - 1])
    least, largest = np.array([clusters - 1]), np.array([size - 2])
    while len(low):
        middle = (low + high) // 2
        ends = np.minimum(largest, middle - 1)
        lengths = ends - least + 1
        offsets = np.cumsum(lengths) - lengths
        # all candidates of all intervals in a row
        i = np.arange(lengths.sum()) + np.repeat(least - offsets, lengths)
        error = before[i] + sums.error(i, np.repeat(middle, lengths))
        lowest = np.minimum.reduceat(error, offsets)
        found = np.flatnonzero(error == np.repeat(lowest, lengths))
        # the first of equals
        best = i[found[np.searchsorted(found, offsets)]]
        errors[middle], starts[middle] = lowest, best
        low, high = (np.concatenate(
            (low, middle + 1)), np.concatenate((middle - 1, high)))
        least, largest = (np.concatenate(
            (least, best)), np.concatenate((best, largest)))
        open_ = low <= high
        low, high = low[open_], high[open_]
        least, largest = least[open_], largest[open_]
    return errors, starts


def _optimal_edges(sums: _Sums, clusters: int) -> NDArray:
    """Where the best clusters begin, and where the last one ends."""
    size = len(sums.count)
    errors = sums.error(np.zeros(size, int), np.arange(size))
    table = []
    for number in range(2, clusters + 1):
        errors, starts = _best_starts(errors, sums, number)
        table.append(starts)
    edges = [size - 1]
    for starts in reversed(table):
        edges.append(starts[edges[-1]])
    return np.array([0, *reversed(edges)])


def _lloyd(values: NDArray, sums: _Sums, edges: NDArray) -> NDArray:
    """Move edges between means until they stay."""
    for _ in range(_LLOYD_STEPS):
        means = sums.means(edges)
        inner = np.searchsorted(values, (means[1:] + means[:-1]) / 2, 'right')
        moved = np.concatenate(([0], inner, [len(values)]))
        if (np.diff(moved) == 0).any() or (moved == edges).all():
            break
        edges = moved
    return edges


def _edges_by_histogram(values: NDArray, clusters: int) -> NDArray:
    """Clusters of many values: the best ones of bins, then Lloyd's steps."""
    bins = _EXACT // 2
    borders = np.linspace(values[0], values[-1], bins + 1)[1:-1]
    ends = np.searchsorted(values, borders, 'right')
    ends = np.concatenate(([0], ends, [len(values)]))
    # bins that hold something
    ends = ends[np.concatenate(([True], np.diff(ends) > 0))]
    sums = _Sums(values)
    if len(ends) <= clusters:
        # nearly all in one bin, far from a few: bins of equal counts
        ends = np.linspace(0, len(values), bins + 1).astype(int)
    binned = _Sums(sums.means(ends), np.diff(ends).astype(float))
    edges = ends[_optimal_edges(binned, clusters)]
    return _lloyd(values, sums, edges)


def kmeans_boundaries(values: Tensor, clusters: int) -> Tensor | None:
    """Borders between the clusters with the least squared error.

    The optimum of up to about 4,000 different values. Of more it is that of a
    histogram, made better by Lloyd's steps. The same values give the same
    borders.

    Args:
        values (Tensor): Finite, any shape.
        clusters (int): At least 2.

    Returns:
        Tensor | None: Shape (clusters - 1, ), ascending: each in the middle
        between the largest value of a cluster and the least one of the next.
        None if there are fewer different values than clusters.
    """
    raw = values.detach().flatten().cpu().numpy()
    raw = np.sort(raw)
    # around 0, or sums of squares lose what tells values apart
    center = raw.mean(dtype=float) if len(raw) else 0.
    x = raw.astype(float) - center
    new = np.concatenate(([True], x[1:] != x[:-1])) if len(x) else x
    distinct = np.flatnonzero(new)
    if len(distinct) < clusters:
        return None
    if len(distinct) <= _EXACT:
        counts = np.diff(distinct, append=len(x)).astype(float)
        x = x[distinct]
        edges = _optimal_edges(_Sums(x, counts), clusters)
    else:
        edges = _edges_by_histogram(x, clusters)
    inner = edges[1:-1]
    middle = (x[inner - 1] + x[inner]) / 2 + center
    return values.new_tensor(middle)
