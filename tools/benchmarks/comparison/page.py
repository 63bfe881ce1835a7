"""The page and the plots that show what methods gain."""
from collections.abc import Callable
from pathlib import Path

from .gains import Gain, Summary, is_origin, summarize, verdict
from .table import STUDENT, Table

INTRODUCTION = '''# Mini data: what methods gain

```shell
python tools/benchmarks/mini.py all       # trains what is missing
python tools/benchmarks/report.py         # renders this page
```

Small nets on rendered data, trained from scratch on a CPU: they tell whether
a method works and teaches something, not how methods rank on COCO or
ImageNet. Students of a task differ in nothing but the method. "Gain" is the
difference to what a method is compared with, with the same seed: the student
alone, or, where the method begins with weights of a teacher, what these give
by themselves. So borrowed weights are no gain. ± is the sample standard
deviation over the seeds. "Gains" means that the mean gain is larger than the
deviation of what it is compared with, of the method and of the differences.
The teacher is one training with seed 0; scores are those of the last epoch, on
the validation images.

Quantized models start from one float model, trained with seed 0, and are all
trained for as long as LSQ at the same bits, which is what the other methods
are compared with; LSQ itself is compared with the float model. W4A8 stands
for weights of 4 bits and activations of 8, a third number for what is
multiplied inside attention.
'''
TUNING = '''
"Tuning" counts the trainings that chose a method's settings, on seeds
{seeds} and the same validation images
([records](../results/tuning.json)); settings of methods with fewer are those
of their paper, or were set without looking at scores. Reported trainings are
in [mini.json](../results/mini.json).
'''
NAMES = {
    'accuracy/top1': 'Top-1 accuracy in percent',
    'coco/bbox_mAP': 'Box AP in percent',
    'coco/segm_mAP': 'Mask AP in percent',
    'coco-wholebody/AP': 'Whole-body AP in percent',
    'mIoU': 'Mean IoU in percent',
    'PCK': 'Keypoints within 5 % of the box (PCK) in percent'
}


def _with_spread(mean: float, spread: float | None, form: str = '.1f') -> str:
    text = f'{mean:{form}}'
    return text if spread is None else f'{text} ± {spread:.1f}'


def _effort(tuning: list[dict], task: str, method: str) -> int:
    return sum(r['task'] == task and r['method'] == method for r in tuning)


def baseline_of(table: Table, task: str) -> str:
    """What methods are compared with that don't say."""
    return table.tasks[task].baseline if task in table.tasks else STUDENT


def compared_with(table: Table, task: str, method: str) -> str:
    """What a method's gain is the difference to."""
    entry = table.entries.get((task, method))
    return entry.compared_with if entry else baseline_of(table, task)


def gains_of(summaries: dict[str, Summary], table: Table,
             task: str) -> dict[str, Gain | None]:
    """Gains of a task's methods, None where the other was not measured.

    Args:
        summaries (dict[str, Summary]): By method, with the baseline.
        table (Table): Says what a method is compared with.
        task (str): Name of the task.
    """
    gains = {}
    for name, summary in summaries.items():
        if name != baseline_of(table, task) and not is_origin(name):
            other = summaries.get(compared_with(table, task, name))
            gains[name] = other and Gain.between(other, summary)
    return gains


def task_table(records: list[dict], tuning: list[dict], task: str,
               table: Table, link: Callable[[str], str]) -> str:
    """A task's scores as a table in Markdown.

    Args:
        records (list[dict]): Reported trainings.
        tuning (list[dict]): Trainings that chose settings.
        task (str): Name of the task.
        table (Table): What is compared.
        link (Callable): From the path of a config to a link's target.
    """
    newest = {r['method']: r for r in records if r['task'] == task}
    summaries = summarize(records, task)
    gains = gains_of(summaries, table, task)
    lines = [
        '| method | score | compared with | gain | | seeds | tuning | seconds '
        '| config |', '| :-- | --: | :-- | --: | :-- | --: | --: | --: | :-- |'
    ]
    for name, summary in summaries.items():
        cells = [name, _with_spread(summary.mean, summary.spread)]
        cells += _gain_cells(summaries, gains, name,
                             compared_with(table, task, name))
        record = newest[name]
        cells += [
            len(summary.scores),
            _effort(tuning, task, name) if name in gains else '',
            record['seconds'], f'[config]({link(record["config"])})'
        ]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines)


