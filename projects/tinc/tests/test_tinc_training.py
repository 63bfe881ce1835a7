"""Fits through mmengine's Runner, of both configs."""
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from tinc import (TINC, QuantizeFromHook, SignalBlocks, build_config, decode,
                  fit, load_signal, psnr)
from tinc.tree import Tree

CONFIGS = Path(__file__).parents[1] / 'configs'


@pytest.fixture(autouse=True)
def has_coder():
    pytest.importorskip('constriction')


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """A volume of three axes, none of which a tree of 2 levels halves."""
    z, y, x = np.meshgrid(*map(np.arange, (5, 9, 7)), indexing='ij')
    path = tmp_path_factory.mktemp('tinc') / 'volume.npy'
    np.save(path, np.sin(0.9 * x + 0.4 * y) * z + 1000)
    return str(path)


def short(file, **kwargs):
    return build_config(
        file, **{
            **dict(bpp=20., levels=2, steps=20, omega_0=3.),
            **kwargs
        })


@pytest.fixture(scope='module')
def fitted(file):
    pytest.importorskip('constriction')
    return fit(short(file, steps=60), is_quiet=True)


def test_training_brings_the_file_closer_to_the_signal(fitted, file):
    data, results = fitted
    signal = load_signal(file)
    reconstructed = decode(data)
    assert reconstructed.pixels.dtype == np.float64
    assert results['psnr'] == psnr(signal, reconstructed)
    assert results['bytes'] == len(data) <= 20 * signal.num_pixels / 8
    assert results['bpp'] == 8 * len(data) / signal.num_pixels
    tree = Tree(signal.shape, 2)
    means = np.empty_like(signal.pixels)
    for part in tree.parts(1):
        means[part] = signal.pixels[part].mean()
    assert results['psnr'] > psnr(signal, type(signal).of(means)) + 3


def draws():
    return torch.rand(1).item(), random.random(), np.random.rand()


def test_a_seed_gives_the_same_file_and_stays_inside(file):
    files, seen = [], []
    for seed in (1, 1, 2):
        files.append(fit(short(file, seed=seed, steps=8), is_quiet=True)[0])
        seen.append(draws())
    assert files[0] == files[1] != files[2]
    assert len(set(seen)) == 3
    assert DefaultScope.get_current_instance() is None


def test_without_the_coder_no_training_begins(file, monkeypatch):
    monkeypatch.setitem(sys.modules, 'constriction', None)
    taken = []
    monkeypatch.setattr(TINC, 'train_step', lambda *args: taken.append(1))
    with pytest.raises(ModuleNotFoundError, match='pip install constriction'):
        fit(short(file), is_quiet=True)
    assert not taken


def test_parts_of_the_data_are_all_positions_once():
    signal = dict(file='rendered:6', crop=[0, 0, 0, 5, 6, 3])
    data = SignalBlocks(signal, levels=2, pixels=40)
    assert len(data) == 4
    tree = Tree((5, 6, 3), 2)
    items = [data[i] for i in range(4)]
    coordinates = torch.cat([item['coordinates'] for item in items])
    assert len(coordinates.unique(dim=0)) == tree.num_positions == 18
    assert sum(item['there'].sum() for item in items) == 5 * 6 * 3
    total = sum(item['values'].sum() for item in items)
    expected = load_signal(**signal).normalized().sum(dtype=float)
    assert total.item() == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match='pixels'):
        SignalBlocks(signal, levels=2, pixels=0)


def test_what_is_not_there_does_not_count(file):
    torch.manual_seed(0)
    model = TINC(dict(file=file), bpp=20., levels=2)
    model.quantize(False)
    item = SignalBlocks(dict(file=file), levels=2)[0]
    batch = {key: [value] for key, value in item.items()}
    loss = model(**batch, mode='loss')['loss_mse']
    batch['values'] = [
        item['values'].where(item['there'][..., None], torch.tensor(9.))
    ]
    assert model(**batch, mode='loss')['loss_mse'] == loss
    batch['there'] = [torch.ones_like(item['there'])]
    assert model(**batch, mode='loss')['loss_mse'] > loss


def test_model_and_data_of_other_trees_are_an_error(file):
    model = TINC(dict(file=file), bpp=20., levels=2)
    item = SignalBlocks(dict(file=file), levels=1)[0]
    with pytest.raises(ValueError, match='levels of model and dataset'):
        model(**{key: [value] for key, value in item.items()}, mode='loss')


def test_codes_are_trained_from_the_given_part_on(file):
    cfg = short(file, steps=10)
    cfg.custom_hooks = [dict(type='mmcompress.QuantizeFromHook', begin=0.7)]
    cfg.default_hooks.checkpoint = None
    cfg.log_level = 'WARNING'
    seen = []
    cfg.work_dir = str(Path(file).parent / 'watch')
    cfg.experiment_name = 'tinc_watch'
    runner = Runner.from_cfg(cfg)
    quantizer = runner.model.network.quantizers()[0]
    quantizer.register_forward_hook(
        lambda module, *args: seen.append(module.bypass))
    before = quantizer.scale.clone()
    runner.train()
    assert seen == 7 * [True] + 3 * [False]
    assert quantizer.is_initialized and quantizer.scale != before
    with pytest.raises(ValueError, match='begin'):
        QuantizeFromHook(begin=1)


@pytest.mark.parametrize('name, options', [
    ('tinc_china_mini', dict(crop=[0, 0, 18, 17])),
    ('tinc_volume_mini', dict(crop=[0, 0, 0, 7, 6, 5])),
])
def test_configs_train(tmp_path, name, options):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.merge_from_dict({
        'model.signal.crop': options['crop'],
        'train_dataloader.dataset.signal.crop': options['crop'],
        'model.bpp': 20.,
        'train_cfg.max_iters': 2,
        'work_dir': str(tmp_path),
        'experiment_name': name,
        'log_level': 'WARNING'
    })
    runner = Runner.from_cfg(cfg)
    runner.train()
    data = (tmp_path / 'signal.tinc').read_bytes()
    assert decode(data).shape == runner.model.signal.shape
    assert (tmp_path / 'last_checkpoint').exists()


def test_options_out_of_range_are_refused(file):
    for kwargs in (dict(bpp=0.), dict(bpp=1., omega_0=-1.)):
        with pytest.raises(ValueError, match='must be positive'):
            TINC(dict(file=file), **kwargs)
    with pytest.raises(ValueError, match='mode'):
        TINC(
            dict(file=file), bpp=20., levels=1)([torch.zeros(1, 3)],
                                                mode='test')
