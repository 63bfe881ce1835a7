import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS

from mmcompress.model.training_images import training_images


@DATASETS.register_module(force=True)
class _Numbers(BaseDataset):
    """As many numbers as it is told."""

    def __init__(self, size, start=0, **kwargs):
        self.size, self.start = size, start
        super().__init__(serialize_data=False, **kwargs)

    def load_data_list(self):
        return [dict(number=self.start + i) for i in range(self.size)]


@TRANSFORMS.register_module(force=True)
class _Times:

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, results):
        inputs = torch.tensor([self.factor * results['number']])
        return dict(inputs=inputs, data_samples=0)


@TRANSFORMS.register_module(force=True)
class _Fails:

    def __call__(self, results):
        raise KeyError('gt_bboxes')


def numbers(size=10, factor=-1, **options):
    return dict(
        type='_Numbers',
        size=size,
        pipeline=[dict(type='_Times', factor=factor)],
        **options)


def config(train, **loader):
    test = dict(
        batch_size=4,
        num_workers=2,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=numbers(factor=100),
        **loader)
    return Config(
        dict(
            train_dataloader=dict(
                batch_size=2,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=train),
            test_dataloader=test))


def values(cfg, num):
    return [int(x) for batch in training_images(cfg, num)
            for x in batch['inputs']]  # yapf: disable


def test_images_are_spread_and_prepared_as_in_testing():
    cfg = config(numbers(13))
    before = copy.deepcopy(cfg.to_dict())
    assert values(cfg, 5) == [0, 300, 600, 900, 1200]
    assert cfg.to_dict() == before
    assert [len(batch['inputs'])
            for batch in training_images(cfg, 5)] == [4, 1]


@pytest.mark.parametrize('wrapper', [
    lambda inner: dict(type='RepeatDataset', times=3, dataset=inner),
    lambda inner: dict(
        type='ClassBalancedDataset', oversample_thr=1e-3, dataset=inner),
    lambda inner: dict(
        type='mmdet.MultiImageMixDataset', dataset=inner,
        pipeline=[dict(type='Mosaic')]),
    lambda inner: dict(
        type='RepeatDataset', times=2,
        dataset=dict(type='ConcatDataset', datasets=[inner])),
], ids=['repeat', 'balance', 'mix', 'both'])  # yapf: disable
def test_wrappers_are_left_out(wrapper):
    assert values(config(wrapper(numbers(3))), 3) == [0, 100, 200]


def test_several_data_sets_stay_several():
    train = dict(
        type='ConcatDataset', datasets=[numbers(2),
                                        numbers(2, start=5)])
    assert values(config(train), 4) == [0, 100, 500, 600]


def test_a_combined_data_set_keeps_the_pipelines_of_its_parts():
    from mmcompress.model.training_images import _with_pipeline
    inner = numbers(factor=7)
    train = dict(type='CombinedDataset', datasets=[inner], pipeline=['train'])
    assert _with_pipeline(train, ['test']) == dict(
        type='CombinedDataset', datasets=[inner], pipeline=['test'])


def test_errors_say_what_is_missing():
    cfg = config(numbers(3))
    with pytest.raises(ValueError, match='4 images .* training data has 3'):
        training_images(cfg, 4)
    with pytest.raises(ValueError, match='at least one image'):
        training_images(cfg, 0)
    cfg.test_dataloader.dataset.pipeline = [dict(type='_Fails')]
    with pytest.raises(RuntimeError, match="test pipeline .*'gt_bboxes'"):
        training_images(cfg, 2)
    with pytest.raises(RuntimeError, match='`train_dataloader.dataset`, can'):
        training_images(config(numbers('none')), 2)
    cfg.pop('test_dataloader')
    with pytest.raises(ValueError, match='neither `test_dataloader` nor'):
        training_images(cfg, 2)
    cfg.pop('train_dataloader')
    with pytest.raises(ValueError, match='no `train_dataloader`'):
        training_images(cfg, 2)
