"""Train one mini config with each OpenMMLab library's own `mim train`.

A few steps, with a teacher of random weights, by a config outside of the
package that has ours as its base. Then the library's own function loads the
checkpoint into the plain config of the student, and every weight is compared.

    python tools/dev/check_mim.py OUT [LIBRARY ...]
"""
import argparse
import importlib
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
         'model.teacher.checkpoint=None', 'model.teacher.allow_random=True',
         'default_hooks.logger.interval=1')


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
    mim = shutil.which('mim', path=Path(sys.executable).parent) or 'mim'
    command = [mim, 'train', library, str(config), '--work-dir', str(work_dir),
               '--cfg-options', *SHORT]  # yapf: disable
    print('$', *command, flush=True)
    subprocess.run(command, check=True)
    return work_dir / 'epoch_1.pth'


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
    """Check the libraries, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, help='folder for the work dirs')
    parser.add_argument(
        'libraries', nargs='*', default=list(RUNS), help='all by default')
    args = parser.parse_args()
    for library in args.libraries:
        config, student, loader = RUNS[library]
        checkpoint = train(library, config, args.out / library)
        check_plain(library, config_folder() / student, loader, checkpoint)


if __name__ == '__main__':
    main()
