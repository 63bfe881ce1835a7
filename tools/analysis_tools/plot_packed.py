"""Compare a model before and after packing: size, latency, accuracy."""
import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mmcompress.model.checkpoint import plain_weights, read_checkpoint
from mmcompress.results.metrics import Metric, describe
from mmcompress.results.plots import Panel, panels_in_a_row
from mmcompress.results.subjects import state_dict_bytes
from mmcompress.tables import format_table

DESCRIPTION = '''Draws bars of the size, the latency and the accuracy of a
model's forms, prints them as a table, and writes them beside the picture. It
measures nothing: accuracies are those that tools/test.py wrote, latencies
those of tools/analysis_tools/benchmark.py.'''


@dataclass
class Form:
    """One form of a model.

    Attributes:
        label (str): What it is called.
        size (int): Bytes of a file that holds its weights and nothing else.
        latency (float): Seconds, median.
        speed_up (float): How many times as fast as the first form, by the
            medians of the rounds' ratios.
        accuracy (float): As the test wrote it.
    """
    label: str
    size: int
    latency: float
    speed_up: float
    accuracy: float


def size_of(checkpoint: str) -> int:
    """Bytes of a file with a checkpoint's weights alone.

    Optimizer, logs and the layers that only distillation needs don't count.

    Args:
        checkpoint (str): Path or URL.
    """
    return state_dict_bytes(plain_weights(read_checkpoint(checkpoint)))


def newest_test(work_dir: str) -> dict[str, float]:
    """The metrics of the last test in a work_dir.

    Raises:
        FileNotFoundError: If there is none.
    """
    # vis_data/ has logs of trainings, one line for each step
    files = Path(work_dir).glob('*_*/*_*.json')
    newest = max(files, key=lambda f: f.stat().st_mtime, default=None)
    if newest is None:
        raise FileNotFoundError(
            f'{work_dir} has no results of a test; run tools/test.py with '
            f'--work-dir {work_dir}')
    return json.loads(newest.read_text())


def metric_of(metrics: dict[str, float], name: str | None) -> str:
    """The key of a metric; that which comes first, if none is named.

    Raises:
        ValueError: If the test has no such metric.
    """
    name = name or next(iter(metrics))
    if name not in metrics:
        raise ValueError(f'the test has no metric {name}; it has '
                         f'{", ".join(metrics)}')
    return name


def timed_form(latency: dict, name: str) -> dict:
    """What was measured of a form; of ``float``, in the faster layout.

    Raises:
        ValueError: If the form wasn't timed.
    """
    forms = latency['forms']
    if name not in forms:
        raise ValueError(f'{name!r} is not among the forms that were timed: '
                         f'{", ".join(forms)}')
    if name == 'float':
        # that which benchmark.py divides by
        return min((form for key, form in forms.items() if key[:5] == 'float'),
                   key=lambda form: form['median'])
    return forms[name]


def draw(forms: list[Form], metric: Metric, title: str, path: Path) -> None:
    """Bars of size, latency and accuracy, one row per form.

    Args:
        forms (list[Form]): From top to bottom.
        metric (Metric): How accuracies are written.
        title (str): Line above the bars.
        path (Path): Where to write it; the suffix says the format.
    """
    sizes = [form.size / 1e6 for form in forms]
    times = [1000 * form.latency for form in forms]
    scores = [metric.factor * form.accuracy for form in forms]
    texts = [metric.text(form.accuracy) for form in forms]
    # the same figures as in the table
    panels_in_a_row([form.label for form in forms], [
        Panel('size of the file, MB', sizes, [f'{x:.2f}' for x in sizes]),
        Panel('latency, ms', times, [
            f'{x:.1f} ({form.speed_up:.2f} x)'
            for x, form in zip(times, forms)
        ], 'C1'),
        Panel(metric.name, scores, texts, 'C2')
    ], title, str(path))


def as_table(forms: list[Form], metric: Metric, title: str) -> str:
    """The numbers, and their ratios to those of the first form."""
    first = forms[0]
    return format_table(title, [
        'form', 'bytes', 'smaller', 'latency ms', 'times as fast', metric.name
    ], [[
        form.label, f'{form.size:,}', f'{first.size / form.size:.1f} x',
        f'{1000 * form.latency:.1f}', f'{form.speed_up:.2f}',
        metric.text(form.accuracy)
    ] for form in forms])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument(
        'out', type=Path, help='picture to write, such as packed.svg')
    parser.add_argument(
        '--latency', required=True, help='the json of benchmark.py')
    parser.add_argument(
        '--model',
        nargs=4,
        action='append',
        required=True,
        metavar=('LABEL', 'FORM', 'CHECKPOINT', 'TEST'),
        help="one bar: its label, which of benchmark.py's forms it is ('float'"
        ", 'as trained' or 'packed'), its weights, and the --work-dir of its "
        'test. Repeat it; ratios are to the first')
    parser.add_argument(
        '--metric', help='such as coco/bbox_mAP; by default the first one')
    args = parser.parse_args()
    if args.out.suffix == '.json':
        parser.error('the numbers go to OUT with the suffix .json; give the '
                     'picture another one')
    return args


def main() -> None:
    """Read what was measured, draw, print and write."""
    args = parse_args()
    latency = json.loads(Path(args.latency).read_text())
    metric = args.metric
    forms = []
    for label, name, checkpoint, work_dir in args.model:
        metrics = newest_test(work_dir)
        metric = metric_of(metrics, metric)
        timed = timed_form(latency, name)
        forms.append(
            Form(label, size_of(checkpoint), timed['median'],
                 timed['speed_up']['median'], metrics[metric]))
    base = forms[0].speed_up
    for form in forms:
        form.speed_up /= base
    shape = ' x '.join(map(str, latency['shape']))
    title = (f'{Path(latency["config"]).stem}, {shape}, '
             f'{latency["machine"]}')
    shown = describe(metric)
    print(as_table(forms, shown, title))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(forms, shown, title, args.out)
    record = {k: v for k, v in latency.items() if k != 'forms'}
    record.update(metric=metric, forms=[asdict(form) for form in forms])
    numbers = args.out.with_suffix('.json')
    numbers.write_text(json.dumps(record, indent=2) + '\n')
    print(f'written: {args.out} and {numbers}')


if __name__ == '__main__':
    main()
