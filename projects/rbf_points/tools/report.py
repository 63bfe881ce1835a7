"""Draw what robustness.py and speed.py have measured; print it as tables."""
import argparse
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path

import matplotlib
import torch
from mmengine.config import Config
from rbf_points import RBFNet, kernel_activity
from rbf_points.corruptions import Corruption, corrupted_clouds

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import build_subject, load_weights

ROOT = Path(__file__).resolve().parents[1]
# networks of a pair have a colour, what they are a marker
COLORS = {'m100': 'C7', 'm200': 'C0', 'm500': 'C2', 'm1000': 'C3'}
STYLES = {
    'rbf_gaussian': 'o-',
    'rbf_multiquadric': 'D-.',
    'rbf_multiscale': '*-.',
    'pointnet_equal-params': 's--',
    'pointnet_equal-ops': '^:'
}


def label(name: str) -> str:
    """A network's name as it is read."""
    kind, num = split(name)
    return {
        'rbf_gaussian': f'Gaussian, M = {num[1:]}',
        'rbf_multiquadric': f'inverse multiquadric, M = {num[1:]}',
        'rbf_multiscale': f'Gaussian, M = {num[1:]}, 3 widths',
        'pointnet_equal-params': f'PointNet, parameters of M = {num[1:]}',
        'pointnet_equal-ops': f'PointNet, operations of M = {num[1:]}',
    }[kind]


def split(name: str) -> tuple[str, str]:
    """What a network is, and which M it goes with."""
    kind, _, num = name.replace('-m', '_m').rpartition('_')
    return kind, num


def accuracies(runs: list[dict]) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and sample standard deviation by network and corruption.

    Of a single run the deviation is nan.
    """
    values = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for corruption, accuracy in run['accuracy'].items():
            values[run['network']][corruption].append(accuracy)
    return {
        name: {
            corruption: (statistics.mean(v),
                         statistics.stdev(v) if len(v) > 1 else math.nan)
            for corruption, v in by_corruption.items()
        }
        for name, by_corruption in values.items()
    }


def print_tables(runs: list[dict], speed: dict | None) -> None:
    """As they stand in the README."""
    table = accuracies(runs)
    corruptions = list(next(iter(table.values())))
    print('| network | ' + ' | '.join(corruptions) + ' |')
    print('| :-- |' + ' --: |' * len(corruptions))
    for name, row in table.items():
        cells = [f'{mean:.1f} ± {std:.1f}' for mean, std in row.values()]
        print(f'| [{label(name)}](configs/{name}_mini.py) | ' +
              ' | '.join(cells) + ' |')
    print()
    for name in table:
        own = [run for run in runs if run['network'] == name]
        counts = ''
        if own[0]['kernels']:
            counts = ', '.join(
                f'{key} {[r["kernels_before"][key] for r in own]} to '
                f'{[r["kernels"][key] for r in own]}'
                for key in ('dead', 'constant'))
        seconds = [run['cpu_s_per_epoch'] for run in own]
        print(f'{name}: {own[0]["params"]:,} parameters, {own[0]["macs"]:,} '
              f'operations, CPU s per epoch {seconds} {counts}')
    if speed is None:
        return
    print('\n| network | parameters | operations | ' +
          ' | '.join(speed['tables']) + ' |')
    print('| :-- | --: | --: |' + ' --: |' * len(speed['tables']))
    for name, cost in speed['costs'].items():
        rows = [by_network[name] for by_network in speed['tables'].values()]
        cells = [
            f'{r["milliseconds"]:.2f} ms, {r["ratio"]:.2f} '
            f'({r["interval"][0]:.2f} to {r["interval"][1]:.2f})' for r in rows
        ]
        print(f'| {label(name)} | {cost["params"]:,} | {cost["macs"]:,} | ' +
              ' | '.join(cells) + ' |')


def draw_curves(plt, runs: list[dict], path: Path) -> None:
    """Accuracy against missing points, and against noise."""
    table = accuracies(runs)
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 4.2), sharey=True, layout='constrained')
    texts = dict(
        dropped='missing points in % of 256',
        noise='noise in radii of the cloud')
    for axis, (word, text) in zip(axes, texts.items()):
        for name, row in table.items():
            kind, num = split(name)
            chosen = {
                float(key.split()[1]): value
                for key, value in row.items() if key.startswith(word)
            }
            chosen = {0.0: row['clean'], **chosen}
            axis.errorbar(
                list(chosen), [mean for mean, _ in chosen.values()],
                [std for _, std in chosen.values()],
                fmt=STYLES[kind],
                color=COLORS[num],
                markersize=5,
                linewidth=1.2,
                capsize=2,
                label=label(name))
        axis.set_xlabel(text)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('accuracy in %, 5 classes')
    axes[0].legend(fontsize=7.5, loc='lower left')
    figure.savefig(path, dpi=72, metadata=dict(Date=None))


def draw_kernels(plt, checkpoint: Path, name: str, path: Path) -> None:
    """Centres by height and distance from the axis that clouds turn about."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}_mini.py')
    model = build_subject(cfg)
    first = model.backbone
    figure, axes = plt.subplots(
        1, 2, figsize=(6.5, 4.4), sharey=True, layout='constrained')
    clouds, _ = corrupted_clouds(cfg, Corruption())
    for axis, title in zip(axes, ('before training', 'after training')):
        if title.startswith('after'):
            load_weights(model, str(checkpoint))
        draw_centers(axis, first, clouds)
        axis.set_title(title)
    points = axes[1].collections[-1]
    figure.colorbar(
        points, ax=axes, label='range of the feature over the test clouds')
    axes[0].set_ylabel('height')
    figure.savefig(path, dpi=72, metadata=dict(Date=None))


