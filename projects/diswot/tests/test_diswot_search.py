import json
import random
import statistics
from pathlib import Path

import pytest
from diswot import Candidate, Distances, ResNetSpace, Scoring, kendall_tau
from diswot.algorithms import best_of, evolution, parent_of, random_search

RESULTS = Path(__file__).parents[1] / 'results'
S1 = ResNetSpace([[1, 3, 5, 7]] * 3, [16])
SCORING = Scoring()


def name_of(candidate):
    return '.'.join(map(str, candidate.stage_blocks))


@pytest.fixture(scope='module')
def measured():
    """Distances of the 64 nets on noise, the mean of all seeds."""
    runs = [
        run for run in json.loads((RESULTS / 's1_distances.json').read_text())
        if run['data'] == 'noise' and run['conditions']['batch_size'] == 16
    ]
    assert len(runs) >= 3
    return {
        c:
        Distances(
            semantic=statistics.mean(r['nets'][name_of(c)][0] for r in runs),
            relation=statistics.mean(r['nets'][name_of(c)][1] for r in runs))
        for c in S1
    }


class Counting:
    """Looks distances up, and notes in which order they are asked for."""

    def __init__(self, distances):
        self.distances = distances
        self.asked = []

    def __call__(self, candidate):
        self.asked.append(candidate)
        return self.distances[candidate]


def everything(candidate):
    return True


def evolve(evaluate, seed, allowed=everything, evaluations=40):
    return evolution(
        S1,
        allowed,
        evaluate,
        evaluations,
        seed,
        SCORING,
        population=4,
        tournament=4,
        num_parents=1)


def test_evolution_finds_a_good_net_and_beats_random_search(measured):
    scores = dict(zip(measured, SCORING.scores(list(measured.values()))))
    good = sorted(scores, key=scores.get)[-5:]
    # the best score after 20 evaluations
    evolved, drawn = [], []
    for seed in range(10):
        one, other = Counting(measured), Counting(measured)
        evolve(one, seed)
        random_search(S1, everything, other, 40, seed)
        assert len(one.asked) <= 40 and set(one.asked) & set(good)
        evolved.append(max(scores[c] for c in one.asked[:20]))
        drawn.append(max(scores[c] for c in other.asked[:20]))
    assert statistics.mean(evolved) > statistics.mean(drawn)


def test_scores_correlate_with_the_published_accuracies(measured):
    published = json.loads((RESULTS / 's1_published.json').read_text())
    truth = [published['accuracies'][name_of(c)][0] for c in measured]
    distances = list(measured.values())
    for scoring in (Scoring(1, 0), Scoring(0, 1)):
        assert kendall_tau(scoring.scores(distances), truth) > 0.35
    depth = [sum(c.stage_blocks) for c in measured]
    assert kendall_tau(depth, truth) == pytest.approx(0.657, abs=1e-3)


def test_nothing_is_evaluated_twice(measured):
    evaluate = Counting(measured)
    history = evolve(evaluate, 0, evaluations=60)
    assert len(evaluate.asked) == len(set(evaluate.asked)) == len(history)


def test_children_are_held_to_the_limits(measured):

    def allowed(candidate):
        return sum(candidate.stage_blocks) <= 9

    assert max(sum(c.stage_blocks) for c in evolve(Counting(measured), 1)) > 9
    for seed in range(3):
        evaluate = Counting(measured)
        evolve(evaluate, seed, allowed, evaluations=12)
        assert evaluate.asked and all(map(allowed, evaluate.asked))


def test_parents_are_among_the_best_of_their_tournament(measured):
    members = list(measured)[:20]
    history = {c: measured[c] for c in members}
    scores = dict(zip(history, SCORING.scores(list(history.values()))))
    best = sorted(members, key=scores.get, reverse=True)
    rng = random.Random(0)
    # so many draws that the best one is among them, often
    drawn = [
        parent_of(members, history, SCORING, 200, 1, rng) for _ in range(20)
    ]
    assert set(drawn) == {best[0]}
    drawn = {
        parent_of(members, history, SCORING, 8, 2, rng)
        for _ in range(300)
    }
    assert len(drawn) > 2 and not drawn & set(best[-3:])


def test_the_best_score_is_chosen(measured):
    scores = SCORING.scores(list(measured.values()))
    chosen = best_of(measured, SCORING)
    assert scores[list(measured).index(chosen)] == max(scores)


def test_a_search_ends_where_the_space_does(measured):
    history = random_search(S1, everything, Counting(measured), 500, 0)
    assert len(history) == S1.size == 64
    history = evolve(Counting(measured), 0, evaluations=500)
    assert 40 < len(history) <= 64


def test_a_mutation_changes_one_choice():
    space = ResNetSpace([[1, 2], [3]], [8, 16], ['BasicBlock', 'Bottleneck'])
    assert space.size == 8 == len({c.name for c in space})
    rng = random.Random(0)
    for _ in range(30):
        before = space.sample(rng)
        after = space.mutate(before, rng)
        values = [(c.block, c.base_channels, *c.stage_blocks)
                  for c in (before, after)]
        assert sum(a != b for a, b in zip(*values)) == 1
        assert after in list(space)


def test_what_a_candidate_changes():
    space = ResNetSpace([[2], [2], [1, 2]], [8], ['Bottleneck'])
    candidate = Candidate('Bottleneck', 8, (2, 2, 1))
    stages = dict(stage_blocks=(1, 1, 1))
    head = dict(backbone=stages, head=dict(in_channels=64))
    assert space.options(candidate, head)['head'] == dict(in_channels=128)
    pyramid = dict(
        backbone=dict(stages, out_indices=(1, 2)),
        neck=dict(in_channels=[1, 1]))
    assert space.options(candidate,
                         pyramid)['neck'] == dict(in_channels=[64, 128])
    with pytest.raises(ValueError, match='no `stage_blocks`'):
        space.options(candidate, dict(backbone=dict(type='ResNet')))
    with pytest.raises(ValueError, match=r'strides=\(1, 2\).* 3 stages'):
        space.options(candidate, dict(backbone=dict(stages, strides=(1, 2))))


@pytest.mark.parametrize('arguments, message', [
    (([[1]], [8]), 'only one candidate'),
    (([[1, 1]], [8]), 'different'),
    (([[0, 1]], [8]), 'positive'),
    (([[1, 2]], [8], ['Block']), 'none of BasicBlock'),
    (([[1, 2]], [8], 'Bottleneck'), 'must be a list'),
    (([1, 2], [8]), 'one for each stage'),
    (([[1, 2]], 8), 'a list of choices for the width'),
])
def test_a_space_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNetSpace(*arguments)


def test_an_evolution_says_what_is_wrong(measured):
    with pytest.raises(ValueError, match='nothing would evolve'):
        evolution(S1, everything, Counting(measured), 8, 0, SCORING, 8)
    with pytest.raises(ValueError, match='num_parents'):
        evolution(S1, everything, Counting(measured), 40, 0, SCORING, 8, 2, 3)
