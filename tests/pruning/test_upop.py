import pytest
import torch
from golden import assert_golden, golden

from mmcompress.pruning.upop import (keep_units, progress, standardize,
                                     updates_at)

KINDS = ['attention', 'mlp', 'attention', 'mlp']
WEIGHTS = [24, 3, 16, 2]


def gradients(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n, generator=generator, dtype=torch.double)
        for n in (8, 60, 6, 40)
    ]


def keep(grads=None, share=.5, kinds=KINDS, weights=WEIGHTS):
    grads = gradients() if grads is None else grads
    return [k.tolist() for k in keep_units(grads, kinds, weights, share)]


@golden('upop')
def test_matches_the_official_numbers(case):
    assert_golden(case)


@pytest.mark.parametrize('total', [1, 2, 7, 160, 75061])
def test_progress_rises_to_exactly_p(total):
    for p in (.1, .3, .5, .75, .9):
        shares = [
            progress(s, total, p) for s in range(max(0, total - 5), total)
        ]
        assert shares == sorted(shares) and shares[0] > 0
        assert shares[-1] == p and 1 - shares[-1] / p == 0


def test_masks_change_at_intervals_and_after_the_last_step():

    def steps(*args):
        return [s for s in range(30) if updates_at(s, *args)]

    assert steps(20, 5) == [5, 10, 15, 19]
    assert steps(20, 5, False) == [0, 5, 10, 15, 19]
    assert steps(16, 5) == [5, 10, 15]
    assert steps(7, 100) == [6]
    assert steps(1, 1) == [0]


@pytest.mark.parametrize('share', [0., .1, .5, .75, .9])
def test_what_stays_weighs_what_was_asked_for(share):
    kept = sum(w * sum(k) for w, k in zip(WEIGHTS, keep(share=share)))
    all_ = sum(w * len(g) for w, g in zip(WEIGHTS, gradients()))
    # the unit at the threshold stays, too
    assert abs(kept - (1 - share) * all_) <= 2 * max(WEIGHTS)


def test_large_gradients_go():
    for gradient, stays in zip(gradients(), keep()):
        stays = torch.tensor(stays)
        assert gradient[stays].max() < gradient[~stays].min()


def test_a_group_keeps_a_unit():
    grads = gradients()
    grads[1] += 100
    kept = keep(grads, .9)
    assert sum(kept[1]) == 1 and kept[1][grads[1].argmin()]


@pytest.mark.parametrize('kind', ['attention', 'mlp'])
def test_a_kind_is_ranked_whatever_the_size_of_its_gradients(kind):
    other = [
        g * 1e-6 + 3e-6 if k == kind else g
        for g, k in zip(gradients(), KINDS)
    ]
    assert keep(other) == keep()


def test_the_order_of_towers_is_irrelevant():
    order = [3, 0, 1, 2]
    swapped = keep(
        *([value[i] for i in order] for value in (gradients(), )),
        kinds=[KINDS[i] for i in order],
        weights=[WEIGHTS[i] for i in order])
    assert swapped == [keep()[i] for i in order]


def test_float32_is_ranked_in_float64():
    grads = [g.float() for g in gradients()]
    assert keep(grads) == keep([g.double() for g in grads])


def test_equal_gradients_are_no_noise():
    tenths = torch.full((7, ), .1, dtype=torch.double)
    assert standardize(tenths).tolist() == [0] * 7
    assert standardize(torch.tensor([3.])).tolist() == [0]
    assert standardize(torch.zeros(4)).tolist() == [0] * 4
    # small ones that differ are
    assert standardize(torch.tensor([1e-20, 2e-20])).abs().min() > .7
    assert keep([torch.ones(3), torch.ones(5)], .5, KINDS[:2], [5, 3])


def test_gradients_that_are_not_finite_are_refused():
    grads = gradients()
    grads[2][0] = torch.nan
    with pytest.raises(ValueError, match='attention units are not finite'):
        keep(grads)