def draw_centers(axis, backbone: RBFNet, clouds: torch.Tensor) -> None:
    """A disc as wide as each kernel, coloured by how it tells clouds apart.

    Args:
        axis (Axes): Of matplotlib.
        backbone (RBFNet): Whose centres.
        clouds (Tensor): Shape (B, 3, N).
    """
    activity = kernel_activity(backbone, clouds.split(250))
    spread = (activity.largest - activity.smallest)[:, 0]
    x, y, z = backbone.centers.T
    axis.set_aspect('equal')
    axis.set_xlim(0, 1.2)
    axis.set_ylim(-1.2, 1.2)
    axis.set_xlabel('distance from the axis')
    # a point of the figure is 1 / 72 inch; the axis is about 3.6 inches high
    diameter = backbone.widths[:, 0] * 72 * 3.6 / 2.4
    axis.scatter(
        x.hypot(y),
        z,
        diameter**2,
        spread,
        vmin=0,
        vmax=1,
        alpha=0.6,
        cmap='viridis',
        linewidths=0.3,
        # a path per disc would make a large file
        rasterized=True,
        edgecolors='black')


def main() -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--results', type=Path, default=ROOT / 'results')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/rbf_points'),
        help='of robustness.py; its checkpoint is needed for the centres')
    parser.add_argument('--kernels-of', default='rbf_gaussian_m200')
    args = parser.parse_args()
    runs = json.loads((args.results / 'robustness.json').read_text())['runs']
    speed = args.results / 'speed.json'
    print_tables(runs,
                 json.loads(speed.read_text()) if speed.is_file() else None)
    matplotlib.use('agg')
    from matplotlib import pyplot as plt
    checkpoint = args.work_dir / f'{args.kernels_of}_seed1/epoch_8.pth'
    with plt.rc_context({
            'svg.hashsalt': 'rbf_points',
            'svg.fonttype': 'none',
            'font.size': 9
    }), torch.no_grad():
        draw_curves(plt, runs, args.results / 'robustness.svg')
        if checkpoint.is_file():
            draw_kernels(plt, checkpoint, args.kernels_of,
                         args.results / 'kernels.svg')
        else:
            print(f'No {checkpoint}: results/kernels.svg is not drawn')


if __name__ == '__main__':
    main()
