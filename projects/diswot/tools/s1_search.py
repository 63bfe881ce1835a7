"""Evolution against random search on the 64 nets of the space S1.

Looks distances up in results/s1_distances.json (noise, batches of 16, mean of
all seeds), and repeats each search with 100 seeds.

  PYTHONPATH=projects/diswot python projects/diswot/tools/s1_search.py
"""
import json
import statistics
from functools import partial
from pathlib import Path

from diswot.algorithms import evolution, random_search
from diswot.scoring import Distances, Scoring
from diswot.space import ResNetSpace

from mmcompress.tables import format_table

STORE = Path(__file__).resolve().parents[1] / 'results' / 's1_distances.json'
SPACE = ResNetSpace([[1, 3, 5, 7]] * 3, [16])
EVALUATIONS = 40
SEEDS = range(100)
# population, tournament, parents; the last is as selective as the paper's
SETTINGS = [(4, 4, 1), (8, 4, 1), (8, 8, 1), (8, 8, 5)]


def measured() -> dict:
    """Mean distances of all candidates."""
    runs = [
        run['nets'] for run in json.loads(STORE.read_text())
        if run['data'] == 'noise' and run['conditions']['batch_size'] == 16
    ]
    found = {}
    for candidate in SPACE:
        name = '.'.join(map(str, candidate.stage_blocks))
        semantic, relation = (
            statistics.mean(nets[name][i] for nets in runs) for i in (0, 1))
        found[candidate] = Distances(relation, semantic)
    return found


def main() -> None:
    """Search, and print."""
    distances = measured()
    scoring = Scoring()
    scores = dict(zip(distances, scoring.scores(list(distances.values()))))
    good = set(sorted(scores, key=scores.get)[-5:])
    common = (SPACE, lambda candidate: True, distances.__getitem__,
              EVALUATIONS)
    searches = {'random': partial(random_search, *common)}
    for population, tournament, parents in SETTINGS:
        name = (f'evolution, population {population}, best {parents} of '
                f'{tournament}')
        searches[name] = partial(
            evolution,
            *common,
            scoring=scoring,
            population=population,
            tournament=tournament,
            num_parents=parents)

    def best(asked: list[list], num: int) -> float:
        return statistics.mean(max(map(scores.get, a[:num])) for a in asked)

    rows = []
    for name, search in searches.items():
        asked = [list(search(seed=seed)) for seed in SEEDS]
        firsts = [
            next((i for i, c in enumerate(a, 1) if c in good),
                 len(a) + 1) for a in asked
        ]
        rows.append([
            name, f'{statistics.mean(firsts):.1f}',
            sum(first > EVALUATIONS for first in firsts),
            *(f'{best(asked, n):.4f}' for n in (10, 20, 40))
        ])
    print(
        format_table(f'{len(SEEDS)} seeds, up to {EVALUATIONS} evaluations', [
            'search', 'first of the 5 best after', 'not found',
            'best score of 10', 'of 20', 'of 40'
        ], rows).lstrip('\n'))


if __name__ == '__main__':
    main()
