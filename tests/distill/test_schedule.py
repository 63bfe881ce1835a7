import pytest
from mmengine.logging import MessageHub

from mmcompress.distill import PiecewiseLinear
from mmcompress.distill.schedule import training_progress


@pytest.mark.parametrize('progress, factor', [(0, 0), (0.05, 0.5), (0.1, 1),
                                              (0.55, 0.75), (1, 0.5)])
def test_is_straight_between_the_points(progress, factor):
    schedule = PiecewiseLinear([(0, 0.0), (0.1, 1.0), (1, 0.5)])
    assert schedule(progress) == pytest.approx(factor)


def test_is_constant_outside():
    schedule = PiecewiseLinear([(0.2, 2.0), (0.4, 1.0)])
    assert schedule(0) == 2 and schedule(1) == 1


@pytest.mark.parametrize('points', [[], [(0.5, 1), (0.5, 0)], [(1, 1),
                                                               (0, 0)]])
def test_rejects_points_out_of_order(points):
    with pytest.raises(ValueError, match='points'):
        PiecewiseLinear(points)


def test_progress_comes_from_the_message_hub():
    hub = MessageHub.get_instance('test_progress')
    try:
        assert training_progress() == 0
        hub.update_info('iter', 25)
        hub.update_info('max_iters', 100)
        assert training_progress() == 0.25
    finally:
        MessageHub._instance_dict.pop('test_progress')
