"""Fine-tune the mini models on their shifted data, layers exact and filtered.

Writes results/accuracy.json, run by run; runs that are in it are skipped. The
pretrained models are trained by tools/train.py before, see the README.
"""
import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from record import read, write

CONFIGS = Path(__file__).parents[1] / 'configs'
# config, what is trained alone, and the metric
TASKS = dict(
    classification=('gradient_filter_resnet_mini', 'head', 'accuracy/top1'),
    segmentation=('gradient_filter_pspnet_mini', 'decode_head.conv_seg',
                  'mIoU'))


def variants(step: dict, head: str) -> dict[str, dict | None]:
    """The step of each variant; None where nothing is trained.

    Args:
        step (dict): That of the config.
        head (str): What is trained alone.
    """

    def filtered(patch: int, **options) -> dict:
        layers = dict.fromkeys(step['layers'], patch)
        return dict(step, layers=layers, **options)

    return {
        'not trained': None,
        'classifier': dict(step, layers={}, freeze=['*', f'~{head}']),
        'exact': dict(step, layers={}),
        'r2': filtered(2),
        'r4': filtered(4),
        'r2, not corrected': filtered(2, stride_correction=False),
        'all layers, exact': dict(step, layers={}, freeze=[])
    }


def run(cfg: Config, step: dict | None, seed: int, metric: str) -> dict:
    """Train and test once.

    Args:
        cfg (Config): The config of the project, not changed.
        step (dict | None): In place of its step.
        seed (int): Of the run.
        metric (str): What to take of the test.

    Returns:
        dict: The metric, and the seconds that training took the processor.
    """
    cfg = copy.deepcopy(cfg)
    if step is not None:
        cfg.model.steps = [step]
    # tested by hand
    cfg.train_cfg.val_interval = 1000
    cfg.randomness = dict(seed=seed)
    cfg.log_level = 'ERROR'
    cfg.experiment_name = f'run{time.time_ns()}'
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        cfg.default_hooks.checkpoint = None
        runner = Runner.from_cfg(cfg)
        seconds = time.process_time()
        if step is None:
            result = runner.test()
        else:
            runner.train()
            seconds = time.process_time() - seconds
            result = runner.val()
    return {
        metric: result[metric],
        'seconds': None if step is None else seconds
    }


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('task', choices=TASKS)
    parser.add_argument('--seeds', type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    name, head, metric = TASKS[args.task]
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    step = cfg.model.steps[0].to_dict()
    runs = [(seed, *item) for seed in range(args.seeds)
            for item in variants(step, head).items()]
    # those beside the comparison last
    for seed, variant, changed in sorted(runs, key=lambda r: len(r[1]) > 11):
        key = f'{args.task}/{variant}/{seed}'
        results = read('accuracy')
        if key in results or (changed is None and seed):
            continue
        results[key] = run(cfg, changed, seed, metric)
        print(key, results[key], flush=True)
        # another task may have been written meanwhile
        write('accuracy', read('accuracy') | {key: results[key]})


if __name__ == '__main__':
    main()
