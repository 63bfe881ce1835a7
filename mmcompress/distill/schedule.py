"""Weights of losses that change over training."""
from mmengine.logging import MessageHub

from mmcompress.registry import SCHEDULES


def training_progress(unit: str = 'iter') -> float:
    """Share of the training that is done, in [0, 1].

    It comes from what mmengine's RuntimeInfoHook notes in the message hub, so
    it is right after a resume. Without a runner it is 0.

    Args:
        unit (str): ``'iter'``, or ``'epoch'`` to count only whole epochs;
            that stays 0 in a training that counts iterations.
    """
    hub = MessageHub.get_current_instance()
    length = hub.get_info(f'max_{unit}s', 0)
    return min(hub.get_info(unit, 0) / length, 1.0) if length else 0.0


@SCHEDULES.register_module()
class PiecewiseLinear:
    """A factor that goes through given points, straight in between.

    ``points=[(0, 0.0), (0.1, 1.0)]`` warms up over the first tenth of the
    training; ``points=[(0, 1.0), (1, 0.0)]`` decays to zero.

    Args:
        points (list[tuple[float, float]]): Pairs of progress in [0, 1] and
            factor, in increasing order of progress. Constant outside.
        by_epoch (bool): Whether the factor stays the same within an epoch.

    Raises:
        ValueError: If there is no point or they are not in order.
    """

    def __init__(self,
                 points: list[tuple[float, float]],
                 by_epoch: bool = False) -> None:
        starts = [start for start, _ in points]
        if not points or any(a >= b for a, b in zip(starts, starts[1:])):
            raise ValueError('PiecewiseLinear: points must be pairs (progress,'
                             f' factor) in increasing order, got {points}')
        self.points = points
        self.by_epoch = by_epoch

    def __call__(self, progress: float) -> float:
        """Factor at a progress in [0, 1]."""
        if self.by_epoch:
            # not from `progress`, which rounding may put an epoch too early
            progress = training_progress('epoch')
        before = self.points[0]
        if progress <= before[0]:
            return before[1]
        for point in self.points[1:]:
            if progress <= point[0]:
                share = (progress - before[0]) / (point[0] - before[0])
                return before[1] + share * (point[1] - before[1])
            before = point
        return before[1]


@SCHEDULES.register_module()
class IterWarmup:
    """A factor that grows from 0 to 1 over the first iterations.

    It counts iterations, not progress, so it stays as short in a longer
    training. In the first iteration it is 0; without a runner, too.

    Args:
        num_iters (int): When it reaches 1.

    Raises:
        ValueError: If ``num_iters`` is not positive.
    """

    def __init__(self, num_iters: int) -> None:
        if num_iters <= 0:
            raise ValueError('IterWarmup: num_iters must be positive, got '
                             f'{num_iters}')
        self.num_iters = num_iters

    def __call__(self, progress: float) -> float:
        """Factor at the runner's current iteration."""
        done = MessageHub.get_current_instance().get_info('iter', 0)
        return min(done / self.num_iters, 1.0)
