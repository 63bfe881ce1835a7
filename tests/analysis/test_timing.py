import pytest
import torch

from mmcompress.analysis.timing import against, interleaved, median_interval


@pytest.mark.parametrize('num, k', [(6, 1), (15, 4), (30, 10), (100, 40)])
def test_interval_is_that_of_the_tables_of_the_sign_test(num, k):
    values = list(range(1, num + 1))
    assert median_interval(values[::-1]) == (k, num + 1 - k)


def test_interval_covers_the_median_in_at_least_95_percent():
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(2000, 15, generator=generator)**2
    intervals = [median_interval(s) for s in samples.tolist()]
    covered = sum(low <= 0.25 <= high for low, high in intervals)
    assert 0.95 <= covered / 2000 < 0.98


def test_five_rounds_are_too_few():
    with pytest.raises(ValueError, match='5 rounds'):
        median_interval([1.0] * 5)


def test_parts_are_interleaved_in_rotating_order():
    now, order = [0.0], []

    def part(name, duration):

        def run():
            order.append(name)
            now[0] += duration

        return run

    seconds = interleaved(
        {
            'a': part('a', 1),
            'b': part('b', 2),
            'c': part('c', 3)
        },
        rounds=3,
        warm_up=1,
        clock=lambda: now[0])
    assert ''.join(order) == 'abc' 'bca' 'cab' 'abc'
    assert seconds == dict(a=[1] * 3, b=[2] * 3, c=[3] * 3)


def test_ratios_are_those_of_the_same_round():
    """A machine that slows down slows both."""
    slow = [1, 2, 4, 8, 16, 32, 64]
    found = against(dict(base=slow, half=[x / 2 for x in slow]), 'base')
    assert found['half'] == dict(ms=4000, ratio=2, interval=(2, 2))
    assert found['base']['ratio'] == 1
