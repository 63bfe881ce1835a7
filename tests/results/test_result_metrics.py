"""Metrics are written as people write them."""
import pytest
from results.examples import record

from mmcompress.results.metrics import common_metrics, describe, main_metric


@pytest.mark.parametrize('key, value, text', [
    ('coco/bbox_mAP', 0.4123, '41.2'),
    ('pascal_voc/mAP', 0.5, '50.0'),
    ('accuracy/top1', 92.75, '92.8'),
    ('mIoU', 49.36, '49.4'),
    ('coco/AP', 0.731, '73.1'),
    ('NME', 0.0345, '3.45'),
    ('my/metric', 0.12345, '0.123'),
    ('coco/bbox_mAP_s', -1.0, '-'),
    ('mIoU', None, '-'),
])
def test_fractions_are_percent_where_people_write_percent(key, value, text):
    assert describe(key).text(value) == text


def test_names_keep_what_the_key_says():
    assert describe('coco/bbox_mAP_75').name == 'box AP75'
    assert describe('accuracy/top5').name == 'top-5 %'


def test_a_difference_is_that_of_the_numbers_that_are_shown():
    metric = describe('coco/bbox_mAP')
    # -0.05 by itself
    assert metric.difference(0.4120, 0.4125) == '+0.0'
    assert metric.difference(0.4087, 0.4123) == '-0.3'
    assert metric.difference(None, 0.4) == '-'


def test_what_counts_comes_first():
    keys = ['aAcc', 'mIoU', 'mAcc']
    assert main_metric(dict.fromkeys(keys, 1.)) == 'mIoU'
    assert main_metric({}) == ''
    assert common_metrics(record().forms, 'coco/bbox_mAP')[:2] == [
        'coco/bbox_mAP', 'coco/bbox_mAP_50'
    ]


def test_only_errors_are_better_if_they_are_lower():
    assert not describe('EPE').higher_is_better
    assert describe('PCK').higher_is_better
