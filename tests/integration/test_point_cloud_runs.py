"""A 1-bit PointNet, trained and packed on few and small clouds."""
import json
import subprocess
import sys

import pytest
from integration.small_runs import ROOT, losses, train, weights

pytestmark = pytest.mark.slow
CONFIG = ROOT / 'configs/poem/poem_pointnet_mini.py'
OPTIONS = [
    f'{loader}_dataloader.dataset.settings.{key}={value}'
    for loader in ('train', 'val', 'test')
    for key, value in dict(num_train=320, num_val=100).items()
] + ['train_cfg.max_epochs=6', 'train_cfg.val_interval=6',
     'param_scheduler.T_max=6', 'default_hooks.logger.interval=10',
     'default_hooks.checkpoint.interval=6']  # yapf: disable


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('cache')
        patch.setenv('MMCOMPRESS_CACHE', str(folder))
        yield


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('poem')
    train(CONFIG, folder, '--cfg-options', *OPTIONS)
    return folder


def accuracy(work_dir):
    """The last accuracy that a run has logged."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json')) or sorted(
        work_dir.glob('*/*.json'))
    row = json.loads(logs[-1].read_text().splitlines()[-1])
    return row['accuracy/top1']


def share_near_zero(state):
    """Of the 1-bit weights, in units of each layer's standard deviation."""
    layers = [
        state[key.replace('alpha', 'weight')] for key in state
        if key.endswith('.alpha')
    ]
    assert len(layers) == 4
    return sum((w.abs() < 0.2 * w.std()).float().mean() for w in layers) / 4


def test_learns(work_dir):
    rows = losses(work_dir)
    assert rows[-1]['loss'] < 0.8 * rows[0]['loss']
    # of five classes
    assert accuracy(work_dir) > 45


def test_em_empties_the_surroundings_of_zero(work_dir, tmp_path):
    train(
        CONFIG, tmp_path, '--cfg-options', *OPTIONS,
        *(f'model.{part}.binary.em_weight=0' for part in ('backbone', 'neck')))
    with_em, without = (
        share_near_zero(weights(folder, 'epoch_6.pth'))
        for folder in (work_dir, tmp_path))
    assert with_em < without


def test_is_packed_and_tested(work_dir, tmp_path):
    for command in (
            ['tools/deploy/pack.py', CONFIG, work_dir / 'epoch_6.pth',
             tmp_path / 'packed.pth', '--cfg-options', *OPTIONS],
            ['tools/test.py', tmp_path / 'packed.py', tmp_path / 'packed.pth',
             '--work-dir', tmp_path / 'test'],
    ):  # yapf: disable
        subprocess.run([sys.executable, *map(str, command)],
                       cwd=ROOT,
                       check=True)
    assert accuracy(tmp_path / 'test') == accuracy(work_dir)
    sizes = [(folder / name).stat().st_size
             for folder, name in ((work_dir, 'epoch_6.pth'), (tmp_path,
                                                              'packed.pth'))]
    # with the optimizer's state
    assert sizes[1] < sizes[0] / 10
