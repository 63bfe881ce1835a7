import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from mmdet.evaluation import CocoMetric, VOCMetric
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData

from mmcompress.datasets import MiniDetection, ensure_mini_data

SIZE = dict(num_train=60, num_val=4)
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'instances'))
]
COCO = dict(
    type='CocoDataset',
    ann_file='annotations/train.json',
    data_prefix=dict(img='JPEGImages/'),
    filter_cfg=dict(filter_empty_gt=False))
VOC = dict(
    type='VOCDataset',
    ann_file='ImageSets/Main/train.txt',
    data_prefix=dict(sub_data_root=''),
    filter_cfg=dict(filter_empty_gt=False))


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('cache')
        patch.setenv('MMCOMPRESS_CACHE', str(folder))
        yield folder


@pytest.fixture(autouse=True)
def mmdet_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def rendered(dataset, **kwargs):
    return dict(
        type='mmcompress.Rendered',
        dataset=dict(dataset),
        settings=SIZE,
        pipeline=PIPELINE,
        **kwargs)


def perfect(sample):
    """The sample as a detector that finds everything leaves it."""
    gt = sample.gt_instances
    sample.pred_instances = InstanceData(
        bboxes=gt.bboxes.tensor,
        labels=gt.labels,
        scores=gt.labels.new_ones(len(gt)).float())
    gt.bboxes = gt.bboxes.tensor
    ignored = sample.ignored_instances
    ignored.bboxes = ignored.bboxes.tensor
    return sample.to_dict()


def evaluate(metric, dataset):
    metric.dataset_meta = dataset.metainfo
    for item in dataset:
        metric.process({}, [perfect(item['data_samples'])])
    return metric.evaluate(len(dataset))


@pytest.mark.parametrize('config, name', [(COCO, 'CocoDataset'),
                                          (VOC, 'VOCDataset')])
def test_is_the_dataset_of_mmdet(config, name, cache):
    dataset = DATASETS.build(rendered(config))
    assert type(dataset).__name__ == name
    assert type(dataset).__module__.startswith('mmdet.')
    assert len(dataset) == 60
    assert dataset.metainfo['classes'][3] == 'three'
    assert dataset.data_root.startswith(str(cache))
    assert dataset[0]['inputs'].shape == (3, 128, 160)


def test_is_found_without_a_default_scope():
    with DefaultScope.overwrite_default_scope(None):
        config = rendered(COCO)
        config['dataset']['type'] = 'mmdet.CocoDataset'
        config['pipeline'] = []
        assert len(DATASETS.build(config)) == 60


@pytest.mark.parametrize(
    'wrapper', [
        lambda inner: dict(type='RepeatDataset', times=2, dataset=inner),
        lambda inner: dict(type='ConcatDataset', datasets=[inner, inner])
    ],
    ids=['repeat', 'concat'])
def test_wraps_and_is_wrapped(wrapper):
    assert len(DATASETS.build(wrapper(rendered(COCO)))) == 120
    outer = rendered(wrapper(COCO))
    assert len(DATASETS.build(outer)) == 120
    assert DATASETS.build(outer)[119]['inputs'].shape == (3, 128, 160)


def test_coco_and_voc_agree():
    coco = DATASETS.build(rendered(COCO))
    voc = DATASETS.build(rendered(VOC))
    for i in range(len(coco)):
        a, b = coco.get_data_info(i), voc.get_data_info(i)
        # osp.join leaves different numbers of slashes
        assert a['img_path'].split('/')[-1] == b['img_path'].split('/')[-1]
        assert [x['bbox_label'] for x in a['instances']
                ] == [x['bbox_label'] for x in b['instances']]
        for x, y in zip(a['instances'], b['instances']):
            # mmdet's VOC boxes end at the last pixel, and its metric adds 1
            assert np.array_equal(
                np.subtract(x['bbox'], y['bbox']), [0, 0, 1, 1])


def test_perfect_detections_have_an_ap_of_1():
    result = evaluate(CocoMetric(), DATASETS.build(rendered(COCO)))
    assert result['coco/bbox_mAP'] == 1.0
    path = ensure_mini_data(**SIZE) / 'annotations/train.json'
    result = evaluate(CocoMetric(str(path)), DATASETS.build(rendered(COCO)))
    assert result['coco/bbox_mAP'] == 1.0
    result = evaluate(VOCMetric(), DATASETS.build(rendered(VOC)))
    assert result['pascal_voc/mAP'] == 1.0


