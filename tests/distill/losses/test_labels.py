import pytest
import torch
from golden.nkd import labelled
from mmdet.structures import DetDataSample
from mmpretrain.structures import DataSample

from mmcompress.distill.losses import NKDLoss, TfNKDLoss
from mmcompress.distill.losses.labels import class_targets

LOGITS = torch.zeros(2, 4)


def targets(data_samples):
    return class_targets(TfNKDLoss(), data_samples, LOGITS)


def test_a_class_is_its_index():
    samples = [DataSample().set_gt_label(label) for label in (3, 0)]
    assert targets(samples).tolist() == [3, 0]


def test_shares_of_mixed_images_stay_shares():
    shares = torch.tensor([[.7, 0, .3, 0], [0, 0, 0, 1.]])
    assert targets(labelled(shares)).equal(shares)
    # lambda and 1 - lambda, rounded
    assert targets(labelled(shares.half())).dtype == torch.half


def test_no_image_has_no_label():
    none = class_targets(TfNKDLoss(), [], LOGITS[:0])
    assert none.shape == (0, ) and none.dtype == torch.long


@pytest.mark.parametrize('label', [[1, 2], []])
def test_several_labels_of_an_image_are_refused(label):
    samples = [DataSample().set_gt_label(x) for x in (0, label)]
    with pytest.raises(
            ValueError, match="TfNKDLoss: gt_label.*not one class.*'sigmoid'"):
        targets(samples)


@pytest.mark.parametrize('row', [[1., 1, 0, 0], [0., 0, 0, 0], [2., -1, 0, 0]])
def test_multi_hot_labels_are_refused(row):
    scores = torch.tensor([[0, 0, 1., 0], row])
    total, smallest = sum(row), min(row)
    with pytest.raises(
            ValueError,
            match=f'up to {total:g}, with {smallest:g} as.*multi-label'):
        targets(labelled(scores))


@pytest.mark.parametrize('label', [4, -1])
def test_a_label_beyond_the_classes_is_named(label):
    with pytest.raises(
            ValueError, match=f'label {label} is none of the 4.*from 0 to 3'):
        targets(labelled(torch.tensor([0, label])))


def test_shares_of_other_classes_are_named():
    with pytest.raises(
            ValueError,
            match=r'gt_score of shapes \[\(5,\)\].*each of 4 classes'):
        targets(labelled(torch.eye(5)[:2]))


def test_there_is_a_label_for_each_image():
    with pytest.raises(ValueError, match='1 data samples and .* 2 images'):
        targets(labelled(torch.tensor([0])))
    with pytest.raises(TypeError, match='a list of data samples, got None'):
        targets(None)


def test_other_tasks_have_no_labels():
    mixed = labelled(torch.eye(4)[:1]) + labelled(torch.tensor([0]))
    with pytest.raises(ValueError, match=r'data samples \[1\] have no gt_sco'):
        targets(mixed)
    with pytest.raises(ValueError, match=r'\[0, 1\] have no gt_label'):
        NKDLoss()(LOGITS, LOGITS, [DetDataSample()] * 2)
