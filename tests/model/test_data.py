import pytest
from mmengine.config import Config

import mmcompress.compat  # noqa: F401
from mmcompress.model.config import read_config
from mmcompress.model.data import (channel_order, class_names, dataset_of,
                                   normalization, pipeline_of, training_data)

FILE = dict(type='LoadImageFromFile')
FLIP = dict(type='RandomFlip', prob=0.5)


def config_of(*pipeline, **dataset):
    dataset = dict(dict(type='CustomDataset'), pipeline=pipeline, **dataset)
    return Config(dict(train_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize('config, order', [
    ('mmdet::retinanet/retinanet_r50-caffe_fpn_1x_coco.py', 'bgr'),
    ('mmpretrain::resnet/resnet18_8xb16_cifar10.py', 'rgb'),
    ('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'bgr'),
    # through PIL and back
    ('mmpretrain::deit3/deit3-small-p16_64xb64_in1k.py', 'bgr'),
    ('mmpretrain::swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px'
     '.py', 'bgr'),
    ('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py', 'bgr'),
    ('mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192'
     '.py', 'bgr'),
    ('configs/fgd/fgd_retinanet_mini.py', 'bgr'),
    ('configs/nkd/nkd_resnet18_resnet34_cifar100.py', 'rgb'),
    ('configs/poem/poem_pointnet_mini.py', None),
])  # yapf: disable
def test_the_order_of_the_channels_is_that_of_the_data(config, order):
    assert channel_order(read_config(config)) == order


@pytest.mark.parametrize('pipeline, order', [
    ([FILE, FLIP], 'bgr'),
    ([dict(FILE, imdecode_backend='pillow')], 'bgr'),
    ([dict(FILE, imdecode_backend='tifffile')], 'rgb'),
    ([dict(FILE, channel_order='rgb')], 'rgb'),
    ([dict(type='mmpose.LoadImage')], 'bgr'),
    ([dict(type='LoadImageFromNDArray')], None),
    ([FILE, dict(type='NumpyToPIL', to_rgb=True)], 'rgb'),
    ([FILE, dict(type='NumpyToPIL')], 'bgr'),
    ([FILE, dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
      dict(type='torchvision/RandomCrop', size=4),
      dict(type='PILToNumpy', to_bgr=True)], 'bgr'),
    ([FILE, dict(type='Normalize', mean=[0], std=[1])], 'rgb'),
    ([FILE, dict(type='Normalize', mean=[0], std=[1], to_rgb=False)], 'bgr'),
    ([FILE, dict(type='MyBGR2RGB')], None),
    ([dict(type='MyLoader')], None),
    ([FILE, dict(type='RandomApply', prob=0.5, transforms=[FLIP])], 'bgr'),
    ([FILE, dict(type='RandomApply', prob=0.5, transforms=[
        dict(type='NumpyToPIL', to_rgb=True)])], None),
    ([FILE, dict(type='MultiView', num_views=[1, 1], transforms=[
        [dict(type='NumpyToPIL', to_rgb=True)],
        [FLIP, dict(type='NumpyToPIL', to_rgb=True)]])], 'rgb'),
    ([FILE, dict(type='RandomChoice', transforms=[
        [FLIP], [dict(type='NumpyToPIL', to_rgb=True)]])], None),
])  # yapf: disable
def test_transforms_may_change_it(pipeline, order):
    assert channel_order(config_of(*pipeline)) == order


def test_wrappers_hand_on_what_is_inside():
    inner = dict(type='CustomDataset', pipeline=[FILE])
    other = dict(type='CIFAR10', pipeline=[FLIP])
    flipped = [dict(type='NumpyToPIL', to_rgb=True)]
    for outer, order in (
        (dict(type='RepeatDataset', dataset=inner), 'bgr'),
        (dict(type='RepeatDataset', dataset=other), 'rgb'),
        (dict(type='CombinedDataset', datasets=[inner],
              pipeline=flipped), 'rgb'),
        (dict(type='ConcatDataset', datasets=[inner, inner]), 'bgr'),
        (dict(type='ConcatDataset', datasets=[inner, other]), None),
    ):
        cfg = Config(dict(train_dataloader=dict(dataset=outer)))
        assert channel_order(cfg) == order, outer
    assert pipeline_of(dict(datasets=[inner, other],
                            pipeline=flipped)) == [FILE, *flipped]


def test_a_config_without_data_says_nothing():
    data = training_data(Config(dict(model=dict())))
    assert data.channel_order is data.normalization is data.classes is None


def test_the_first_of_several_loaders_counts():
    one = dict(dataset=dict(type='CIFAR10'))
    cfg = Config(dict(train_dataloader=None, test_dataloader=[one, one]))
    assert dataset_of(cfg)['type'] == 'CIFAR10'
    assert dataset_of(cfg, ['val_dataloader']) == {}


def test_normalization_of_a_pipeline():
    assert normalization(config_of(FILE)) == ()
    assert normalization(
        config_of(FILE, dict(type='mmcv.Normalize', mean=[1],
                             std=[2]))) == (((1, ), (2, )), )


@pytest.mark.parametrize('metainfo, names', [
    (dict(classes=('a', 'b'), palette=[]), ['a', 'b']),
    (dict(CLASSES=['a']), ['a']),
    (dict(keypoint_id2name={
        1: 'eye',
        0: 'nose'
    }), ['nose', 'eye']),
    (dict(classes=None), None),
    (dict(), None),
])
def test_names_of_classes_and_of_keypoints(metainfo, names):
    assert class_names(metainfo) == names