def test_perfect_masks_have_an_ap_of_1_and_fit_their_boxes():
    pipeline = [
        PIPELINE[0],
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        PIPELINE[-1]
    ]
    dataset = DATASETS.build(
        dict(rendered(dict(COCO, pipeline=pipeline)), pipeline=None))
    path = ensure_mini_data(**SIZE) / 'annotations/train.json'
    metric = CocoMetric(str(path), metric=['bbox', 'segm'])
    metric.dataset_meta = dataset.metainfo
    for item in dataset:
        sample = item['data_samples']
        masks = sample.gt_instances.masks.to_tensor(bool, 'cpu')
        boxes = sample.gt_instances.bboxes.tensor
        for mask, (x1, y1, x2, y2) in zip(masks.numpy(), boxes.tolist()):
            ys, xs = mask.nonzero()
            assert (x1, y1) == (xs.min(), ys.min())
            assert (x2, y2) == (xs.max() + 1, ys.max() + 1)
        result = perfect(sample)
        result['pred_instances']['masks'] = masks
        metric.process({}, [result])
    result = metric.evaluate(len(dataset))
    assert result['coco/segm_mAP'] == result['coco/bbox_mAP'] == 1.0


def test_images_without_boxes_are_kept():
    folder = ensure_mini_data(**SIZE)
    coco = json.loads((folder / 'annotations/train.json').read_text())
    with_boxes = {a['image_id'] for a in coco['annotations']}
    empty = [
        i for i, image in enumerate(coco['images'])
        if image['id'] not in with_boxes
    ]
    assert empty
    for config in (COCO, VOC):
        dataset = DATASETS.build(rendered(config))
        for i in empty:
            sample = dataset[i]['data_samples']
            assert sample.img_id in (i + 1, f'{i + 1:06d}')
            assert len(sample.gt_instances) == 0


def test_names_of_the_files_are_those_of_coco_and_voc():
    folder = ensure_mini_data(**SIZE)
    train = (folder / 'ImageSets/Main/train.txt').read_text().split()
    val = (folder / 'ImageSets/Main/val.txt').read_text().split()
    images = {p.stem for p in (folder / 'JPEGImages').glob('*.jpg')}
    assert images == {*train, *val} and len(images) == 64
    root = ET.parse(folder / f'Annotations/{val[0]}.xml').getroot()
    assert root.find('size/width').text == '160'


def test_the_pipeline_inside_counts_more():
    # mmdet's test.py puts the one for test-time augmentation there
    config = rendered(dict(COCO, pipeline=PIPELINE[:1]))
    assert 'img' in DATASETS.build(config)[0]


def test_lazy_init_reaches_the_dataset():
    # mmdet's init_detector sets it to read metainfo alone
    dataset = DATASETS.build(rendered(COCO, lazy_init=True))
    assert not dataset._fully_initialized


def test_config_is_not_changed():
    config = Config(dict(dataset=rendered(COCO)))
    before = config.to_dict()
    DATASETS.build(config.dataset)
    assert config.to_dict() == before


def test_images_do_not_depend_on_their_number():
    few, more = MiniDetection(num_train=2), MiniDetection(num_train=3)
    for a, b in zip(few.make_split('train'), more.make_split('train')):
        assert np.array_equal(a.image, b.image)
    other = MiniDetection(num_train=2, seed=1).make_split('train')
    assert not np.array_equal(other[0].image, few.make_split('train')[0].image)


def test_boxes_are_the_same_on_every_machine():
    scene = MiniDetection(num_val=1).make_split('val')[0]
    assert list(zip(scene.labels, scene.boxes)) == [(4, [0, 4, 34, 48]),
                                                    (8, [106, 23, 125, 62]),
                                                    (4, [115, 76, 137, 108]),
                                                    (6, [74, 33, 109, 85]),
                                                    (8, [2, 69, 19, 95]),
                                                    (4, [15, 73, 45, 127]),
                                                    (3, [120, 38, 154, 83])]


@pytest.mark.parametrize('settings, message', [
    (dict(num_val=0), 'num_val'),
    (dict(width=64), 'width'),
])
def test_rejects_settings_that_give_no_scene(settings, message):
    with pytest.raises(ValueError, match=message):
        MiniDetection(**settings)


def test_rejects_an_unknown_task():
    with pytest.raises(ValueError, match="'detection'.*'depth'"):
        ensure_mini_data('depth')
