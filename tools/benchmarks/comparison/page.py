"""The page and the plots that show what methods gain."""
from collections.abc import Callable
from pathlib import Path

from .gains import Gain, Summary, is_teacher, summarize, verdict

INTRODUCTION = '''# Mini data: what methods gain

```shell
python tools/benchmarks/mini.py all       # trains what is missing
python tools/benchmarks/report.py         # renders this page
```

Small nets on rendered data, trained from scratch on a CPU: they tell whether
a method works and teaches something, not how methods rank on COCO or
ImageNet. Students of a task differ in nothing but the method. "Gain" is the
difference to the student alone with the same seed. ± is the sample standard
deviation over the seeds. "Gains" means that the mean gain is larger than the
deviation of the student, of the method and of the differences. The teacher is
one training with seed 0; scores are those of the last epoch, on the validation
images.
'''
TUNING = '''
"Tuning" counts the trainings that chose a method's settings, on seeds
{seeds} and the same validation images ([records](tuning.json)); settings of
methods with fewer are those of their paper, or were set without looking at
scores. Reported trainings are in [mini.json](mini.json).
'''
NAMES = {
    'accuracy/top1': 'Top-1 accuracy in percent',
    'coco/bbox_mAP': 'Box AP in percent',
    'coco/segm_mAP': 'Mask AP in percent',
    'coco-wholebody/AP': 'Whole-body AP in percent',
    'mIoU': 'Mean IoU in percent',
    'PCK': 'Keypoints within 5 % of the box (PCK) in percent'
}
# what readers of a task's table must know
NOTES = {
    'detection':
    '"inherit" is the student that begins with the neck and head of its '
    'teacher, without a loss of distillation. FGD and MGD begin with them, '
    'too; what their losses add is the difference to it. PKD does not.',
    'pose':
    'DWPose\'s second stage goes on from the first.',
}


def _with_spread(mean: float, spread: float | None, form: str = '.1f') -> str:
    text = f'{mean:{form}}'
    return text if spread is None else f'{text} ± {spread:.1f}'


def _effort(tuning: list[dict], task: str, method: str) -> int:
    return sum(r['task'] == task and r['method'] == method for r in tuning)


def gains_of(summaries: dict[str, Summary]) -> dict[str, Gain]:
    """Gains of a task's methods over its student, by method."""
    return {
        name: Gain.between(summaries['student'], summary)
        for name, summary in summaries.items()
        if name != 'student' and not is_teacher(name)
    }


def task_table(records: list[dict], tuning: list[dict], task: str,
               link: Callable[[str], str]) -> str:
    """A task's scores as a table in Markdown.

    Args:
        records (list[dict]): Reported trainings.
        tuning (list[dict]): Trainings that chose settings.
        task (str): Name of the task.
        link (Callable): From the path of a config to a link's target.
    """
    newest = {r['method']: r for r in records if r['task'] == task}
    summaries = summarize(records, task)
    student = summaries['student']
    gains = gains_of(summaries)
    lines = [
        '| method | score | gain | | seeds | tuning | seconds | config |',
        '| :-- | --: | --: | :-- | --: | --: | --: | :-- |'
    ]
    for name, summary in summaries.items():
        cells = [name, _with_spread(summary.mean, summary.spread)]
        if name in gains:
            gain = gains[name]
            cells += [
                _with_spread(gain.mean, gain.spread, '+.1f'),
                verdict(student, summary)
            ]
        else:
            cells += ['', '']
        record = newest[name]
        cells += [
            len(summary.scores),
            _effort(tuning, task, name) if name in gains else '',
            record['seconds'], f'[config]({link(record["config"])})'
        ]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines)


def render_page(records: list[dict], tuning: list[dict],
                link: Callable[[str], str], plot_name: Callable[[str],
                                                                str]) -> str:
    """The whole page in Markdown.

    Args:
        records (list[dict]): Reported trainings, oldest first.
        tuning (list[dict]): Trainings that chose settings.
        link (Callable): From the path of a config to a link's target.
        plot_name (Callable): File name of a task's plot.

    Raises:
        ValueError: If a task has no student to compare with.
    """
    seeds = sorted({r['seed'] for r in tuning if not is_teacher(r['method'])})
    seeds = ', '.join(map(str, seeds))
    parts = [INTRODUCTION + (TUNING.format(seeds=seeds) if tuning else '')]
    for task in dict.fromkeys(r['task'] for r in records):
        of_task = [r for r in records if r['task'] == task]
        if not any(r['method'] == 'student' for r in of_task):
            raise ValueError(f'{task}: the student alone has no record')
        metric = of_task[0]['metric']
        plot = ''
        if gains_of(summarize(records, task)):
            plot = f'\n\n![Gains over the student]({plot_name(task)})'
        about = f'{NAMES.get(metric, metric)}. {NOTES.get(task, "")}'.rstrip()
        parts.append(f'## {task.capitalize()}\n\n{about}\n\n'
                     f'{task_table(records, tuning, task, link)}{plot}\n')
    machines = sorted({r['machine'] for r in records})
    parts.append('Trained on: ' + '; '.join(machines) + '. Seconds are those '
                 'of one training with everything, while the machine did '
                 'other work too.\n')
    return '\n'.join(parts)


def draw_gains(summaries: dict[str, Summary], title: str, path: Path) -> None:
    """Plot a task's gains: mean, standard deviation and every seed.

    Args:
        summaries (dict[str, Summary]): By method, with the student.
        title (str): Of the plot.
        path (Path): Where to write it; the suffix says the format.
    """
    import matplotlib
    matplotlib.use('agg')
    from matplotlib import pyplot as plt

    gains = gains_of(summaries)
    spread = summaries['student'].spread or 0
    # the same file for the same numbers
    with plt.rc_context({'svg.hashsalt': 'gains', 'svg.fonttype': 'none'}):
        figure, axes = plt.subplots(
            figsize=(1.5 + 1.1 * len(gains), 3.2), layout='constrained')
        axes.axhspan(-spread, spread, color='0.9', label='spread of student')
        axes.axhline(0, color='0.5', linewidth=1)
        for x, gain in enumerate(gains.values()):
            axes.errorbar(
                x, gain.mean, gain.spread, fmt='s', capsize=5, color='C0')
            axes.plot(
                [x + 0.15] * len(gain.differences),
                gain.differences,
                '.',
                color='C1')
        axes.set_xticks(range(len(gains)), gains)
        axes.set_xlim(-0.6, len(gains) - 0.4)
        axes.set_ylabel('gain over the student')
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=8)
        figure.savefig(
            path, metadata=dict(Date=None) if path.suffix == '.svg' else None)
        plt.close(figure)
