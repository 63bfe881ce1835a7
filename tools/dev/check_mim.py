"""Train one mini config with each OpenMMLab library's own `mim train`.

A few steps, with a teacher of random weights, by a config outside of the
package that has ours as its base. Then the library's own function loads the
checkpoint into the plain config of the student, and every weight is compared.
Last, a config of each project is trained likewise, from its folder.

    python tools/dev/check_mim.py OUT [LIBRARY or PROJECT ...]
"""
import argparse
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

import mmcompress.compat  # noqa: F401

# library: what is trained, its student alone, and what builds and loads it
RUNS = dict(
    mmpretrain=('nkd/nkd_resnet_mini.py', 'kd/kd_resnet_mini_student.py',
                'get_model'),
    mmdet=('fgd/fgd_retinanet_mini.py', 'fgd/fgd_retinanet_mini_student.py',
           'init_detector'),
    mmseg=('mgd/mgd_pspnet_mini.py', 'cwd/cwd_pspnet_mini_student.py',
           'init_model'),
    mmpose=('dwpose/dwpose_s1_mini.py', 'dwpose/dwpose_student_mini.py',
            'init_model'),
)  # yapf: disable
# 64 images to train on and 16 to validate
SHORT = ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
         'train_dataloader.dataset.settings.num_train=64',
         'train_dataloader.dataset.settings.num_val=16',
         'val_dataloader.dataset.settings.num_train=64',
         'val_dataloader.dataset.settings.num_val=16',
         'default_hooks.logger.interval=1')
RANDOM = ('model.teacher.checkpoint=None', 'model.teacher.allow_random=True')
# project: the library whose tool trains it, its config, and changes of it
PROJECTS = dict(
    cbbl=('mmdet', 'cbbl_retinanet_mini_um.py', SHORT),
    diswot=('mmpretrain', 'diswot_distances_mini.py', SHORT + RANDOM),
    gradient_filter=(
        'mmpretrain', 'gradient_filter_resnet_mini.py',
        SHORT + ('train_dataloader.dataset.dataset.indices=64',
                 'load_from=None', 'default_hooks.checkpoint.interval=1')),
    rbf_points=('mmpretrain', 'rbf_gaussian_m100_mini.py',
                SHORT + ('default_hooks.checkpoint.interval=1', )),
    tinc=('mmpretrain', 'tinc_china_mini.py',
          ('train_cfg.max_iters=20', 'default_hooks.logger.interval=10',
           'default_hooks.checkpoint.interval=20')))
ROOT = Path(__file__).resolve().parents[2]


def config_folder() -> Path:
    """The installed package's, or the checkout's."""
    package = Path(mmcompress.__file__).parent
    installed = package / '.mim' / 'configs'
    return installed if installed.is_dir() else package.parent / 'configs'


def train(library: str, base: str, work_dir: Path) -> Path:
    """Run `mim train`, and return the checkpoint.

    Raises:
        subprocess.CalledProcessError: If it failed.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    # the run writes the whole config to `work_dir`, under the same name
    config = work_dir.with_name(f'my_{library}.py')
    config.write_text(f"_base_ = 'mmcompress::{base}'\n")
    mim_train(library, config, work_dir, SHORT + RANDOM)
    return work_dir / 'epoch_1.pth'


def mim_train(library: str,
              config: Path,
              work_dir: Path,
              changes: tuple[str, ...],
              project: Path | None = None) -> None:
    """Run `mim train`.

    Args:
        library (str): Whose tool trains.
        config (Path): Of the training.
        work_dir (Path): Gets the checkpoint.
        changes (tuple[str, ...]): Of the config.
        project (Path | None): Folder that Python finds a package in.

    Raises:
        subprocess.CalledProcessError: If it failed.
    """
    mim = shutil.which('mim', path=Path(sys.executable).parent) or 'mim'
    command = [mim, 'train', library, str(config), '--work-dir', str(work_dir),
               '--cfg-options', *changes]  # yapf: disable
    path = dict(PYTHONPATH=str(project)) if project else {}
    print('$', *(f'{k}={v}' for k, v in path.items()), *command, flush=True)
    subprocess.run(command, check=True, env={**os.environ, **path})


def check_project(name: str, out: Path) -> None:
    """Train a project's config.

    Raises:
        RuntimeError: If that leaves no checkpoint.
    """
    library, config, changes = PROJECTS[name]
    folder = ROOT / 'projects' / name
    mim_train(library, folder / 'configs' / config, out / name, changes,
              folder)
    if not list((out / name).glob('*_[0-9]*.pth')):
        raise RuntimeError(f'{name}: no checkpoint in {out / name}')


def check_plain(library: str, config: Path, loader: str,
                checkpoint: Path) -> None:
    """Load a checkpoint as one of the student alone.

    Raises:
        RuntimeError: If a weight of the student is not the checkpoint's.
    """
    load = getattr(importlib.import_module(f'{library}.apis'), loader)
    model = load(str(config), str(checkpoint), device='cpu')
    trained = torch.load(checkpoint, weights_only=True)['state_dict']
    weights = model.state_dict()
    wrong = [
        name for name, weight in weights.items()
        if name not in trained or not torch.equal(weight, trained[name])
    ]
    if wrong or not weights:
        raise RuntimeError(f'{checkpoint} does not fit {config}: {wrong}')
    print(
        f'{library}: {len(weights)} weights of {checkpoint} are those of '
        f'{config.name}',
        flush=True)


def main() -> None:
    """Check the libraries and projects, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, help='folder for the work dirs')
    parser.add_argument(
        'names', nargs='*', default=[*RUNS, *PROJECTS], help='all by default')
    args = parser.parse_args()
    for library in args.names:
        if library in PROJECTS:
            check_project(library, args.out)
            continue
        config, student, loader = RUNS[library]
        checkpoint = train(library, config, args.out / library)
        check_plain(library, config_folder() / student, loader, checkpoint)


if __name__ == '__main__':
    main()
