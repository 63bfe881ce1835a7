import numpy as np
import pytest

from mmcompress.datasets.digits import (Material, draw_digit, draw_scene,
                                        load_material)


@pytest.fixture(scope='module')
def material():
    return load_material()


@pytest.fixture(scope='module')
def scenes(material):
    return [
        draw_scene(np.random.default_rng([5, i]), material['train'], 160, 128)
        for i in range(60)
    ]


def test_splits_share_no_digit_and_no_part_of_a_photo(material):
    train, val = material['train'], material['val']
    assert len(train.digits) + len(val.digits) == 1797
    assert not ({d.tobytes()
                 for d in train.digits} & {d.tobytes()
                                           for d in val.digits})
    for left, right in zip(train.photos, val.photos):
        assert left.shape[1] + right.shape[1] == 640
        # both are views of one photo, and lie side by side
        assert left.base is right.base
        assert left[0, -1].ctypes.data + 3 == right[0, 0].ctypes.data


def test_same_seed_same_scene(material, scenes):
    again = draw_scene(
        np.random.default_rng([5, 0]), material['train'], 160, 128)
    assert np.array_equal(again.image, scenes[0].image)
    assert again.labels == scenes[0].labels
    assert again.boxes == scenes[0].boxes
    assert not np.array_equal(scenes[0].image, scenes[1].image)


def test_boxes_are_inside_and_overlap_moderately(scenes):
    for scene in scenes:
        for i, (x1, y1, x2, y2) in enumerate(scene.boxes):
            assert 0 <= x1 < x2 <= 160 and 0 <= y1 < y2 <= 128
            for a1, b1, a2, b2 in scene.boxes[:i]:
                w, h = min(x2, a2) - max(x1, a1), min(y2, b2) - max(y1, b1)
                smaller = min((x2 - x1) * (y2 - y1), (a2 - a1) * (b2 - b1))
                assert max(w, 0) * max(h, 0) <= 0.2 * smaller


def test_all_classes_sizes_and_empty_images_occur(scenes):
    assert {label
            for scene in scenes
            for label in scene.labels} == {*range(10)}
    heights = [y2 - y1 for scene in scenes for _, y1, _, y2 in scene.boxes]
    assert min(heights) < 24 and max(heights) > 50
    counts = {len(scene.boxes) for scene in scenes}
    assert {0, 1, 5} < counts


def test_boxes_are_tight_around_the_ink(material):
    # on a black photo, every bright pixel is ink
    dark = Material(material['train'].digits, material['train'].labels,
                    [np.zeros((427, 416, 3), np.uint8)])
    for i in range(20):
        scene = draw_scene(
            np.random.default_rng(i), dark, 160, 128, max_digits=1, empty=0.0)
        x1, y1, x2, y2 = scene.boxes[0]
        brightest = scene.image.max(-1).astype(int)
        # noise has a standard deviation of at most 8
        outside = brightest.copy()
        outside[y1:y2, x1:x2] = 0
        assert outside.max() < 50
        inside = brightest[y1:y2, x1:x2]
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.max() > 0.35 * np.percentile(inside, 99)


def test_digits_are_brighter_than_the_brightest_photo(material):
    white = Material(material['train'].digits, material['train'].labels,
                     [np.full((427, 416, 3), 255, np.uint8)])
    for i in range(20):
        scene = draw_scene(
            np.random.default_rng(i), white, 160, 128, max_digits=1, empty=0.0)
        (x1, y1, x2, y2), = scene.boxes
        luma = scene.image @ [0.299, 0.587, 0.114]
        inside = np.percentile(luma[y1:y2, x1:x2], 90)
        assert inside > np.median(luma) + 40


def test_an_upright_digit_keeps_its_shape():
    digit = np.zeros((8, 8))
    digit[:, 2:6] = 1
    opacity = draw_digit(digit, height=40, aspect=1.0, angle=0.0, shear=0.0)
    assert opacity.shape == pytest.approx((40, 20), abs=3)
    assert opacity.min() >= 0 and opacity.max() == 1
    turned = draw_digit(digit, 40, 1.0, angle=np.pi / 2, shear=0.0)
    assert turned.shape == pytest.approx((20, 40), abs=3)
    wide = draw_digit(digit, 40, aspect=2.0, angle=0.0, shear=0.0)
    assert wide.shape == pytest.approx((40, 40), abs=3)