def _gain_cells(summaries: dict[str, Summary], gains: dict[str, Gain | None],
                name: str, other: str) -> list[str]:
    if name not in gains:
        return ['', '', '']
    gain = gains[name]
    if gain is None:
        return [other, 'not measured', '']
    return [
        other,
        _with_spread(gain.mean, gain.spread, '+.1f'),
        verdict(summaries[other], summaries[name])
    ]


def notes_on(table: Table, task: str) -> str:
    """What readers of a task's numbers must know, by the metafiles."""
    return ' '.join(e.note for e in table.entries.values()
                    if e.task == task and e.note)


def render_page(records: list[dict], tuning: list[dict], table: Table,
                link: Callable[[str], str], plot_name: Callable[[str],
                                                                str]) -> str:
    """The whole page in Markdown.

    Args:
        records (list[dict]): Reported trainings, oldest first.
        tuning (list[dict]): Trainings that chose settings.
        table (Table): What is compared.
        link (Callable): From the path of a config to a link's target.
        plot_name (Callable): File name of a task's plot.

    Raises:
        ValueError: If a task has no baseline to compare with.
    """
    seeds = sorted({r['seed'] for r in tuning if not is_origin(r['method'])})
    seeds = ', '.join(map(str, seeds))
    parts = [INTRODUCTION + (TUNING.format(seeds=seeds) if tuning else '')]
    for task in dict.fromkeys(r['task'] for r in records):
        of_task = [r for r in records if r['task'] == task]
        baseline = baseline_of(table, task)
        if not any(r['method'] == baseline for r in of_task):
            raise ValueError(f'{task}: the baseline, {baseline!r}, has no '
                             'record')
        metric = of_task[0]['metric']
        plot = ''
        if any(gains_of(summarize(records, task), table, task).values()):
            plot = f'\n\n![Gains of the methods]({plot_name(task)})'
        about = f'{NAMES.get(metric, metric)}. {notes_on(table, task)}'
        parts.append(
            f'## {task[0].upper()}{task[1:]}\n\n{about.rstrip()}\n\n'
            f'{task_table(records, tuning, task, table, link)}{plot}\n')
    machines = sorted({r['machine'] for r in records})
    parts.append('Trained on: ' + '; '.join(machines) + '. Seconds are those '
                 'of one training with everything, while the machine did '
                 'other work too.\n')
    return '\n'.join(parts)


def draw_gains(summaries: dict[str, Summary], table: Table, task: str,
               path: Path) -> None:
    """Plot a task's gains: mean, standard deviation and every seed.

    Args:
        summaries (dict[str, Summary]): By method, with the baseline.
        table (Table): What is compared.
        task (str): Name of the task.
        path (Path): Where to write it; the suffix says the format.
    """
    import matplotlib
    matplotlib.use('agg')
    from matplotlib import pyplot as plt

    gains = {k: v for k, v in gains_of(summaries, table, task).items() if v}
    others = [compared_with(table, task, name) for name in gains]
    # the same file for the same numbers
    with plt.rc_context({'svg.hashsalt': 'gains', 'svg.fonttype': 'none'}):
        figure, axes = plt.subplots(
            figsize=(1.5 + 1.2 * len(gains), 3.4), layout='constrained')
        axes.axhline(0, color='0.5', linewidth=1)
        for x, (gain, other) in enumerate(zip(gains.values(), others)):
            spread = summaries[other].spread or 0
            axes.bar(
                x,
                2 * spread,
                0.9,
                -spread,
                color='0.9',
                zorder=0,
                label=None if x else 'spread of what it is compared with')
            axes.errorbar(
                x, gain.mean, gain.spread, fmt='s', capsize=5, color='C0')
            axes.plot(
                [x + 0.15] * len(gain.differences),
                gain.differences,
                '.',
                color='C1')
        axes.set_xticks(
            range(len(gains)),
            [f'{name}\nover {other}' for name, other in zip(gains, others)],
            fontsize=8)
        axes.set_xlim(-0.6, len(gains) - 0.4)
        axes.set_ylabel('gain')
        axes.set_title(f'{task}, mean ± standard deviation', fontsize=10)
        axes.legend(fontsize=8)
        figure.savefig(
            path, metadata=dict(Date=None) if path.suffix == '.svg' else None)
        plt.close(figure)
