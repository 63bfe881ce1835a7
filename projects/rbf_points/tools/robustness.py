"""Train on the mini clouds, test with noise and with missing points.

A run that stands in the file of results is not repeated: interrupted, the
script goes on where it was. Runs with other ``--cfg-options`` need a file of
their own.
"""
import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rbf_points import RBFNet, kernel_activity
from rbf_points.corruptions import Corruption, accuracy, corrupted_clouds

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.complexity import complexity, total
from mmcompress.analysis.timing import machine
from mmcompress.atomic import replacing
from mmcompress.datasets import LoadPoints
from mmcompress.launch import add_cfg_options
from mmcompress.model.inputs import noise_batch
from mmcompress.results.versions import versions

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = [
    'rbf_gaussian_m100', 'rbf_gaussian_m200', 'rbf_gaussian_m500',
    'rbf_gaussian_m1000', 'rbf_multiquadric_m500', 'rbf_multiscale_m200',
    'pointnet_equal-params-m200', 'pointnet_equal-ops-m200',
    'pointnet_equal-params-m1000', 'pointnet_equal-ops-m1000'
]
CORRUPTIONS = {
    'clean': Corruption(),
    **{f'noise {s}': Corruption(noise=s)
       for s in (0.02, 0.05, 0.1, 0.2)},
    **{
        f'dropped {round(100 * share)} %': Corruption(dropped=share)
        for share in (0.5, 0.75, 0.9)
    }
}  # yapf: disable


class PreparedRun(Hook):
    """Reads the training clouds once, and times the epochs.

    Without it, most of the time of these small networks would go into reading
    text files again in each epoch.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        load = next(
            t for t in dataset.pipeline.transforms
            if isinstance(t, LoadPoints))
        for sample in dataset.data_list:
            sample['points'] = load(dict(sample))['points']

    def before_train_epoch(self, runner: Runner) -> None:
        # of this process: others use the machine, too
        self.start = time.process_time()

    def after_train_epoch(self, runner: Runner) -> None:
        self.seconds.append(time.process_time() - self.start)


def read_config(name: str, seed: int, work_dir: Path,
                options: dict | None) -> Config:
    """The config of a run, as ``tools/train.py`` would have it."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}_mini.py')
    cfg.merge_from_dict(options or {})
    cfg.randomness = dict(seed=seed)
    cfg.work_dir = str(work_dir / f'{name}_seed{seed}')
    cfg.log_level = 'WARNING'
    # the points are put into the list of samples
    cfg.train_dataloader.dataset.dataset.serialize_data = False
    for loader in (cfg.train_dataloader, cfg.val_dataloader,
                   cfg.test_dataloader):
        loader.setdefault('collate_fn', dict(type='default_collate'))
    return cfg


def costs(cfg: Config, model: torch.nn.Module) -> dict:
    """Parameters, and multiply-accumulates for a cloud."""
    sums = total(complexity(model.eval(), noise_batch(cfg, model)))
    return dict(params=sums.params, macs=sums.macs)


def kernels(backbone: torch.nn.Module, clouds: torch.Tensor) -> dict | None:
    """Numbers of kernels, of dead ones and of those alike for all clouds."""
    if not isinstance(backbone, RBFNet):
        return None
    activity = kernel_activity(backbone, clouds.split(250))
    return dict(
        num=activity.dead.numel(),
        dead=int(activity.dead.sum()),
        constant=int(activity.constant.sum()))


def run(name: str, seed: int, work_dir: Path, data: dict,
        options: dict | None) -> dict:
    """Train one network and test it.

    Args:
        name (str): One of :data:`NETWORKS`.
        seed (int): Of initialisation, order and augmentation.
        work_dir (Path): Gets logs and checkpoint.
        data (dict): Clouds and labels by corruption, read when missing.
        options (dict | None): Keys of the config to override.
    """
    cfg = read_config(name, seed, work_dir, options)
    for key, corruption in CORRUPTIONS.items():
        if key not in data:
            data[key] = corrupted_clouds(cfg, corruption)
    runner = Runner.from_cfg(cfg)
    hook = PreparedRun()
    runner.register_hook(hook)
    model = runner.model
    found = costs(cfg, model)
    before = kernels(model.backbone, data['clean'][0])
    runner.train()
    return dict(
        network=name,
        seed=seed,
        **found,
        accuracy={
            key: round(accuracy(model, *data[key]), 2)
            for key in CORRUPTIONS
        },
        kernels_before=before,
        kernels=kernels(model.backbone, data['clean'][0]),
        cpu_s_per_epoch=round(statistics.median(hook.seconds), 3),
        options=options or {})


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', type=Path, default=ROOT / 'results' / 'robustness.json')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/rbf_points'))
    parser.add_argument('--seeds', type=int, nargs='+', default=[1, 2, 3])
    parser.add_argument(
        '--networks', nargs='+', choices=NETWORKS, default=NETWORKS)
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    """Run what is missing."""
    args = parse_args()
    torch.set_num_threads(1)
    runs = []
    if args.out.is_file():
        runs = json.loads(args.out.read_text())['runs']
    options = args.cfg_options or {}
    for other in runs:
        if other['options'] != options:
            sys.exit(f'{args.out} has runs with the options '
                     f'{other["options"]}, not {options}: give another --out')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = {(r['network'], r['seed']) for r in runs}
    data: dict = {}
    for seed in args.seeds:
        for name in args.networks:
            if (name, seed) in done:
                continue
            runs.append(run(name, seed, args.work_dir, data, args.cfg_options))
            print(json.dumps(runs[-1]), flush=True)
            content = dict(
                machine=machine('cpu'), versions=versions(), runs=runs)
            with replacing(args.out) as path:
                path.write_text(json.dumps(content, indent=1) + '\n')


if __name__ == '__main__':
    main()
