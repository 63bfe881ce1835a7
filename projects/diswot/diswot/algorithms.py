"""Evolution and random search, under a limit on every candidate."""
import random
from collections import deque
from collections.abc import Callable, Sequence

from .scoring import Distances, Scoring
from .space import Candidate, ResNetSpace

ALGORITHMS = ('evolution', 'random')
# draws in a row without anything new, after which there is nothing left
MAX_DRAWS = 2000

Evaluate = Callable[[Candidate], Distances]
Allowed = Callable[[Candidate], bool]
History = dict[Candidate, Distances]


def best_of(history: History, scoring: Scoring) -> Candidate:
    """The candidate of the best score, and of nothing else; earliest first."""
    scores = scoring.scores(list(history.values()))
    return max(zip(history, scores), key=lambda pair: pair[1])[0]


def _draw(space: ResNetSpace, allowed: Allowed, history: History,
          rng: random.Random) -> Candidate | None:
    """A new candidate within the limits; None if none seems to be left."""
    for _ in range(MAX_DRAWS):
        candidate = space.sample(rng)
        if candidate not in history and allowed(candidate):
            return candidate
    return None


def random_search(space: ResNetSpace, allowed: Allowed, evaluate: Evaluate,
                  evaluations: int, seed: int) -> History:
    """Evaluate different candidates, all equally likely.

    Args:
        space (ResNetSpace): What to draw from.
        allowed (Callable): Whether a candidate is within the limits.
        evaluate (Callable): Distances of a candidate.
        evaluations (int): How many; fewer where the space has no more.
        seed (int): Of the draws.

    Returns:
        History: Distances of the candidates, in their order.
    """
    rng = random.Random(seed)
    history: History = {}
    while len(history) < evaluations:
        candidate = _draw(space, allowed, history, rng)
        if candidate is None:
            break
        history[candidate] = evaluate(candidate)
    return history


def parent_of(members: Sequence[Candidate], history: History, scoring: Scoring,
              tournament: int, num_parents: int,
              rng: random.Random) -> Candidate:
    """One of the best of some that are drawn, with replacement.

    Args:
        members (Sequence[Candidate]): Those that are drawn from.
        history (History): Of these, and possibly of others.
        scoring (Scoring): What they are compared by.
        tournament (int): How many are drawn.
        num_parents (int): How many of the best may become the parent.
        rng (random.Random): Of both draws.
    """
    scores = dict(zip(history, scoring.scores(list(history.values()))))
    drawn = rng.choices(members, k=tournament)
    drawn.sort(key=scores.__getitem__, reverse=True)
    return rng.choice(drawn[:num_parents])


def evolution(space: ResNetSpace,
              allowed: Allowed,
              evaluate: Evaluate,
              evaluations: int,
              seed: int,
              scoring: Scoring,
              population: int = 36,
              tournament: int = 8,
              num_parents: int = 5) -> History:
    """Aging evolution: the child of a good one takes the place of the oldest.

    A candidate that was evaluated before costs nothing when it is met again.
    Children are held to the limits as the first ones are.

    Differs from the official code: the tournament is sorted with the best
    first (there, parents come from the worst), and children are held to the
    limits.

    Args:
        space (ResNetSpace): What to draw from and to mutate in.
        allowed (Callable): Whether a candidate is within the limits.
        evaluate (Callable): Distances of a candidate.
        evaluations (int): How many different candidates; fewer where the
            space has no more.
        seed (int): Of all draws.
        scoring (Scoring): What parents are chosen by.
        population (int): Number of living candidates.
        tournament (int): How many are drawn to choose a parent from.
        num_parents (int): The parent is one of so many best of them.

    Returns:
        History: Distances of the candidates, in their order.

    Raises:
        ValueError: If numbers don't fit.
    """
    if not 1 <= num_parents <= tournament or population < 2:
        raise ValueError(
            f'num_parents={num_parents}, tournament={tournament}, population='
            f'{population}: 1 <= num_parents <= tournament, population >= 2')
    if population >= evaluations:
        raise ValueError(
            f'evaluations={evaluations} does not exceed population='
            f'{population}: nothing would evolve')
    rng = random.Random(seed)
    history = random_search(space, allowed, evaluate, population,
                            rng.getrandbits(32))
    living = deque(history)
    stale = 0
    # a single one has no others to compete with
    while len(history) < evaluations and living and stale < MAX_DRAWS:
        parent = parent_of(living, history, scoring, tournament, num_parents,
                           rng)
        child = space.mutate(parent, rng)
        stale += 1
        if not allowed(child):
            continue
        if child not in history:
            history[child] = evaluate(child)
            stale = 0
        living.append(child)
        living.popleft()
    return history
