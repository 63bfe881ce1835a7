from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mmcompress.datasets import MiniClassification, ensure_mini_data
from mmcompress.datasets.digits import CLASSES

CONFIGS = Path(__file__).parents[2] / 'configs'
SIZE = dict(num_train=60, num_val=12)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp('cache')
        patch.setenv('MMCOMPRESS_CACHE', str(cache))
        yield ensure_mini_data('classification', **SIZE)


def test_a_folder_of_pictures_for_each_digit(folder):
    for split, num in dict(train=60, val=12).items():
        assert sorted(p.name for p in (folder / split).iterdir()) == [
            str(digit) for digit in range(10)
        ]
        files = list((folder / split).rglob('*.png'))
        assert len(files) == num
        assert {Image.open(file).size for file in files} == {(32, 32)}
        assert {Image.open(file).mode for file in files} == {'RGB'}


def test_mmpretrain_reads_it_with_the_right_classes(folder):
    cfg = Config.fromfile(CONFIGS / '_base_/mini_classification.py')
    cfg = cfg.val_dataloader.dataset
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(dict(cfg, settings=SIZE))
        inputs = dataset[0]['inputs']
    assert type(dataset).__name__ == 'CustomDataset'
    assert dataset.metainfo['classes'] == CLASSES
    assert inputs.shape == (3, 32, 32)
    scenes = MiniClassification(**SIZE).make_split('val')
    for sample in (dataset.get_data_info(i) for i in range(12)):
        number = int(sample['img_path'][-9:-4])
        assert sample['gt_label'] == scenes[number].labels[0]
        image = np.asarray(Image.open(sample['img_path']))
        assert np.array_equal(image, scenes[number].image)


def test_an_image_depends_on_its_number_only(folder):
    few = MiniClassification(num_train=3, num_val=1).make_split('train')
    many = MiniClassification(**SIZE).make_split('train')
    other = MiniClassification(
        num_train=3, num_val=1, seed=1).make_split('train')
    for a, b, c in zip(few, many, other):
        assert np.array_equal(a.image, b.image) and a.labels == b.labels
        assert not np.array_equal(a.image, c.image)


def test_the_digit_covers_the_middle():
    for scene in MiniClassification(num_train=100).make_split('train'):
        (x1, y1, x2, y2), = scene.boxes
        assert 0 <= x1 < 16 < x2 <= 32 and 0 <= y1 < 16 < y2 <= 32
        assert y2 - y1 >= 10


@pytest.mark.parametrize('wrong, named', [(dict(num_val=0), 'num_val'),
                                          (dict(size=100), '100')])
def test_impossible_settings_are_refused_by_name(wrong, named):
    with pytest.raises(ValueError, match=named):
        MiniClassification(**wrong)
