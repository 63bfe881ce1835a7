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
from .onnx_forms import OnnxForm
from .record import Latency
from .subjects import (NO_DATA, PARTS, Loaded, Progress, show_progress,
                       validation_data)
from .tables import three_digits

FEWEST, USUAL, MOST = 7, 20, 100
# of each form; what the usual number of calls may take, slow as they are
SECONDS, MOST_SECONDS = 10, 60
LAST = 'channels last'


def _images(loaded: Sequence[Loaded],
            remark: Callable[[str], None]) -> list[dict | None]:
    """The first image that each form validates on; None where none is."""
    known: dict[str, dict | None] = {}
    for one in loaded:
        key = _data_of(one)
        if key in known:
            continue
        try:
            loader = validation_data(one.cfg, alone=True).loader
            known[key] = next(iter(loader))
        except NO_DATA as error:
            remark(f'{one.subject.name}: timed on an image of noise, since '
                   f'{error}')
            known[key] = None
    return [known[_data_of(one)] for one in loaded]


def _data_of(one: Loaded) -> str:
    return str([one.cfg.get(f'{part}_dataloader') for part in PARTS])


class _Timed:
    """One form, as it is timed: what it runs on what, and its parts.

    Args:
        model (nn.Module): The form.
        batch (dict): Preprocessed image.
        clock (Callable): Gives seconds.
    """

    def __init__(self, model: nn.Module, batch: dict,
                 clock: Callable[[], float]) -> None:
        self.batch = batch
        self.size = list(batch['inputs'][0].shape[-2:])
        self.parts = Parts(model, clock)
        self.rounds = self.parts.rounds

    def __call__(self) -> None:
        """Run it once."""
        self.parts.run(self.batch, 'predict')


class _TimedFile:
    """The same of a file on onnxruntime.

    Args:
        form (OnnxForm): The file.
        image (dict): Of one image, as a loader gives it.
        clock (Callable): Gives seconds.
    """

    def __init__(self, form: OnnxForm, image: dict,
                 clock: Callable[[], float]) -> None:
        self.size = list(
            form.model.data_preprocessor(copy.deepcopy(image),
                                         False)['inputs'][0].shape[-2:])
        self.session, self.clock = form.session, clock
        self.call = form.call_on(image)
        self.rounds: list[dict] = []

    def __call__(self) -> None:
        """Run it once."""
        before, start = self.session.seconds, self.clock()
        self.call()
        whole = self.clock() - start
        inside = self.session.seconds - before
        self.rounds.append(dict(onnxruntime=inside, rest=whole - inside))


def _channels_last(loaded: Loaded, batch: dict) -> tuple | None:
    """A float form in the other memory layout; None for other forms."""
    images = batch['inputs']
    if (loaded.subject.bits != 'float' or not isinstance(images, torch.Tensor)
            or images.dim() != 4):
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


def _measured(calls: dict[str, _Timed | _TimedFile], rounds: int | None,
              clock: Callable[[], float],
              progress: Progress) -> dict[str, list[float]]:
    """Seconds of each call, by name."""
    tried = interleaved(calls, 1, clock=clock)
    rounds = rounds or num_rounds(max(v[0] for v in tried.values()))
    for call in calls.values():
        call.rounds.clear()
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


def _latency(values: list[float], call: _Timed | _TimedFile,
             device: str) -> Latency:
    median = statistics.median(values)
    low, high = median_interval(values)
    parts = parts_of(call.rounds, median)
    return Latency(
        *(round(1000 * x, 4) for x in (median, low, high)),
        rounds=len(values),
        size=call.size,
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
    calls: dict[str, _Timed | _TimedFile] = {}
    for one, image in zip(loaded, _images(loaded, remark)):
        calls.update(_calls(one, image, clock, remark))
    names = [n for n in (o.subject.name for o in loaded) if n in calls]
    if not names:
        return {}
    scope = loaded[0].cfg.get('default_scope')
    with torch.no_grad(), DefaultScope.overwrite_default_scope(scope):
        seconds = _measured(calls, rounds, clock, progress)
    found = {
        name: _latency(values, calls[name], device)
        for name, values in seconds.items()
    }
    return {name: _faster(name, found, remark) for name in names}


def _calls(one: Loaded, image: dict | None, clock: Callable[[], float],
           remark: Callable[[str], None]) -> dict[str, _Timed | _TimedFile]:
    """What to time of a form, by name."""
    name = one.subject.name
    if one.onnx is not None:
        if image is None:
            remark(f'{name}: not timed, for want of an image')
            return {}
        return {name: _TimedFile(one.onnx, image, clock)}
    batch = noise_batch(
        one.cfg, one.model) if image is None else one.model.data_preprocessor(
            copy.deepcopy(image), False)
    # before the parts of the model are wrapped, which can't be copied
    other = _channels_last(one, batch)
    calls = {name: _Timed(one.model, batch, clock)}
    if other is not None:
        calls[f'{name}, {LAST}'] = _Timed(*other, clock)
    return calls


def _faster(name: str, found: dict[str, Latency],
            remark: Callable[[str], None]) -> Latency:
    plain, last = found[name], found.get(f'{name}, {LAST}')
    if last is None or last.median >= plain.median:
        return plain
    remark(f'{name}: timed in channels-last memory, in which it takes '
           f'{three_digits(last.median)} ms here, and '
           f'{three_digits(plain.median)} ms as it is')
    return last
