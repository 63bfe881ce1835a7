"""What a search found: a table, a picture, and a config that trains."""
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from mmengine.config import Config

from mmcompress.model.config_text import base_of, config_file
from mmcompress.tables import format_table
from .records import Record

_HEADER = [
    'rank', 'candidate', 'score', 'semantic', 'relation', 'params', 'MACs'
]


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.3e}'


def table(records: Sequence[Record],
          scores: Sequence[float],
          num: int = 10) -> str:
    """The best candidates, and the one with most operations.

    That one is what a trivial rule would choose: the largest that is allowed.

    Args:
        records (Sequence[Record]): All evaluations.
        scores (Sequence[float]): One for each.
        num (int): How many to print.
    """
    ranked = sorted(
        zip(scores, records), key=lambda pair: pair[0], reverse=True)
    largest = max(range(len(ranked)), key=lambda i: ranked[i][1].cost.flops)
    shown = [*range(min(num, len(ranked)))]
    shown += [largest] if largest not in shown else []
    rows = []
    for i in shown:
        score, record = ranked[i]
        mark = ' (most MACs)' if i == largest else ''
        rows.append([
            i + 1, f'{record.candidate.name}{mark}', f'{score:.5g}',
            _number(record.distances.semantic),
            _number(record.distances.relation), f'{record.cost.params:,}',
            f'{record.cost.flops:,}'
        ])
    return format_table(f'The best of {len(records)} evaluated candidates',
                        _HEADER, rows).lstrip('\n')


def picture(records: Sequence[Record], scores: Sequence[float], chosen: Record,
            path: Path) -> None:
    """Scores against operations, with the chosen candidate marked.

    Args:
        records (Sequence[Record]): All evaluations, in their order.
        scores (Sequence[float]): One for each.
        chosen (Record): One of them.
        path (Path): Of the SVG file.
    """
    matplotlib.use('agg')
    from matplotlib import pyplot as plt
    style = {'svg.hashsalt': 'diswot', 'svg.fonttype': 'none', 'font.size': 9}
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(6, 3.8), layout='constrained')
        points = axes.scatter([r.cost.flops / 1e6 for r in records],
                              scores,
                              c=range(1,
                                      len(records) + 1),
                              s=16)
        figure.colorbar(points, label='evaluation')
        best = scores[list(records).index(chosen)]
        axes.scatter([chosen.cost.flops / 1e6], [best],
                     s=130,
                     facecolors='none',
                     edgecolors='C3',
                     linewidths=1.8,
                     label=f'chosen: {chosen.candidate.name}')
        axes.set(
            xlabel='multiply-accumulates of one image, in millions',
            ylabel='score (larger is better)')
        axes.legend(loc='lower right')
        axes.grid(alpha=0.3)
        figure.savefig(path, metadata=dict(Date=None))
        plt.close(figure)


def write_config(cfg: Config, config: str, changed: bool, options: dict,
                 chosen: Record, conditions: dict, folder: Path) -> Path:
    """Write the chosen student as a config that inherits the searched one.

    Args:
        cfg (Config): The searched one, as it was read.
        config (str): Its path.
        changed (bool): Whether options of the command line changed it.
        options (dict): What the candidate changes in it.
        chosen (Record): The candidate.
        conditions (dict): See :func:`diswot.records.conditions`.
        folder (Path): Where it is written.
    """
    stem = Path(config.rpartition('::')[2]).stem
    base = base_of(cfg, config, changed, folder, f'{stem}_searched.py')
    comment = (
        f'{chosen.candidate.name}, chosen by DisWOT without training:\n'
        f'{chosen.cost.params:,} parameters, {chosen.cost.flops:,} '
        'multiply-accumulates;\n'
        f'{conditions["batch_size"]} images ({conditions["data"]}), seed '
        f'{conditions["seed"]}, {conditions["num_inits"]} initialisations')
    path = folder / f'{stem}_chosen.py'
    path.write_text(config_file(comment, dict(_base_=base, **options)))
    return path
