"""The forms of a model that are measured, as they are on disk."""
import contextlib
import copy
import io
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mmcompress.analysis.subject import build_subject
from mmcompress.deploy.onnx.network import Network
from mmcompress.deploy.onnx.session import Session
from mmcompress.lowbit import LowBitModule
from mmcompress.model.config import read_config
from mmcompress.model.testing import LabelledData, labelled_data

# whose data counts: what the user validates on
PARTS = ('val', 'test')
# what is raised where it isn't there
NO_DATA = (ValueError, FileNotFoundError, RuntimeError)
Progress = Callable[[Iterable, str], Iterable]


@dataclass(frozen=True)
class Subject:
    """One form of a model.

    Attributes:
        name (str): ``'float'``, ``'compressed'``, ``'packed'``, ``'onnx'``,
            or that of a control, as ``'student alone'``.
        config (str): Path or ``'mmdet::folder/name.py'``; of a packed form,
            its own.
        checkpoint (str): Path or URL.
        bits (str): Of weights and activations, as ``'w8a8'``; or
            ``'float'``.
        onnx (str | None): File that onnxruntime runs in place of the
            config's model.
    """
    name: str
    config: str
    checkpoint: str
    bits: str = 'float'
    onnx: str | None = None


@dataclass
class Loaded:
    """A form that can be run.

    Attributes:
        subject (Subject): What it is.
        cfg (Config): Whole config.
        model (nn.Module): In eval mode; with a file of ONNX, that computes
            inside of it.
        session (TimedSession | None): Which then does so.
    """
    subject: Subject
    cfg: Config
    model: nn.Module
    session: 'TimedSession | None' = None


class TimedSession:
    """A network on onnxruntime that notes how long it computes.

    Args:
        path (str): Of the file.
        threads (int): How many.

    Attributes:
        seconds (float): Of all calls so far.
    """

    def __init__(self, path: str, threads: int) -> None:
        self.session = Session(path, threads=threads)
        self.seconds = 0.0

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Compute the outputs of preprocessed images, shape (1, 3, H, W)."""
        start = time.perf_counter()
        outs = self.session(images)
        self.seconds += time.perf_counter() - start
        return outs


def show_progress(items: Iterable, what: str) -> Iterable:
    """A bar on standard error, drawn between items and not beside them.

    Args:
        items (Iterable): What to go through.
        what (str): Said in front.
    """
    return track(
        items, what, console=Console(file=sys.stderr), auto_refresh=False)


def run_by_onnx(model: nn.Module, path: str, threads: int) -> TimedSession:
    """Let onnxruntime compute what a file holds of a model.

    Args:
        model (nn.Module): Whose network was exported; changed.
        path (str): Of the file.
        threads (int): How many.

    Raises:
        ValueError: If it is no file of ours.
    """
    from mmcompress.deploy.onnx.metadata import read_metadata
    size = read_metadata(path).get('input', {}).get('size')
    if size is None:
        raise ValueError(f'{path} does not say for which size of images it '
                         'was written: tools/deploy/export_onnx.py writes it')
    session = TimedSession(path, threads)
    Network(model, tuple(size)).run_by(session)
    return session


def load(subject: Subject, device: str = 'cpu', threads: int = 1) -> Loaded:
    """Build what a form is, with its weights.

    Args:
        subject (Subject): The form.
        device (str): As for torch; onnxruntime takes the processor.
        threads (int): Of onnxruntime.
    """
    cfg = read_config(subject.config)
    model = build_subject(cfg, subject.checkpoint)
    if subject.onnx is None:
        return Loaded(subject, cfg, model.to(device))
    return Loaded(subject, cfg, model, run_by_onnx(model, subject.onnx,
                                                   threads))


def state_dict_bytes(weights: Mapping[str, Tensor]) -> int:
    """Bytes of a file with weights and nothing else.

    Args:
        weights (Mapping): State dict.
    """
    file = io.BytesIO()
    torch.save(dict(state_dict=dict(weights)), file)
    return file.tell()


def validation_data(cfg: Config, alone: bool = False) -> LabelledData:
    """What a user validates on.

    Args:
        cfg (Config): Whole config.
        alone (bool): One image at a time, in this process.

    Raises:
        FileNotFoundError: If there are no files where the config says.
        ValueError: If it has no metric, or several data sets.
        RuntimeError: If the data can not be loaded.
    """
    if alone:
        cfg = copy.deepcopy(cfg)
        for part in PARTS:
            loader = cfg.get(f'{part}_dataloader')
            if isinstance(loader, dict):
                loader.update(
                    batch_size=1, num_workers=0, persistent_workers=False)
                loader.pop('prefetch_factor', None)
    # readers of annotations tell on standard output how far they are
    with contextlib.redirect_stdout(io.StringIO()):
        return labelled_data(cfg, PARTS)


def num_weights(model: nn.Module) -> int:
    """How many weights a model has, however they are stored.

    Args:
        model (nn.Module): Float, in training, pruned or packed.
    """
    return (sum(p.numel() for p in model.parameters()) +
            sum(m.num_packed_weights() for m in model.modules()
                if isinstance(m, LowBitModule)))  # yapf: disable


def file_bytes(loaded: Loaded) -> int:
    """Bytes of a file that holds the weights and nothing else.

    Args:
        loaded (Loaded): Of what is packed or exported, it is its own file;
            of others their state dict alone.
    """
    subject = loaded.subject
    if subject.onnx is not None:
        # large ones have their weights beside them
        beside = Path(f'{subject.onnx}.data')
        return sum(p.stat().st_size for p in (Path(subject.onnx), beside)
                   if p.is_file())  # yapf: disable
    if any(m.num_packed_weights() for m in loaded.model.modules()
           if isinstance(m, LowBitModule)):  # yapf: disable
        return Path(subject.checkpoint).stat().st_size
    return state_dict_bytes(loaded.model.state_dict())
