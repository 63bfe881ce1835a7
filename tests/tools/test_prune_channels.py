"""tools/deploy/prune.py --channels."""
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import load_checkpoint
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from mmcompress.analysis.subject import build_subject
from mmcompress.model.config import build_model, read_config

TOOL = str(Path(__file__).parents[2] / 'tools' / 'deploy' / 'prune.py')
DENSE = '''
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=3, mean=[127.] * 3, std=[60.] * 3),
    backbone=dict(
        type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8,
        num_stages=1, strides=(2, ), dilations=(1, ), out_indices=(0, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=8))
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ImagesToPrune'))
test_dataloader = train_dataloader
'''


@DATASETS.register_module(force=True)
class ImagesToPrune(Dataset):
    metainfo = dict(classes=('a', 'b', 'c'))

    def __len__(self):
        return 4

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        image = torch.randint(
            256, (3, 16, 16), generator=generator, dtype=torch.uint8)
        return dict(
            inputs=image, data_samples=DataSample().set_gt_label(i % 3))


@pytest.fixture
def prune(tmp_path, monkeypatch):
    (tmp_path / 'dense.py').write_text(DENSE)
    torch.manual_seed(0)
    model = build_model(read_config(str(tmp_path / 'dense.py')))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'dense.pth')

    def run(*options, config='dense', out='out'):
        monkeypatch.setattr(sys, 'argv', [
            TOOL,
            *(str(tmp_path / name)
              for name in (f'{config}.py', f'{config}.pth', f'{out}.pth')),
            *options
        ])
        runpy.run_path(TOOL, run_name='__main__')
        return tmp_path / f'{out}.py'

    return run


def sizes(config):
    model = build_subject(
        Config.fromfile(config), str(config.with_suffix('.pth')))
    return [(layer.in_channels, layer.out_channels)
            for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]


def test_writes_what_loads(prune):
    config = prune('--channels', '0.5', '--criterion', 'taylor', '--uniform')
    assert sizes(config) == [(3, 4)] + [(4, 4)] * 5
    meta = torch.load(config.with_suffix('.pth'))['meta']
    assert {len(kept) for kept in meta['kept_channels'].values()} == {4}
    again = prune('--channels', '0.5', '--uniform', config='out', out='less')
    assert sizes(again) == [(3, 2)] + [(2, 2)] * 5
    steps = Config.fromfile(again).model.steps
    assert [step.type for step in steps] == ['mmcompress.KeepChannels']


def test_the_dense_config_refuses_the_file(prune):
    config = prune('--channels', '0.5')
    dense = build_model(read_config(str(config.with_name('dense.py'))))
    with pytest.raises(RuntimeError, match='of a pruned model.*KeepChannels'):
        # which only warns of shapes
        load_checkpoint(dense, str(config.with_suffix('.pth')))


@pytest.mark.parametrize(
    'options,match', [
        (['--channels', '0.5', '--ratio', '0.5'], 'one after the other'),
        (['--criterion', 'taylor'], 'are for --channels'),
        (['--channels', '0.5', '--train-batches', '0'], 'at least one batch'),
    ],
    ids=['both', 'criterion', 'batches'])
def test_options_that_do_not_go_together_are_refused(prune, options, match):
    with pytest.raises(ValueError, match=match):
        prune(*options)
