import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mmcompress.datasets import MiniPose, ensure_mini_data
from mmcompress.datasets.figures import NUM_KEYPOINTS, PARTS, pose_figure
from mmcompress.datasets.pose import HIDDEN, OUTSIDE, VISIBLE

CONFIG = Path(__file__).parents[2] / 'configs/_base_/mini_pose.py'
SIZE = dict(num_train=1, num_val=30)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMCOMPRESS_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield ensure_mini_data('pose', **SIZE)


@pytest.fixture(scope='module')
def annotations(folder):
    return json.loads((folder / 'annotations/val.json').read_text())


@pytest.fixture(scope='module')
def dataset(folder):
    cfg = Config.fromfile(CONFIG).val_dataloader.dataset
    with DefaultScope.overwrite_default_scope('mmpose'):
        yield DATASETS.build(dict(cfg, settings=SIZE))


@pytest.fixture(scope='module')
def groups():
    return MiniPose(**SIZE).make_split('val')


def persons(groups):
    return [person for group in groups for person in group.persons]


def evaluate(dataset, shift):
    with DefaultScope.overwrite_default_scope('mmpose'):
        metric = METRICS.build(dict(type='CocoWholeBodyMetric'))
    metric.dataset_meta = dataset.metainfo
    for i, item in enumerate(dataset):
        sample = item['data_samples']
        points = dataset.get_data_info(i)['keypoints'] + shift
        sample.pred_instances = InstanceData(
            keypoints=points,
            keypoint_scores=np.ones((1, NUM_KEYPOINTS)),
            bboxes=sample.gt_instances.bboxes,
            bbox_scores=np.ones(1))
        metric.process({}, [sample.to_dict()])
    return metric.evaluate(len(dataset))


def test_mmpose_reads_every_figure(dataset, groups):
    assert type(dataset).__name__ == 'CocoWholeBodyDataset'
    assert type(dataset).__module__.startswith('mmpose.')
    found = persons(groups)
    assert len(dataset) == len(found)
    for i, person in enumerate(found):
        info = dataset.get_data_info(i)
        labelled = person.visibility != OUTSIDE
        assert np.array_equal(info['keypoints_visible'][0] > 0, labelled)
        assert np.allclose(
            info['keypoints'][0][labelled],
            person.keypoints[labelled],
            atol=0.006)


def test_perfect_keypoints_have_an_ap_of_1(dataset):
    result = evaluate(dataset, 0)
    assert result['coco-wholebody/AP'] == pytest.approx(1)
    assert result['coco-wholebody/AR'] == pytest.approx(1)
    # the sigmas of the face are about a pixel here
    assert evaluate(dataset, 5)['coco-wholebody/AP'] < 0.3


def test_keypoints_are_inside_or_flagged(groups):
    for group in groups:
        height, width = group.image.shape[:2]
        for person in group.persons:
            x, y = person.keypoints.T
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            assert np.array_equal(inside, person.visibility != OUTSIDE)


def test_what_is_visible_is_on_the_figure(groups):
    # the outline's points lie on an edge: not of the face and the finger tips
    inner = [*range(5, 17), 53, 91, 112]
    for person in persons(groups):
        seen = [i for i in inner if person.visibility[i] == VISIBLE]
        x, y = person.keypoints[seen].astype(int).T
        assert person.mask[y, x].all()


def test_some_are_hidden_some_outside_and_all_parts_occur(groups):
    kinds = np.array([person.visibility for person in persons(groups)])
    for part, points in PARTS.items():
        for kind in (OUTSIDE, HIDDEN, VISIBLE):
            # faces stay in the picture
            if (part, kind) != ('face', OUTSIDE):
                assert (kinds[:, points] == kind).any()
    assert (kinds == VISIBLE).mean() > 0.5
    assert {len(group.persons) for group in groups} == {1, 2}
    # enough of each is seen to be found
    assert (kinds[:, PARTS['body']] == VISIBLE).sum(1).min() >= 6


def test_masks_boxes_and_flags_agree(annotations):
    for ann in annotations['annotations']:
        mask = coco_mask.decode(ann['segmentation'])
        ys, xs = mask.nonzero()
        x, y, w, h = ann['bbox']
        assert (x, y) == (xs.min(), ys.min())
        assert (x + w, y + h) == (xs.max() + 1, ys.max() + 1)
        assert ann['area'] == mask.sum()
        body = np.reshape(ann['keypoints'], (17, 3))
        assert ann['num_keypoints'] == (body[:, 2] > 0).sum()
        for part in ('foot', 'face', 'lefthand', 'righthand'):
            points = np.reshape(ann[f'{part}_kpts'], (-1, 3))
            labelled = points[:, 2] > 0
            assert ann[f'{part}_valid'] == labelled.any()
            assert not points[~labelled].any()
            if part != 'foot' and labelled.any():
                x, y, w, h = ann[f'{part}_box']
                assert np.allclose(points[labelled, :2].min(0), (x, y))
                assert np.allclose(points[labelled, :2].max(0), (x + w, y + h))


def test_left_and_right_are_those_of_mmpose(dataset):
    """Over many figures, a keypoint is as its partner in the mirror."""
    figures = [
        pose_figure(np.random.default_rng(i)).keypoints for i in range(400)
    ]
    mean = np.mean(figures, axis=0)
    mirrored = (mean * (-1, 1))[dataset.metainfo['flip_indices']]
    assert np.allclose(mean, mirrored, atol=0.02)
    # seen from the front: its left is on the right
    left_wrist, right_wrist = mean[9], mean[10]
    assert left_wrist[0] > 0.1 > -0.1 > right_wrist[0]
    assert mean[3, 0] > mean[1, 0] > mean[0, 0] > mean[2, 0] > mean[4, 0]
    # head, hips, knees, ankles: from the top to the bottom
    assert mean[0, 1] < mean[11, 1] < mean[13, 1] < mean[15, 1]


def test_an_image_depends_on_its_number_only(groups):
    few = MiniPose(num_val=2).make_split('val')
    other = MiniPose(num_val=2, seed=1).make_split('val')
    for a, b, c in zip(groups, few, other):
        assert np.array_equal(a.image, b.image)
        assert not np.array_equal(a.image, c.image)


@pytest.mark.parametrize('wrong, named', [(dict(num_val=0), 'num_val'),
                                          (dict(width=60), 'width'),
                                          (dict(height=400), '400')])
def test_impossible_settings_are_refused_by_name(wrong, named):
    with pytest.raises(ValueError, match=named):
        MiniPose(**wrong)
