from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope
from mmengine.structures import PixelData

from mmcompress.datasets import MiniSegmentation, ensure_mini_data
from mmcompress.datasets.segmentation import label_map

CONFIG = Path(__file__).parents[2] / 'configs/_base_/mini_segmentation.py'
SIZE = dict(num_train=20, num_val=20)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMCOMPRESS_CACHE', str(tmp_path_factory.mktemp('cache')))
        ensure_mini_data('segmentation', **SIZE)
        cfg = Config.fromfile(CONFIG).val_dataloader.dataset
        with DefaultScope.overwrite_default_scope('mmseg'):
            yield DATASETS.build(dict(cfg, settings=SIZE))


@pytest.fixture(scope='module')
def scenes():
    return MiniSegmentation(**SIZE).make_split('val')


def evaluate(dataset, predict):
    with DefaultScope.overwrite_default_scope('mmseg'):
        metric = METRICS.build(dict(type='IoUMetric', iou_metrics=['mIoU']))
    metric.dataset_meta = dataset.metainfo
    for item in dataset:
        sample = item['data_samples']
        sample.pred_sem_seg = PixelData(data=predict(sample.gt_sem_seg.data))
        metric.process({}, [sample.to_dict()])
    return metric.evaluate(len(dataset))['mIoU']


def test_mmseg_reads_pixels_and_their_classes(dataset, scenes):
    assert type(dataset).__module__.startswith('mmseg.')
    assert dataset.metainfo['classes'][:2] == ('background', 'zero')
    assert len(dataset) == len(scenes) == 20
    for item, scene in zip(dataset, scenes):
        labels = item['data_samples'].gt_sem_seg.data[0].numpy()
        assert np.array_equal(labels, label_map(scene))
        # a good jpeg, blue first
        read = item['inputs'].numpy().transpose(1, 2, 0)[..., ::-1]
        assert abs(read.astype(float) - scene.image).mean() < 4


def test_perfect_maps_have_an_iou_of_100(dataset):
    assert evaluate(dataset, lambda labels: labels) == 100
    assert evaluate(dataset, torch.zeros_like) < 10


def test_ink_lies_in_the_boxes_and_touches_their_sides(scenes):
    for scene in scenes:
        labels = label_map(scene)
        for (x1, y1, x2, y2), ink in zip(scene.boxes, scene.masks):
            assert ink.shape == (y2 - y1, x2 - x1)
            assert ink.any(0).all() or ink.any(1).all()
            assert all(side.any()
                       for side in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))
            labels[y1:y2, x1:x2][ink] = 0
        assert not labels.any()


def test_the_later_digit_is_in_front(scenes):
    scene = next(s for s in scenes if s.boxes)
    x1, y1, x2, y2 = scene.boxes[-1]
    inside = label_map(scene)[y1:y2, x1:x2]
    assert (inside[scene.masks[-1]] == scene.labels[-1] + 1).all()


def test_an_image_depends_on_its_number_only(scenes):
    few = MiniSegmentation(num_val=2).make_split('val')
    other = MiniSegmentation(num_val=2, seed=1).make_split('val')
    for a, b, c in zip(scenes, few, other):
        assert np.array_equal(a.image, b.image)
        assert not np.array_equal(a.image, c.image)


@pytest.mark.parametrize('wrong, named', [(dict(num_train=0), 'num_train'),
                                          (dict(width=90), 'width'),
                                          (dict(height=400), '400')])
def test_impossible_settings_are_refused_by_name(wrong, named):
    with pytest.raises(ValueError, match=named):
        MiniSegmentation(**wrong)
