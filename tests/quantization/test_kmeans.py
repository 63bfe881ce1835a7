import itertools

import numpy as np
import pytest
import torch

from mmcompress.quantization import kmeans
from mmcompress.quantization.kmeans import kmeans_boundaries


def normal(size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def clusters_of(values, boundaries):
    index = torch.bucketize(values.double(), boundaries.double())
    return [values[index == i].double() for i in range(len(boundaries) + 1)]


def error_of(clusters):
    return sum(float(c.var(correction=0)) * len(c) for c in clusters)


def least_error(values, clusters):
    """Of all ways to cut the sorted values."""
    values = np.sort(values.numpy().astype(float))
    cuts = itertools.combinations(range(1, len(values)), clusters - 1)
    return min(
        sum(part.var() * len(part) for part in np.split(values, cut))
        for cut in cuts)


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('clusters', [2, 3, 5])
def test_is_the_optimum_of_few_values(seed, clusters):
    values = normal(11, seed)
    if seed % 2:
        # several equal ones
        values = (3 * values).round()
    found = error_of(clusters_of(values, kmeans_boundaries(values, clusters)))
    assert found == pytest.approx(least_error(values, clusters), abs=1e-6)


def test_boundaries_lie_between_the_outermost_members():
    values = torch.tensor([7., 0, 1, 6, 7])
    assert kmeans_boundaries(values, 2).tolist() == [3.5]
    # not between the means, which are 0.5, 5 and 9
    values = torch.tensor([0., 1, 4, 6, 9])
    assert kmeans_boundaries(values, 3).tolist() == [2.5, 7.5]


@pytest.mark.parametrize('relu', [False, True])
def test_many_values_are_near_the_optimum(monkeypatch, relu):
    values = normal(20_000)
    values = values.relu() if relu else values
    fast = clusters_of(values, kmeans_boundaries(values, 5))
    monkeypatch.setattr(kmeans, '_EXACT', len(values))
    exact = clusters_of(values, kmeans_boundaries(values, 5))
    assert error_of(exact) <= error_of(fast) <= 1.0001 * error_of(exact)


def test_an_outlier_among_many_values_has_its_cluster():
    # all others share a bin of the histogram
    values = torch.cat([normal(10_000), torch.tensor([1e6])])
    assert [len(c) for c in clusters_of(values, kmeans_boundaries(values, 2))
            ] == [10_000, 1]
    spread = clusters_of(values, kmeans_boundaries(values, 4))
    assert all(len(c) > 1000 for c in spread[:3]) and len(spread[3]) == 1


def test_of_the_same_values_in_any_order_they_are_the_same():
    values = normal(6000)
    expected = kmeans_boundaries(values, 7)
    assert torch.equal(kmeans_boundaries(values.flip(0), 7), expected)
    assert (expected.diff() > 0).all()


@pytest.mark.parametrize('size', [500, 6000])
def test_they_move_and_grow_with_the_values(size):
    values = normal(size).double()
    far = kmeans_boundaries(1e-3 * values + 1e6, 4)
    torch.testing.assert_close(
        (far - 1e6) * 1e3, kmeans_boundaries(values, 4), atol=1e-6, rtol=0)


@pytest.mark.parametrize('values', [[], [2.], [2., 2, 2], [1., 2, 2, 1]])
def test_too_few_different_values_have_none(values):
    assert kmeans_boundaries(torch.tensor(values), 3) is None


def test_as_many_values_as_clusters_are_all_apart():
    values = torch.tensor([4., 1, 2, 4])
    assert kmeans_boundaries(values, 3).tolist() == [1.5, 3]
