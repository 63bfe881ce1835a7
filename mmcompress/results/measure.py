"""What is measured of the forms of a model, beside each other."""
import contextlib
import io
import math
from collections.abc import Callable, Sequence
from numbers import Real

import torch
from mmengine.registry import DefaultScope

from mmcompress.model.testing import measure
from mmcompress.ops import build_info
from .record import Form
from .subjects import (NO_DATA, Loaded, Progress, Subject, file_bytes, load,
                       num_weights, show_progress, validation_data)
from .timing import time_forms


def _numbers(metrics: dict) -> dict[str, float]:
    """The metrics that are numbers; evaluators add texts to copy."""
    return {
        key: float(value)
        for key, value in metrics.items()
        if isinstance(value, Real) and math.isfinite(value)
    }


def metrics_of(loaded: Loaded,
               remark: Callable[[str], None],
               progress: Progress = show_progress) -> dict[str, float]:
    """The metrics of a form on its config's validation data.

    Args:
        loaded (Loaded): The form.
        remark (Callable): Takes the sentence that says why there are none.
        progress (Callable): Wraps the data.

    Returns:
        dict[str, float]: By key, as the evaluator gives them.
    """
    name = loaded.subject.name
    try:
        data = validation_data(loaded.cfg)
    except NO_DATA as error:
        remark(f'{name}: no metric, since {error}')
        return {}
    # evaluators print tables of their own
    with contextlib.redirect_stdout(io.StringIO()):
        found = _numbers(
            measure(loaded.cfg, loaded.tester,
                    lambda batches: progress(batches, f'metric, {name}'),
                    data))  # yapf: disable
    if not found:
        remark(f'{name}: its evaluator found nothing to measure, such as no '
               'detection at all')
    return found


def measure_forms(subjects: Sequence[Subject],
                  metric: bool = True,
                  rounds: int | None = None,
                  device: str = 'cpu',
                  progress: Progress = show_progress,
                  remark: Callable[[str], None] = print) -> list[Form]:
    """Measure forms of a model: metric, size and latency.

    Args:
        subjects (Sequence[Subject]): The forms; the first one is what others
            are compared with.
        metric (bool): Whether to go through the validation data.
        rounds (int | None): Calls of each form that are timed; None for as
            many as :func:`mmcompress.results.timing.time_forms` chooses.
        device (str): As for torch.
        progress (Callable): Wraps what takes long, with what it is.
        remark (Callable): Takes sentences about what could not be measured.

    Returns:
        list[Form]: One for each subject.
    """
    loaded = [load(s, device, torch.get_num_threads()) for s in subjects]
    for one in loaded:
        reason = build_info()['reason'] if one.is_packed else ''
        if reason:
            remark(f'{one.subject.name}: slower than it has to be, since it '
                   f'runs without the compiled kernels: {reason}')
    metrics: list[dict[str, float]] = []
    for one in loaded:
        scope = one.cfg.get('default_scope')
        with DefaultScope.overwrite_default_scope(scope):
            metrics.append(metrics_of(one, remark, progress) if metric else {})
    weights = [(num_weights(one.model), file_bytes(one)) for one in loaded]
    latencies = time_forms(loaded, rounds, device, progress, remark)
    return [
        Form(subject.name, str(subject.config), str(subject.checkpoint),
             subject.bits, measured, parameters, size,
             latencies.get(subject.name))
        for subject, measured, (parameters,
                                size) in zip(subjects, metrics, weights)
    ]
