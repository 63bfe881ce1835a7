"""Time a network and its parts."""
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import torch
import torch.nn as nn


class Parts:
    """Times the parts of a model while it runs.

    The parts are the children of the model, such as ``backbone`` and
    ``roi_head``, each from entering its ``forward`` or ``predict`` to leaving
    it.

    Args:
        model (nn.Module): Its children get wrapped methods; it cannot be
            copied afterwards.
        clock (Callable): Gives seconds.

    Attributes:
        rounds (list[dict]): Seconds by part, one entry per :meth:`run`.
        num_boxes (int | None): Proposals that the last run gave to a RoI
            head.
    """

    def __init__(self, model: nn.Module, clock: Callable[[], float]) -> None:
        self.model = model
        self.clock = clock
        self.rounds: list[dict] = []
        self.num_boxes = None
        self.inside = False
        for name, child in model.named_children():
            for method in ('forward', 'predict'):
                # a container has neither
                if hasattr(child, method) and name != 'data_preprocessor':
                    setattr(child, method,
                            self._timed(name, getattr(child, method)))

    def _timed(self, name: str, method: Callable) -> Callable:

        def timed(*args, **kwargs):
            if self.inside:
                return method(*args, **kwargs)
            if name == 'roi_head' and len(args) > 1:
                self.num_boxes = sum(len(boxes) for boxes in args[1])
            self.inside = True
            start = self.clock()
            try:
                return method(*args, **kwargs)
            finally:
                self.rounds[-1][name] += self.clock() - start
                self.inside = False

        return timed

    def run(self, batch: dict, mode: str) -> None:
        """Run the model once.

        Args:
            batch (dict): Preprocessed inputs.
            mode (str): Of the model's forward.
        """
        self.rounds.append(defaultdict(float))
        start = self.clock()
        self.model(**batch, mode=mode)
        spent = self.clock() - start
        self.rounds[-1]['rest'] = spent - sum(self.rounds[-1].values())


def medians_of_parts(rounds: list[dict]) -> dict[str, float]:
    """Seconds of each part of a model, medians over rounds."""
    return {
        name: statistics.median(one.get(name, 0.0) for one in rounds)
        for name in rounds[0]
    }


def parts_of(rounds: list[dict], total: float) -> dict[str, float]:
    """Seconds of each part of a model, which add up to those of the whole.

    Medians of parts don't add up to the median of their sums by themselves.

    Args:
        rounds (list[dict]): Seconds by part, of each round.
        total (float): Median of the whole.
    """
    medians = medians_of_parts(rounds)
    return {
        name: seconds * total / sum(medians.values())
        for name, seconds in medians.items()
    }


def clock_of(kind: str) -> Callable[[], float]:
    """What measures seconds.

    Args:
        kind (str): ``'wall'``; or ``'cpu'``, the time that this thread ran,
            for one thread on a machine that others use too.

    Raises:
        ValueError: If there are more threads.
    """
    if kind == 'wall':
        return time.perf_counter
    if torch.get_num_threads() > 1:
        raise ValueError('CPU time is that of one thread; use --threads 1, or '
                         '--clock wall')
    return time.thread_time
