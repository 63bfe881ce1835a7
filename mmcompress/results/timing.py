"""How long the forms of a model take for one image, against each other."""
import copy
import statistics
from collections.abc import Callable, Sequence

import torch
import torch.nn as nn
from mmengine.registry import DefaultScope

from mmcompress.analysis.latency import Parts, parts_of
from mmcompress.analysis.timing import (device_clock, interleaved,
                                        keep_freed_memory, median_interval)
from mmcompress.deploy.forms import forms
from mmcompress.model.inputs import noise_batch
from .record import Latency
from .subjects import (NO_DATA, PARTS, Loaded, Progress, show_progress,
                       validation_data)

FEWEST, USUAL, MOST = 7, 20, 100
# of each form; what the usual number of calls may take, slow as they are
SECONDS, MOST_SECONDS = 10, 60
LAST = 'channels last'


def _batches(loaded: Sequence[Loaded], remark: Callable[[str],
                                                        None]) -> list[dict]:
    """The image for each form, preprocessed by it."""
    images: dict[str, dict] = {}
    batches = []
    for one in loaded:
        data = str([one.cfg.get(f'{part}_dataloader') for part in PARTS])
        try:
            if data not in images:
                loader = validation_data(one.cfg, alone=True).loader
                images[data] = next(iter(loader))
            image = copy.deepcopy(images[data])
        except NO_DATA as error:
            remark(f'{one.subject.name}: timed on an image of noise, since '
                   f'{error}')
            batch = noise_batch(one.cfg, one.model)
        else:
            batch = one.model.data_preprocessor(image, False)
        batches.append(batch)
    return batches


class _Timed:
    """One form, as it is timed: what it runs on what, and its parts.

    Args:
        loaded (Loaded): The form.
        model (nn.Module): It, maybe in another memory layout.
        batch (dict): Preprocessed image.
        clock (Callable): Gives seconds.
    """

    def __init__(self, loaded: Loaded, model: nn.Module, batch: dict,
                 clock: Callable[[], float]) -> None:
        self.batch = batch
        self.session = loaded.session
        # what onnxruntime computes has no parts that could be seen
        self.parts = Parts(nn.Module() if loaded.session else model, clock)
        self.parts.model = model

    def __call__(self) -> None:
        """Run it once."""
        before = self.session and self.session.seconds
        self.parts.run(self.batch, 'predict')
        if self.session:
            last = self.parts.rounds[-1]
            last['onnxruntime'] = self.session.seconds - before
            last['rest'] -= last['onnxruntime']


def _channels_last(loaded: Loaded, batch: dict) -> tuple | None:
    """A float form in the other memory layout; None for other forms."""
    images = batch['inputs']
    if (loaded.session or loaded.subject.bits != 'float'
            or not isinstance(images, torch.Tensor) or images.dim() != 4):
        return None
    model = forms(loaded.model)[f'float, {LAST}']
    images = images.contiguous(memory_format=torch.channels_last)
    return model, dict(batch, inputs=images)


def num_rounds(seconds: float) -> int:
    """How many calls of a form are timed, if one takes that long.

    Args:
        seconds (float): Of a call.

    Returns:
        int: 100, or as many as take ten seconds, but at least 20; of calls
        that are slower than three seconds, what a minute allows, and never
        less than 7, of which a median has an interval.
    """
    usual = max(USUAL, min(MOST, int(SECONDS / max(seconds, 1e-9))))
    return max(FEWEST, min(usual, int(MOST_SECONDS / max(seconds, 1e-9))))


def _measured(calls: dict[str, _Timed], rounds: int | None,
              clock: Callable[[], float],
              progress: Progress) -> dict[str, list[float]]:
    """Seconds of each call, by name."""
    tried = interleaved(calls, 1, clock=clock)
    rounds = rounds or num_rounds(max(v[0] for v in tried.values()))
    for call in calls.values():
        call.parts.rounds.clear()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    # as many as bring each form to each place once
    at_once = len(calls)
    chunks = [
        min(at_once, rounds - done) for done in range(0, rounds, at_once)
    ]
    for chunk in progress(chunks, f'latency, {rounds} rounds'):
        new = interleaved(calls, chunk, warm_up=0, clock=clock)
        for name, values in new.items():
            seconds[name] += values
    return seconds


def _latency(values: list[float], call: _Timed, device: str) -> Latency:
    median = statistics.median(values)
    low, high = median_interval(values)
    images = call.batch['inputs']
    parts = parts_of(call.parts.rounds, median)
    return Latency(
        *(round(1000 * x, 4) for x in (median, low, high)),
        rounds=len(values),
        batch=len(images),
        size=list(images[0].shape[-2:]),
        device=device,
        threads=torch.get_num_threads(),
        parts={
            k: round(1000 * v, 4)
            for k, v in parts.items()
        })


def time_forms(loaded: Sequence[Loaded],
               rounds: int | None = None,
               device: str = 'cpu',
               progress: Progress = show_progress,
               remark: Callable[[str], None] = print) -> dict[str, Latency]:
    """Time ``predict`` of forms on one image, in turn in one process.

    Preprocessing is not counted. A float form runs in both memory layouts;
    what counts is the faster one.

    Args:
        loaded (Sequence[Loaded]): The forms; their parts can not be copied
            afterwards.
        rounds (int | None): Calls of each; None for :func:`num_rounds` of
            the slowest.
        device (str): As for torch.
        progress (Callable): Wraps the rounds.
        remark (Callable): Takes sentences about how it was timed.

    Returns:
        dict[str, Latency]: By name of the form.
    """
    keep_freed_memory()
    clock = device_clock(device)
    calls: dict[str, _Timed] = {}
    for one, batch in zip(loaded, _batches(loaded, remark)):
        name = one.subject.name
        # before the parts of the model are wrapped, which can't be copied
        other = _channels_last(one, batch)
        calls[name] = _Timed(one, one.model, batch, clock)
        if other is not None:
            calls[f'{name}, {LAST}'] = _Timed(one, *other, clock)
    scope = loaded[0].cfg.get('default_scope')
    with torch.no_grad(), DefaultScope.overwrite_default_scope(scope):
        seconds = _measured(calls, rounds, clock, progress)
    found = {
        name: _latency(values, calls[name], device)
        for name, values in seconds.items()
    }
    return {
        one.subject.name: _faster(one.subject.name, found, remark)
        for one in loaded
    }


def _faster(name: str, found: dict[str, Latency],
            remark: Callable[[str], None]) -> Latency:
    plain, last = found[name], found.get(f'{name}, {LAST}')
    if last is None or last.median >= plain.median:
        return plain
    remark(f'{name}: timed in channels-last memory, in which it takes '
           f'{last.median:.3g} ms here, and {plain.median:.3g} ms as it is')
    return last
