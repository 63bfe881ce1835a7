"""Print the tables of the README from results/, and draw its picture."""
from statistics import mean, stdev

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt  # noqa: E402
from record import RESULTS, read  # noqa: E402

COLOURS = {'exact': '#8c96a3', 'r2': '#3b82c4', 'r4': '#e08b2c'}
_MIB = 2**20


def table(header: list[str], rows: list[list[str]]) -> None:
    """Print a table; all columns but the first are numbers."""
    print('| ' + ' | '.join(header) + ' |')
    print('| :-- |' + ' --: |' * (len(header) - 1))
    for row in rows:
        print('| ' + ' | '.join(row) + ' |')
    print()


def layers() -> None:
    """Backward time and kept memory of single layers."""
    numbers = read('layers')
    print(numbers['machine'])
    rows = []
    for case in numbers['cases']:
        channels, height, width = case['case']
        sides = case['sides']
        row = [f'{channels} @ {height}x{width}']
        row += [f'{side["backward_ms"]:.1f}' for side in sides.values()]
        row += [
            f'{side["backward_speed_up"]:.1f}' for name, side in sides.items()
            if name != 'exact'
        ]
        row += [
            f'{side["forward_ms"] / sides["exact"]["forward_ms"]:.2f}'
            for name, side in sides.items() if name != 'exact'
        ]
        row += [
            f'{side["saved_bytes"] / 1024:,.0f}' for side in sides.values()
        ]
        rows.append(row)
    table([
        'layer', 'exact, ms', 'r2', 'r4', 'speed-up r2', 'r4', 'forward r2',
        'r4', 'kept, KiB', 'r2', 'r4'
    ], rows)


def models() -> None:
    """Time and memory of training steps of whole models."""
    numbers = read('models')
    print(numbers['machine'])
    rows = []
    for model, measured in numbers['models'].items():
        for name, one in measured['variants'].items():
            low, high = one['interval']
            rows.append([
                model, name, f'{one["step_ms"]:.0f}',
                f'{one["step_ms"] - one["forward_ms"]:.0f}',
                f'{one["against_last_exact"]:.2f} ({low:.2f}-{high:.2f})',
                f'{one["saved_bytes"] / _MIB:.1f}',
                f'{one["peak_bytes"] / _MIB:.1f}'
            ])
    table([
        'model', 'trained', 'step, ms', 'without forward',
        'speed-up to last, exact', 'kept, MiB', 'peak, MiB'
    ], rows)


def scores(task: str) -> dict[str, list[dict]]:
    """Runs of a task, by variant."""
    found: dict[str, list[dict]] = {}
    for key, result in read('accuracy').items():
        name, variant, _ = key.split('/')
        if name == task:
            found.setdefault(variant, []).append(result)
    return found


def metric(runs: list[dict]) -> list[float]:
    """The metric of runs, which stands first."""
    return [next(iter(run.values())) for run in runs]


def accuracy(task: str) -> None:
    """Metric of a task after fine-tuning."""
    rows = []
    for variant, runs in scores(task).items():
        values = metric(runs)
        spread = f' ± {stdev(values):.1f}' if len(values) > 1 else ''
        seconds = [run['seconds'] for run in runs if run['seconds']]
        rows.append([
            variant, f'{mean(values):.1f}{spread}',
            ', '.join(f'{v:.1f}' for v in values),
            f'{mean(seconds):.0f}' if seconds else ''
        ])
    table([task, 'mean', 'runs', 'CPU seconds'], rows)


def draw() -> None:
    """Speed of layers, of whole steps, memory and accuracy, side by side."""
    plt.rcParams.update({'font.size': 8, 'svg.hashsalt': 'gradient_filter'})
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3))
    cases = read('layers')['cases']
    for i, side in enumerate(('r2', 'r4')):
        axes[0].bar([k + 0.4 * i for k in range(len(cases))],
                    [c['sides'][side]['backward_speed_up'] for c in cases],
                    0.38, color=COLOURS[side], label=side)  # yapf: disable
    axes[0].set_xticks(
        [k + 0.2 for k in range(len(cases))],
        [f'{c["case"][0]}\n{c["case"][1]}x{c["case"][2]}' for c in cases])
    axes[0].axhline(1, color=COLOURS['exact'], linewidth=1)
    axes[0].set_title('one layer: backward pass, times faster')
    axes[0].legend(frameon=False)
    ticks, labels = [], []
    for k, (name, measured) in enumerate(read('models')['models'].items()):
        base = measured['variants']['last, exact']
        for j, key in enumerate(('step_ms', 'peak_bytes')):
            place = 2 * k + j
            ticks.append(place + 0.25)
            labels.append(f'{name}\n{("step time", "peak memory")[j]}')
            for i, side in enumerate(('exact', 'r2', 'r4')):
                axes[1].bar(
                    place + 0.25 * i,
                    measured['variants'][f'last, {side}'][key] / base[key],
                    0.23,
                    color=COLOURS[side])
    axes[1].set_xticks(ticks, labels, fontsize=7)
    axes[1].set_title('whole training step, last layers exact = 1')
    variants = ('classifier', 'exact', 'r2', 'r4')
    tasks = [t for t in ('classification', 'segmentation') if scores(t)]
    for k, task in enumerate(tasks):
        found = scores(task)
        for i, variant in enumerate(variants):
            if variant not in found:
                continue
            values = metric(found[variant])
            axes[2].bar(
                k + 0.2 * i,
                mean(values),
                0.18,
                yerr=stdev(values) if len(values) > 1 else None,
                color=COLOURS.get(variant, '#cfd5dc'),
                label=None if k else variant)
    axes[2].set_xticks([k + 0.3 for k in range(len(tasks))], tasks)
    # room for the legend
    axes[2].set_ylim(0, 1.3 * axes[2].get_ylim()[1])
    axes[2].set_title('mini data after fine-tuning: top-1 or mIoU, %')
    axes[2].legend(frameon=False, ncols=2, fontsize=7)
    for one in axes:
        one.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    figure.savefig(RESULTS / 'summary.svg', metadata={'Date': None})


if __name__ == '__main__':
    layers()
    models()
    for name in ('classification', 'segmentation'):
        if scores(name):
            accuracy(name)
    draw()
