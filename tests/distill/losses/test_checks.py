import math

import pytest
import torch

from mmcompress.distill.distiller import Slot
from mmcompress.distill.losses import CWDLoss, KDLoss, MGDLoss, PKDLoss
from mmcompress.distill.losses.checks import check_images_first

# decoder layers, images, queries, classes
LAYERS = torch.zeros(6, 2, 7, 5)


def run(loss, student, teacher=None, num=2):
    """What a config's entry gives for a batch of so many images."""
    slot = Slot('loss_x', loss, ['student', 'teacher'],
                dict(student='head', teacher='head'))
    teacher = student if teacher is None else teacher
    return slot.run(
        dict(student=student, teacher=teacher, data_samples=[None] * num))


@pytest.mark.parametrize('loss', [KDLoss(), CWDLoss(), PKDLoss()])
@pytest.mark.parametrize('wrap', [lambda x: x, lambda x: [x, x]])
def test_images_on_the_second_axis_are_not_channels(loss, wrap):
    with pytest.raises(
            ValueError,
            match=r'losses.loss_x.*student yields \(6, 2, 7, 5\).*2 images'):
        run(loss, wrap(LAYERS))
    with pytest.raises(ValueError, match=r'teacher yields \(6, 2, 7, 5\)'):
        run(loss, wrap(LAYERS.transpose(0, 1)), wrap(LAYERS))


def test_an_axis_that_was_named_is_believed():
    assert run(KDLoss(class_axis=-1), LAYERS)['loss_x'] == 0
    assert run(KDLoss(activation='sigmoid'), LAYERS)['loss_x'] == 0


@pytest.mark.parametrize('shape', [(2, 2, 7, 5), (7, 3, 7, 5)])
def test_as_many_channels_as_images_and_rois_are_fine(shape):
    for loss in (KDLoss(), CWDLoss(), PKDLoss()):
        assert run(loss, torch.zeros(shape))['loss_x'] == 0


def test_in_a_batch_of_one_no_axis_is_taken_for_the_images():
    # three RoIs of one channel
    check_images_first('student', torch.zeros(3, 1, 5, 5), 1)
    with pytest.raises(ValueError, match='second axis'):
        check_images_first('student', torch.zeros(3, 2, 5, 5), 2)


def test_one_list_too_many_is_counted():
    level = torch.zeros(2, 4, 5, 5)
    with pytest.raises(
            TypeError, match=r'CWDLoss wants one tensor as student.*\[0\]'):
        run(CWDLoss(), [[level, level]], [level])
    with pytest.raises(TypeError, match=r'MGDLoss .* as student\[0\], got a '):
        run(MGDLoss(4, 4), [[level, level]], [level])
    with pytest.raises(ValueError, match=r"'student': 2, 'teacher': 1.*\[0\]"):
        run(CWDLoss(), [level, level], [level])
    with pytest.raises(ValueError, match=r"'student': 2, 'teacher': '\(2, 4,"):
        run(CWDLoss(), [level, level], level)


def test_no_level_at_all_is_an_error():
    with pytest.raises(ValueError, match="'student': 0, 'teacher': 0"):
        run(CWDLoss(), [], [])


def test_called_without_the_distiller_levels_are_still_a_list():
    level = torch.zeros(2, 4, 5, 5)
    with pytest.raises(TypeError, match='a list of tensors as student'):
        MGDLoss(4, 4)(level, [level])


def test_a_dict_of_taps_is_refused_where_one_is_wanted():
    with pytest.raises(TypeError, match=r"keys \['low'\]; give one tap"):
        run(CWDLoss(), dict(low=torch.zeros(2, 4, 5, 5)))


def test_nothing_is_zero_whatever_the_tensors_hold():
    loss = MGDLoss(2, 2)
    tensor = torch.full((2, 2), math.inf).half().requires_grad_()
    zero = loss.zero(tensor)
    zero.backward()
    assert zero == 0 and zero.dtype == torch.float32
    for x in (tensor, *loss.parameters()):
        assert x.grad is not None and not x.grad.any()
