import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from rbf_points import RBFNet
from rbf_points.corruptions import Corruption, accuracy, corrupted_clouds

from mmcompress.analysis.complexity import complexity, total
from mmcompress.analysis.subject import build_subject
from mmcompress.deploy import PackedLayer, pack
from mmcompress.deploy.integer_layers import PackedIntegerLayer
from mmcompress.lowbit import LowBitLayer
from mmcompress.model.config import build_model
from mmcompress.model.inputs import made_up_batch, noise_batch

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(ROOT.glob('configs/*.py'))


def read(name):
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMCOMPRESS_CACHE', str(tmp_path_factory.mktemp('mini')))
        yield


def on_few_clouds(cfg):
    for loader in ('train', 'val', 'test'):
        cfg[f'{loader}_dataloader'].dataset.settings = dict(
            num_train=32, num_val=10)
        cfg[f'{loader}_dataloader'].collate_fn = dict(type='default_collate')
    return cfg


def trained(cfg, work_dir, steps=2):
    """A model after some steps of mmengine's Runner."""
    on_few_clouds(cfg)
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'WARNING'
    cfg.train_dataloader.batch_size = 32 // steps
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner.model


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_each_config_takes_a_step(config):
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build_model(cfg).train()
        batch = made_up_batch(model, 'mmpretrain', (3, 50), 3)
    losses = model(**batch, mode='loss')
    model.parse_losses(losses)[0].backward()
    assert losses['loss'].isfinite()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert not missing
    assert model.head.num_classes == (40 if 'modelnet40' in config.stem else 5)


def test_runner_learns_centres_and_widths(tmp_path):
    cfg = read('rbf_multiscale_m200_mini')
    cfg.randomness = dict(seed=3)
    model = trained(cfg, tmp_path)
    state = torch.load(tmp_path / 'epoch_1.pth')['state_dict']
    torch.manual_seed(0)
    assert state['backbone.centers'].shape == (200, 3)
    assert torch.equal(state['backbone.log_widths'],
                       model.backbone.log_widths.detach())
    first = RBFNet(200, scales=(0.5, 1, 2)).widths
    ratio = first[:, 1] / first[:, 0]
    torch.testing.assert_close(ratio, torch.full((200, ), 2.0))
    # each width of a centre has moved by itself
    ratio = model.backbone.widths[:, 1] / model.backbone.widths[:, 0]
    assert (ratio - 2).abs().max() > 1e-4


def costs(name):
    cfg = read(name)
    model = build_subject(cfg)
    return total(complexity(model, noise_batch(cfg, model)))


@pytest.mark.parametrize('num', [200, 1000])
def test_pairs_agree_within_3_percent(num):
    rbf = costs(f'rbf_gaussian_m{num}_mini')
    # by hand: centres and widths, a layer with its norm, the classifier
    assert rbf.params == num * 4 + num * 128 + 2 * 128 + 128 * 5 + 5
    # 4 products for each of 256 points
    assert rbf.macs == num * 256 * 4 + num * 128 + 128 * 5
    same_params = costs(f'pointnet_equal-params-m{num}_mini')
    same_macs = costs(f'pointnet_equal-ops-m{num}_mini')
    assert same_params.params == pytest.approx(rbf.params, rel=0.03)
    assert same_macs.macs == pytest.approx(rbf.macs, rel=0.03)


# ---- Low bits --------------------------------------------------------------


@pytest.mark.parametrize('name, layers', [
    ('rbf_gaussian_m200_w8_a8_mini', {'neck.units.0.fc', 'head.fc'}),
    ('rbf_gaussian_m200_poem_mini', {'neck.units.0.fc'}),
])
def test_the_classifier_trains_in_low_bits_and_is_packed(
        name, layers, tmp_path):
    model = trained(read(name), tmp_path).eval()
    low = {n for n, m in model.named_modules() if isinstance(m, LowBitLayer)}
    assert low == layers
    folded, packed = pack(model)
    kept = {
        n
        for n, m in packed.named_modules()
        if isinstance(m, (PackedLayer, PackedIntegerLayer))
    }
    assert len(kept) == len(layers)
    points = torch.rand(5, 3, 40) - 0.5
    with torch.no_grad():
        expected, ours, theirs = (
            m(points, mode='tensor') for m in (model, folded, packed))
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(theirs, expected, rtol=1e-3, atol=1e-4)


# ---- Corruptions -----------------------------------------------------------


def test_corruptions_add_noise_and_drop_points_only():
    cfg = on_few_clouds(read('rbf_gaussian_m100_mini'))
    clean, labels = corrupted_clouds(cfg, Corruption())
    assert clean.shape == (10, 3,
                           256) and labels.tolist() == [0, 1, 2, 3, 4] * 2
    assert clean.norm(dim=1).amax(1).allclose(torch.ones(10))
    noisy, _ = corrupted_clouds(cfg, Corruption(noise=0.1))
    assert (noisy - clean).std().item() == pytest.approx(0.1, rel=0.05)
    again, _ = corrupted_clouds(cfg, Corruption(noise=0.1))
    assert torch.equal(noisy, again)
    fewer, _ = corrupted_clouds(cfg, Corruption(dropped=0.9))
    assert fewer.shape == (10, 3, 26)
    # normalised by themselves
    assert fewer.norm(dim=1).amax(1).allclose(torch.ones(10))
    assert fewer.mean(-1).abs().max() < 1e-5


@pytest.mark.parametrize('bad', [dict(noise=-1), dict(dropped=1)])
def test_impossible_corruptions_are_named(bad):
    with pytest.raises(ValueError, match=str(*bad.values())):
        Corruption(**bad)


def test_corruptions_want_the_transforms_of_points():
    with pytest.raises(ValueError, match='no NormalizePoints'):
        Corruption().pipeline([dict(type='mmcompress.LoadPoints')])


def test_accuracy_is_the_share_of_right_answers():
    model = build_subject(read('rbf_gaussian_m100_mini'))
    clouds = torch.rand(6, 3, 20) - 0.5
    found = model(clouds, mode='tensor').argmax(1)
    labels = found.clone()
    labels[:2] = (labels[:2] + 1) % 5
    assert accuracy(
        model, clouds, labels, batch_size=4) == pytest.approx(100 * 4 / 6)


# ---- Results ---------------------------------------------------------------


def test_the_readme_has_the_measured_accuracies():
    runs = json.loads((ROOT / 'results/robustness.json').read_text())['runs']
    assert len(runs) == 30
    assert {run['seed'] for run in runs} == {1, 2, 3}
    lines = (ROOT / 'README.md').read_text().splitlines()
    for name in {run['network'] for run in runs}:
        assert (ROOT / f'configs/{name}_mini.py').is_file()
        values = torch.tensor([
            list(run['accuracy'].values()) for run in runs
            if run['network'] == name
        ])
        cells = ' | '.join(
            f'{mean:.1f} ± {std:.1f}'
            for mean, std in zip(values.mean(0), values.std(0, correction=1)))
        row = f'(configs/{name}_mini.py) | {cells} |'
        assert any(line.endswith(row) for line in lines), row
