import pytest
from hooks.toy_runner import toy_runner
from mmengine.hooks import Hook
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
        # of the last checks, after the last iteration
        hub.update_info('iter', 101)
        assert training_progress() == 1
    finally:
        MessageHub._instance_dict.pop('test_progress')


def test_by_epoch_counts_whole_epochs_only():
    schedule = PiecewiseLinear([(0, 1.0), (1, 0.0)], by_epoch=True)
    hub = MessageHub.get_instance('test_by_epoch')
    try:
        assert schedule(0) == 1
        hub.update_info('max_epochs', 7)
        for epoch in range(7):
            hub.update_info('epoch', epoch)
            factors = [schedule((epoch + i / 9) / 7) for i in range(9)]
            assert factors == 9 * [pytest.approx(1 - epoch / 7)]
    finally:
        MessageHub._instance_dict.pop('test_by_epoch')


class FactorLog(Hook):
    """Notes a schedule's factor in each iteration."""

    def __init__(self):
        self.schedule = PiecewiseLinear([(0, 1.0), (1, 0.0)], by_epoch=True)
        self.factors = []

    def after_train_iter(self, runner, *args, **kwargs):
        self.factors.append(self.schedule(training_progress()))


def test_by_epoch_goes_on_after_a_resume(tmp_path):
    # 4 epochs of 4 iterations
    expected = [f for f in (1, 0.75, 0.5, 0.25) for _ in range(4)]
    first, second = FactorLog(), FactorLog()
    toy_runner(tmp_path, hooks=[first]).train()
    assert first.factors == pytest.approx(expected)
    toy_runner(
        tmp_path,
        hooks=[second],
        load_from=str(tmp_path / 'epoch_2.pth'),
        resume=True).train()
    assert second.factors == pytest.approx(expected[8:])
