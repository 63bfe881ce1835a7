"""Batches look as those of the tool of the config's library."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from mmcompress.model.loader import build_loader


@DATASETS.register_module(force=True)
class TwoImages(Dataset):
    """Two black ones."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(3, 4, 4))


@pytest.mark.parametrize('scope, kind', [('mmpretrain', torch.Tensor),
                                         ('mmdet', list)])
def test_images_are_stacked_where_the_library_does(scope, kind):
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='TwoImages'))
    batch = next(iter(build_loader(Config(dict(default_scope=scope)), loader)))
    assert isinstance(batch['inputs'], kind)
    assert 'collate_fn' not in loader
